package imports

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Sums that don't fit leave early; readers add the rows of a key up.
func TestBoundedSums(t *testing.T) {
	total, blocks := map[string]uint64{}, 0
	a := newAdder(func(s Sum) error {
		total[s.Value] += s.Counts[Visits]
		blocks++
		return nil
	})
	a.limit = 3
	for i := range 100 {
		s := Sum{Day: 20_000, Dim: "event:page", Value: fmt.Sprint(i % 7)}
		s.set(Visits, 1)
		if _, err := a.add(s); err != nil || len(a.held) > 3 {
			t.Fatal(len(a.held), err)
		}
	}
	if err := a.flush(); err != nil || fmt.Sprint(total) != "map[0:15 1:15 2:14 3:14 4:14 5:14 6:14]" ||
		blocks < 20 {
		t.Errorf("%v in %d: %v", total, blocks, err)
	}
}

// Hits may have any order while they fit. When they don't, the oldest days are closed, a hit of a closed day
// is refused, and so is a day that doesn't fit at all.
func TestBoundedHits(t *testing.T) {
	var sums []Sum
	world := func(limit int) (*days, func(day, second int, visitor uint64) error) {
		sums = nil
		a := newAdder(func(s Sum) error { sums = append(sums, s); return nil })
		d := newDays(time.UTC, a)
		d.limit = limit
		return d, func(day, second int, visitor uint64) error {
			at := time.Date(2025, 1, day, 0, 0, second, 0, time.UTC)
			return d.add(hit{at: at, visitor: visitor, path: "/"})
		}
	}
	d, add := world(4)
	for day := 1; day <= 4; day++ {
		if err := add(day, 0, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(5, 0, 1); err != nil || d.held != 3 || len(d.open) != 3 {
		t.Errorf("%d hits are held: %v", d.held, err)
	}
	if err := add(2, 0, 1); err == nil || !strings.Contains(err.Error(), "sort the files by time") {
		t.Errorf("a hit of a closed day: %v", err)
	}
	_, add = world(2)
	for i := range 2 {
		if err := add(1, i, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(1, 3, 1); !errors.Is(err, errManyHits) {
		t.Errorf("a day that is too large: %v", err)
	}
	d, add = world(100)
	for _, s := range []int{3600, 0, 1801, 1, 3601} { // 0, 1 | 1801 | 3600 is 1799 s later, 3601
		if err := add(1, s, 7); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if err := d.sums.flush(); err != nil || sums[0].Counts != [metrics]uint64{1, 2, 5, 5, 0, 1_801_000} {
		t.Errorf("%+v %v", sums[0], err)
	}
}

// A visit of one page view is a bounce, unless it has a custom event. What it is of is that of its first hit.
func TestBounces(t *testing.T) {
	for _, x := range []struct {
		events string // of one visit: v is a page view, c a custom event
		want   [metrics]uint64
	}{
		{"v", [metrics]uint64{1, 1, 1, 1, 1, 0}}, {"vv", [metrics]uint64{1, 1, 2, 2, 0, 1000}},
		{"vc", [metrics]uint64{1, 1, 1, 2, 0, 1000}}, {"c", [metrics]uint64{1, 1, 0, 1, 0, 0}},
	} {
		var sums []Sum
		d := newDays(time.UTC, newAdder(func(s Sum) error { sums = append(sums, s); return nil }))
		for i, e := range x.events {
			h := hit{at: time.Unix(1_735_725_600+int64(i), 0), visitor: 1, path: "/"}
			if h.Source = fmt.Sprint(i); e == 'c' {
				h.name = "Signup"
			}
			if err := d.add(h); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(d.close(), d.sums.flush()); err != nil || sums[0].Counts != x.want {
			t.Errorf("%s: %v, want %v: %v", x.events, sums[0].Counts, x.want, err)
		}
		for _, s := range sums {
			if s.Dim == "visit:source" && s.Value != "0" {
				t.Errorf("%s: a visit of %+v", x.events, s)
			}
		}
	}
}
