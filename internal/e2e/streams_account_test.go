package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"nowcast/internal/e2e/feed"
)

// account checks what a viewer of one site receives, over any number of connections, against the feed. It
// counts final seconds only.
type account struct {
	site  string
	truth interface {
		Truth(site string, at int64) feed.Counts
		Span(site string, from, to int64) feed.Counts
	}

	filter filter // of a filtered stream, whose frames have no seconds
	span   int64  // seconds between two frames of a filtered stream; 0: a frame for each change

	began      int64 // second of the first snapshot's id
	lastSecond int64 // newest final second received
	id         string
	received   feed.Counts // since began
	frames     int
	merged     int // frames of several seconds
	skipped    int // as the frames say
	resumed    int
	faults     []string
}

func (a *account) fault(format string, args ...any) {
	if len(a.faults) < 5 {
		a.faults = append(a.faults, a.site+": "+fmt.Sprintf(format, args...))
	}
}

// parseID parses an id: epoch-second-revision, and two more parts where several sites share a connection.
// The second must not decrease.
func (a *account) parseID(id string) (at int64, ok bool) {
	parts := strings.Split(id, "-")
	if len(parts) != 3 && len(parts) != 5 {
		a.fault("an id of %d parts: %q", len(parts), id)
		return 0, false
	}
	at, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || parts[0] != "1" {
		a.fault("an id that is none: %q", id)
		return 0, false
	}
	if a.id != "" && at < a.lastSecond {
		a.fault("id %s after %s goes back", id, a.id)
	}
	a.id = id
	return at, true
}

// add checks an event.
func (a *account) add(f frame) {
	a.frames++
	a.skipped += f.Skipped
	switch {
	case f.event == "reset":
		a.fault("reset, though the id %s is seconds old", a.id)
		return
	case a.filter.dimension != "":
		a.addFiltered(f)
		return
	}
	switch f.event {
	case "snapshot":
		a.addSnapshot(f)
	case "":
		a.addFrame(f)
	}
}

// addSnapshot checks a snapshot. On the first connection it has the last five minutes, on a later one
// exactly the seconds after the id of the request.
func (a *account) addSnapshot(f frame) {
	first, after := a.id == "", a.lastSecond
	at, ok := a.parseID(f.id)
	if !ok {
		return
	}
	if first {
		a.began, a.lastSecond, after = at, at, at-300
	} else {
		a.resumed++
	}
	seen := map[int64]bool{}
	for _, s := range f.Seconds {
		sec := s.At.Unix()
		if !s.Final {
			continue
		}
		switch {
		case sec <= after || sec > at:
			a.fault("snapshot %s after %d has second %d", f.id, after, sec)
		case seen[sec]:
			a.fault("snapshot %s has second %d twice", f.id, sec)
		}
		seen[sec] = true
		a.compare(s, sec, sec)
		if !first {
			a.received.Add(s.counts())
		}
	}
	for sec := after + 1; sec <= at; sec++ {
		if !seen[sec] && a.truth.Truth(a.site, sec).Events > 0 {
			a.fault("snapshot %s after %d leaves out second %d", f.id, after, sec)
		}
	}
	a.lastSecond = at
}

// addFrame checks a frame: its final second is the one after the last, or it merges several from there on. A
// provisional second isn't counted.
func (a *account) addFrame(f frame) {
	at, ok := a.parseID(f.id)
	if !ok {
		return
	}
	if f.Second == nil || !f.Second.Final {
		if at != a.lastSecond {
			a.fault("frame %s has no final second, and the last one was %d", f.id, a.lastSecond)
		}
		return
	}
	from, to := f.Second.At.Unix(), f.Second.At.Unix()
	if !f.Second.From.IsZero() {
		from, to = f.Second.From.Unix(), f.Second.To.Unix()
		a.merged++
	}
	switch {
	case to != at:
		a.fault("frame %s ends with second %d", f.id, to)
	case from > a.lastSecond+1:
		a.fault("frame %s leaves out seconds %d to %d", f.id, a.lastSecond+1, from-1)
	case from <= a.lastSecond:
		a.fault("frame %s gives second %d again", f.id, from)
	}
	a.compare(*f.Second, from, to)
	a.received.Add(f.Second.counts())
	a.lastSecond = at
}

func (s second) counts() feed.Counts {
	return feed.Counts{Pageviews: uint32(s.Pageviews), Visitors: uint32(s.Visitors), Events: uint32(s.Events)}
}

// compare checks the counts of a span of seconds.
func (a *account) compare(s second, from, to int64) {
	got := s.counts()
	if want := a.truth.Span(a.site, from, to); got != want {
		a.fault("seconds %d to %d: given %+v, the topic has %+v", from, to, got, want)
	}
}

// compareTotal checks the sum over all connections.
func (a *account) compareTotal() {
	if a.filter.dimension != "" {
		return
	}
	if want := a.truth.Span(a.site, a.began+1, a.lastSecond); a.received != want && a.id != "" {
		a.fault("in all from second %d to %d: given %+v, the topic has %+v", a.began+1, a.lastSecond,
			a.received, want)
	}
}

// filter is a value of a dimension, with the range of its visitors in any second.
type filter struct {
	dimension, value string
	least, most      uint32
	exact            bool // a frame may not call the number an upper bound
}

// addFiltered checks an event of a filtered stream. Its frames have no seconds, but follow each other
// without a gap that isn't counted as skipped.
func (a *account) addFiltered(f frame) {
	first, before := a.id == "", a.lastSecond
	at, ok := a.parseID(f.id)
	if !ok {
		return
	}
	a.lastSecond = at
	switch n := uint32(f.Visitors); {
	case f.Second != nil || len(f.Seconds) > 0 || len(f.Now.Pages) > 0:
		a.fault("a filtered frame %s has seconds or lists", f.id)
	case f.Filter[a.filter.dimension] != a.filter.value || len(f.Filter) != 1:
		a.fault("a frame %s of %v, which wasn't asked for", f.id, f.Filter)
	case n < a.filter.least || n > a.filter.most || f.AtMost == a.filter.exact:
		a.fault("frame %s says %d visitors (upper bound: %v), there are %d to %d", f.id, n, f.AtMost,
			a.filter.least, a.filter.most)
	}
	switch {
	case f.event == "snapshot" && first:
		a.began = at
	case f.event == "snapshot":
		a.resumed++
	case a.span > 0:
		if due := (before+1)/a.span*a.span - 1 + a.span*int64(1+f.Skipped); at != due {
			a.fault("frame %s after second %d with %d skipped should be of second %d", f.id, before,
				f.Skipped, due)
		}
		if f.Skipped > 0 {
			a.merged++
		}
	}
}

// ones has one of everything in each second, and nothing in every tenth.
type ones struct{}

func (ones) Truth(_ string, at int64) feed.Counts {
	if at%10 == 0 {
		return feed.Counts{}
	}
	return feed.Counts{Pageviews: 1, Visitors: 1, Events: 1}
}

func (o ones) Span(site string, from, to int64) (c feed.Counts) {
	for at := from; at <= to; at++ {
		c.Add(o.Truth(site, at))
	}
	return c
}

// An account notices each way in which a stream can be wrong.
func TestAccount(t *testing.T) {
	sec := func(from, to int64, n int) *second {
		s := &second{At: time.Unix(to, 0), Pageviews: n, Visitors: n, Events: n, Final: true}
		if from < to {
			s.From, s.To = time.Unix(from, 0), s.At
		}
		return s
	}
	fr := func(id string, s *second) frame { return frame{id: id, Second: s} }
	snap := func(id string, seconds ...int64) frame {
		f := frame{event: "snapshot", id: id}
		for _, at := range seconds {
			f.Seconds = append(f.Seconds, *sec(at, at, 1))
		}
		return f
	}
	filtered := func(id, event string, visitors, skipped int) frame {
		return frame{id: id, event: event, Visitors: visitors, Skipped: skipped,
			Filter: map[string]string{"page": "/x"}}
	}
	var last []int64
	for at := int64(1001 - 300); at <= 1000; at++ {
		if at%10 != 0 {
			last = append(last, at)
		}
	}
	begin, next := snap("1-1000-0", last...), fr("1-1001-0", sec(1001, 1001, 1))
	for _, c := range []struct {
		name   string
		frames []frame
		fault  string
	}{
		{"as it should be", []frame{begin, next, fr("1-1001-5", nil), fr("1-1004-0", sec(1002, 1004, 3)),
			snap("1-1012-0", 1005, 1006, 1007, 1008, 1009, 1011, 1012)}, ""},
		{"resumed at one that is behind", []frame{begin, next, snap("1-1001-0"),
			fr("1-1002-0", sec(1002, 1002, 1))}, ""},
		{"a second is left out", []frame{begin, fr("1-1002-0", sec(1002, 1002, 1))},
			"leaves out seconds 1001 to 1001"},
		{"a second is doubled", []frame{begin, next, next}, "gives second 1001 again"},
		{"a merged frame overlaps", []frame{begin, next, fr("1-1003-0", sec(1001, 1003, 3))},
			"gives second 1001 again"},
		{"a merged frame lacks a second's counts", []frame{begin, fr("1-1003-0", sec(1001, 1003, 2))},
			"seconds 1001 to 1003: given"},
		{"counts differ", []frame{begin, fr("1-1001-0", sec(1001, 1001, 2))}, "seconds 1001 to 1001: given"},
		{"a silent second has counts", []frame{begin, fr("1-1010-0", sec(1001, 1010, 10))},
			"seconds 1001 to 1010: given"},
		{"a gap beside a snapshot", []frame{begin, next, snap("1-1003-0", 1003)}, "leaves out second 1002"},
		{"a snapshot gives what was given", []frame{begin, next, snap("1-1002-0", 1001, 1002)},
			"has second 1001"},
		{"a snapshot gives one twice", []frame{begin, snap("1-1001-0", 1001, 1001)}, "second 1001 twice"},
		{"the first snapshot lacks one", []frame{snap("1-1000-0", last[1:]...)}, "leaves out second 701"},
		{"ids go back", []frame{begin, next, fr("1-1000-0", nil)}, "goes back"},
		{"an id is ahead of what was given", []frame{begin, fr("1-1001-0", nil)}, "has no final second"},
		{"another epoch", []frame{begin, fr("2-1001-0", sec(1001, 1001, 1))}, "an id that is none"},
		{"no id", []frame{begin, fr("", sec(1001, 1001, 1))}, "parts"},
		{"reset", []frame{begin, {event: "reset"}}, "reset"},
		{"filtered", []frame{filtered("1-1000-0", "snapshot", 5, 0), filtered("1-1004-0", "", 5, 0),
			filtered("1-1019-0", "", 6, 2), filtered("1-1022-0", "snapshot", 6, 0),
			filtered("1-1024-0", "", 6, 0)}, ""},
		{"filtered, a frame is left out", []frame{filtered("1-1000-0", "snapshot", 5, 0),
			filtered("1-1009-0", "", 5, 0)}, "should be of second 1004"},
		{"filtered, more skipped than there are", []frame{filtered("1-1000-0", "snapshot", 5, 0),
			filtered("1-1004-0", "", 5, 1)}, "should be of second 1009"},
		{"filtered, other numbers", []frame{filtered("1-1000-0", "snapshot", 7, 0)}, "there are 5 to 6"},
		{"filtered, another value", []frame{{id: "1-1000-0", event: "snapshot", Visitors: 5,
			Filter: map[string]string{"page": "/y"}}}, "wasn't asked for"},
		{"filtered, with seconds", []frame{begin}, "has seconds"},
	} {
		a := account{site: "a.example", truth: ones{}}
		if strings.HasPrefix(c.name, "filtered") {
			a.filter, a.span = filter{"page", "/x", 5, 6, true}, 5
		}
		for _, f := range c.frames {
			a.add(f)
		}
		a.compareTotal()
		if faults := strings.Join(a.faults, "; "); (c.fault == "") != (faults == "") ||
			!strings.Contains(faults, c.fault) {
			t.Errorf("%s: faults %q, want %q", c.name, faults, c.fault)
		}
	}
}
