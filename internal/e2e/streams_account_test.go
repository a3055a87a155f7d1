package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"nowcast/internal/e2e/feed"
)

// account is what one viewer of one site was given over any number of connections, held against what has happened. Only final seconds are booked.
type account struct {
	site  string
	truth interface { // a feed
		Truth(site string, at int64) feed.Counts
		Span(site string, from, to int64) feed.Counts
	}

	filter filter // a stream of one value's visitors, without seconds
	span   int64  // seconds a frame of such a stream; 0: on change

	began, given int64 // the id of the first snapshot, and the newest final second booked
	id           string
	got          feed.Counts // since began
	frames       int
	merged       int // frames with more seconds than one
	skipped      int // as the frames say
	resumed      int
	faults       []string
}

func (a *account) fault(format string, args ...any) {
	if len(a.faults) < 5 {
		a.faults = append(a.faults, a.site+": "+fmt.Sprintf(format, args...))
	}
}

// identify reads an id: epoch-second-revision, and where several sites share a connection two parts more. The second never goes back.
func (a *account) identify(id string) (at int64, ok bool) {
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
	if a.id != "" && at < a.given {
		a.fault("id %s after %s goes back", id, a.id)
	}
	a.id = id
	return at, true
}

// take books one event.
func (a *account) take(f frame) {
	a.frames++
	a.skipped += f.Skipped
	switch {
	case f.event == "reset":
		a.fault("reset, though the id %s is seconds old", a.id)
		return
	case a.filter.dimension != "":
		a.narrow(f)
		return
	}
	switch f.event {
	case "snapshot":
		a.snapshot(f)
	case "":
		a.frame(f)
	}
}

// snapshot has, on the first connection, the last five minutes, and on a later one exactly the seconds after the id that it was asked for.
func (a *account) snapshot(f frame) {
	first, after := a.id == "", a.given
	at, ok := a.identify(f.id)
	if !ok {
		return
	}
	if first {
		a.began, a.given, after = at, at, at-300
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
			a.book(s)
		}
	}
	for sec := after + 1; sec <= at; sec++ {
		if !seen[sec] && a.truth.Truth(a.site, sec).Events > 0 {
			a.fault("snapshot %s after %d leaves out second %d", f.id, after, sec)
		}
	}
	a.given = at
}

// frame brings the second after the last one, or several in one. What is still open isn't booked.
func (a *account) frame(f frame) {
	at, ok := a.identify(f.id)
	if !ok {
		return
	}
	if f.Second == nil || !f.Second.Final {
		if at != a.given {
			a.fault("frame %s has no final second, and the last one was %d", f.id, a.given)
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
	case from > a.given+1:
		a.fault("frame %s leaves out seconds %d to %d", f.id, a.given+1, from-1)
	case from <= a.given:
		a.fault("frame %s gives second %d again", f.id, from)
	}
	a.compare(*f.Second, from, to)
	a.book(*f.Second)
	a.given = at
}

func (a *account) book(s second) {
	a.got.Add(feed.Counts{Pageviews: uint32(s.Pageviews), Visitors: uint32(s.Visitors), Events: uint32(s.Events)})
}

func (a *account) compare(s second, from, to int64) {
	got := feed.Counts{Pageviews: uint32(s.Pageviews), Visitors: uint32(s.Visitors), Events: uint32(s.Events)}
	if want := a.truth.Span(a.site, from, to); got != want {
		a.fault("seconds %d to %d: given %+v, the topic has %+v", from, to, got, want)
	}
}

// settle compares the sums over the whole span.
func (a *account) settle() {
	if a.filter.dimension != "" {
		return
	}
	if want := a.truth.Span(a.site, a.began+1, a.given); a.got != want && a.id != "" {
		a.fault("in all from second %d to %d: given %+v, the topic has %+v", a.began+1, a.given, a.got, want)
	}
}

// filter is one value of a dimension, and between what its visitors are in any second.
type filter struct {
	dimension, value string
	least, most      uint32
	exact            bool
}

// narrow books an event of a filtered stream: its frames have no seconds, but leave none out either, and say how many were skipped.
func (a *account) narrow(f frame) {
	first, before := a.id == "", a.given
	at, ok := a.identify(f.id)
	if !ok {
		return
	}
	a.given = at
	switch n := uint32(f.Visitors); {
	case f.Second != nil || len(f.Seconds) > 0 || len(f.Now.Pages) > 0:
		a.fault("a filtered frame %s has seconds or lists", f.id)
	case f.Filter[a.filter.dimension] != a.filter.value || len(f.Filter) != 1:
		a.fault("a frame %s of %v, which wasn't asked for", f.id, f.Filter)
	case n < a.filter.least || n > a.filter.most || f.AtMost == a.filter.exact:
		a.fault("frame %s says %d visitors (upper bound: %v), there are %d to %d", f.id, n, f.AtMost, a.filter.least, a.filter.most)
	}
	switch {
	case f.event == "snapshot" && first:
		a.began = at
	case f.event == "snapshot":
		a.resumed++
	case a.span > 0:
		if due := (before+1)/a.span*a.span - 1 + a.span*int64(1+f.Skipped); at != due {
			a.fault("frame %s after second %d with %d skipped should be of second %d", f.id, before, f.Skipped, due)
		}
		if f.Skipped > 0 {
			a.merged++
		}
	}
}

// ones is a truth in which each second has one of everything but those that divide by ten.
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

// The account sees each way in which a stream can be wrong.
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
	of := func(id, event string, visitors, skipped int) frame {
		return frame{id: id, event: event, Visitors: visitors, Skipped: skipped, Filter: map[string]string{"page": "/x"}}
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
		{"as it should be", []frame{begin, next, fr("1-1001-5", nil), fr("1-1004-0", sec(1002, 1004, 3)), snap("1-1012-0", 1005, 1006, 1007, 1008, 1009, 1011, 1012)}, ""},
		{"resumed at one that is behind", []frame{begin, next, snap("1-1001-0"), fr("1-1002-0", sec(1002, 1002, 1))}, ""},
		{"a second is left out", []frame{begin, fr("1-1002-0", sec(1002, 1002, 1))}, "leaves out seconds 1001 to 1001"},
		{"a second is doubled", []frame{begin, next, next}, "gives second 1001 again"},
		{"a merged frame overlaps", []frame{begin, next, fr("1-1003-0", sec(1001, 1003, 3))}, "gives second 1001 again"},
		{"a merged frame lacks a second's counts", []frame{begin, fr("1-1003-0", sec(1001, 1003, 2))}, "seconds 1001 to 1003: given"},
		{"counts differ", []frame{begin, fr("1-1001-0", sec(1001, 1001, 2))}, "seconds 1001 to 1001: given"},
		{"a silent second has counts", []frame{begin, fr("1-1010-0", sec(1001, 1010, 10))}, "seconds 1001 to 1010: given"},
		{"a gap beside a snapshot", []frame{begin, next, snap("1-1003-0", 1003)}, "leaves out second 1002"},
		{"a snapshot gives what was given", []frame{begin, next, snap("1-1002-0", 1001, 1002)}, "has second 1001"},
		{"a snapshot gives one twice", []frame{begin, snap("1-1001-0", 1001, 1001)}, "second 1001 twice"},
		{"the first snapshot lacks one", []frame{snap("1-1000-0", last[1:]...)}, "leaves out second 701"},
		{"ids go back", []frame{begin, next, fr("1-1000-0", nil)}, "goes back"},
		{"an id is ahead of what was given", []frame{begin, fr("1-1001-0", nil)}, "has no final second"},
		{"another epoch", []frame{begin, fr("2-1001-0", sec(1001, 1001, 1))}, "an id that is none"},
		{"no id", []frame{begin, fr("", sec(1001, 1001, 1))}, "parts"},
		{"reset", []frame{begin, {event: "reset"}}, "reset"},
		{"filtered", []frame{of("1-1000-0", "snapshot", 5, 0), of("1-1004-0", "", 5, 0), of("1-1019-0", "", 6, 2), of("1-1022-0", "snapshot", 6, 0), of("1-1024-0", "", 6, 0)}, ""},
		{"filtered, a frame is left out", []frame{of("1-1000-0", "snapshot", 5, 0), of("1-1009-0", "", 5, 0)}, "should be of second 1004"},
		{"filtered, more skipped than there are", []frame{of("1-1000-0", "snapshot", 5, 0), of("1-1004-0", "", 5, 1)}, "should be of second 1009"},
		{"filtered, other numbers", []frame{of("1-1000-0", "snapshot", 7, 0)}, "there are 5 to 6"},
		{"filtered, another value", []frame{{id: "1-1000-0", event: "snapshot", Visitors: 5, Filter: map[string]string{"page": "/y"}}}, "wasn't asked for"},
		{"filtered, with seconds", []frame{begin}, "has seconds"},
	} {
		a := account{site: "a.example", truth: ones{}}
		if strings.HasPrefix(c.name, "filtered") {
			a.filter, a.span = filter{"page", "/x", 5, 6, true}, 5
		}
		for _, f := range c.frames {
			a.take(f)
		}
		a.settle()
		if faults := strings.Join(a.faults, "; "); (c.fault == "") != (faults == "") || !strings.Contains(faults, c.fault) {
			t.Errorf("%s: faults %q, want %q", c.name, faults, c.fault)
		}
	}
}
