package fold

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"nowcast/internal/event"
)

var shrinkFor = flag.Duration("shrink", 10*time.Second, "how long to shrink a history that fails")

// shrunk returns the smallest trial found that fails in the same way. It leaves out steps, envelopes and
// events until the time is over.
func (t *trial) shrunk(err error) string {
	least, err := t.shrink(err, time.Now().Add(*shrinkFor))
	return least.String() + "which ends with\n  " + err.Error()
}

func (t *trial) shrink(err error, until time.Time) (*trial, error) {
	least := *t
	fails := func(c trial) bool {
		if time.Now().After(until) {
			return false
		}
		failure := c.run(&tally{})
		if failure == nil || kind(failure) != kind(err) {
			return false
		}
		least, err = c, failure
		return true
	}
	size := func() int { return len(least.script) + len(least.log) + events(least.log) }
	for before := 0; before != size(); {
		before = size()
		fewer(least.log, func(log []Envelope) bool {
			c, script := least, least.script
			c.log = log
			if fails(c) {
				return true
			}
			// Steps that read the removed envelopes may have to read fewer.
			for i := range script[:min(len(script), 16)] {
				if less := script[i].n - len(least.log) + len(log); script[i].what == reads && less > 0 {
					c.script = slices.Clone(script)
					c.script[i].n = less
					if fails(c) {
						return true
					}
				}
			}
			return false
		})
		fewer(least.script, func(script []step) bool { c := least; c.script = script; return fails(c) })
		for i := 0; i < len(least.log); i++ {
			fewer(least.log[i].Events, func(events []event.Event) bool {
				c := least
				c.log = slices.Clone(c.log)
				c.log[i].Events = events
				return fails(c)
			})
		}
	}
	return &least, err
}

// kind returns the number of the broken invariant.
func kind(err error) string {
	kind, _, _ := strings.Cut(err.Error(), ":")
	return kind
}

// fewer removes as much from a list as it can.
func fewer[T any](list []T, fails func([]T) bool) {
	for n := len(list); n > 0; n /= 2 {
		for i := 0; i+n <= len(list); {
			if c := slices.Delete(slices.Clone(list), i, i+n); fails(c) {
				list = c
			} else {
				i += n
			}
		}
	}
}

func events(log []Envelope) (n int) {
	for i := range log {
		n += len(log[i].Events)
	}
	return n
}

// String returns a readable trial: times are in ms since its start, nodes and ids have small numbers.
func (t *trial) String() string {
	const most = 80
	var b strings.Builder
	fmt.Fprintf(&b, "%d envelopes with %d events, %d steps; warm-up %d, pace %d, rules %+v\n", len(t.log),
		events(t.log), len(t.script), t.warmUp, t.pace, t.rules)
	nodes := map[uint64]int{}
	for i := range t.log[:min(len(t.log), most)] {
		e := &t.log[i]
		if _, known := nodes[e.Header.Node]; !known {
			nodes[e.Header.Node] = len(nodes) + 1
		}
		fmt.Fprintf(&b, "  %d: node %d #%d at %d low %d", i, nodes[e.Header.Node], e.Header.Sequence,
			e.Time-start, e.Header.Low-start)
		if e.Header.CloseMarker {
			b.WriteString(" closes")
		}
		for j := range e.Events {
			x := &e.Events[j]
			fmt.Fprintf(&b, "  {%s of %d", x.Kind, x.Visitor)
			if x.PreviousVisitor != 0 {
				fmt.Fprintf(&b, " was %d", x.PreviousVisitor)
			}
			fmt.Fprintf(&b, " on %s%s at %d", x.Site, x.Path, x.Time-start)
			if x.Source != "" {
				b.WriteString(" from " + x.Source)
			}
			if x.HasID {
				fmt.Fprintf(&b, " id %d", int(x.ID[0])+int(x.ID[1])<<8)
			}
			b.WriteString("}")
		}
		b.WriteString("\n")
	}
	if len(t.log) > most {
		b.WriteString("  …\n")
	}
	for i := range t.script[:min(len(t.script), most)] {
		b.WriteString("  " + t.script[i].String() + "\n")
	}
	if len(t.script) > most {
		b.WriteString("  …\n")
	}
	return b.String()
}

func (s step) String() string {
	who := fmt.Sprint("zombie ", s.who-lanes)
	if s.who < lanes {
		who = [...]string{"windows lane", "store lane"}[s.who]
	}
	switch s.what {
	case writes:
		how := map[int]string{refused: "refused", unanswered: "done, unanswered", underWay: "under way"}[s.n]
		if how == "" {
			how = "acknowledged"
		}
		return who + " writes: " + how
	case reads, collects:
		return fmt.Sprint(who, " ", s.what, " ", s.n)
	case lands:
		return fmt.Sprint("a write lands ", s.n)
	case retention:
		return "retention"
	}
	return fmt.Sprint(who, " ", s.what)
}

// TestShrink checks that a failure is shrunk to a readable trial that still fails.
func TestShrink(t *testing.T) {
	each(t, 2, func(seed uint64) error {
		big := newTrial(seed)
		big.early, big.log = true, big.log[:500]
		err := big.run(&tally{})
		if err == nil {
			return nil
		}
		small, err := big.shrink(err, time.Now().Add(time.Minute))
		if again := small.run(&tally{}); kind(again) != "8" || again.Error() != err.Error() {
			return fmt.Errorf("shrunk to what ends with %v, not with %w", again, err)
		}
		if len(small.log) > 4 || events(small.log) > 2 || len(small.script) > 6 {
			return fmt.Errorf("not small:\n%s", small)
		}
		return nil
	})
}
