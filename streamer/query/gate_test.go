package query

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Questions that nobody answers keep their places until Timeout; what becomes of the others, by who asks and what is taken.
func TestPlaces(t *testing.T) {
	q := Request{Metrics: []Metric{Events}, DateRange: DateRange{Name: "day"}}
	for _, c := range []struct {
		name   string
		inside []Asker // in that order
		by     Asker
		after  time.Duration
		want   string
	}{
		{"its own are taken", []Asker{"a", "a"}, "a", time.Second, "2 queries of this key are running already"},
		{"the public's are taken", []Asker{"", ""}, "", time.Second, "2 queries without a key are running already"},
		{"another's are taken", []Asker{"a", "a"}, "b", 0, ""},
		{"the public's are taken, it has a key", []Asker{"", ""}, "b", 0, ""},
		{"all are taken", []Asker{"a", "a", "b"}, "c", time.Second, "too many queries are running; try again"},
		{"all are taken, its own too", []Asker{"a", "b", "b"}, "b", time.Second, "2 queries of this key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				d := &deaf{}
				e := New(d, Config{Timeout: time.Hour, Threads: 1, Most: 3, Each: 2})
				ends := make(chan error)
				run := func(by Asker) {
					go func() {
						_, err := e.Run(ctx, by, Site{}, q)
						ends <- err
					}()
					synctest.Wait()
				}
				for _, by := range c.inside {
					run(by)
				}
				start := time.Now()
				run(c.by)
				left := len(c.inside)
				if c.want != "" {
					var busy *Busy
					if err := <-ends; !errors.As(err, &busy) || len(err.Error()) < len(c.want) || err.Error()[:len(c.want)] != c.want || time.Since(start) != c.after {
						t.Errorf("got %v after %v, want %q after %v", err, time.Since(start), c.want, c.after)
					}
				} else {
					left++
				}
				if n := d.asked.Load(); n != int64(left) {
					t.Errorf("%d statements run, want %d", n, left)
				}
				cancel()
				for range left {
					<-ends
				}
			})
		})
	}
}

// A place that becomes free goes to the first in line that may have it, a full line refuses at once, and who goes leaves nothing behind.
func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate{most: 2, each: 1, wait: time.Minute}
		for _, by := range []Asker{"a", "b"} {
			if err := g.enter(t.Context(), by); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string, 8)
		for i, by := range []Asker{"a", "a", "a", "a", "c", "b"} {
			go func() { got <- fmt.Sprint(i, by, g.enter(ctx, by)) }()
			synctest.Wait()
		}
		var busy *Busy
		if start, err := time.Now(), g.enter(ctx, "a"); !errors.As(err, &busy) || time.Since(start) != 0 {
			t.Errorf("the fifth of a in line: got %v after %v, want *Busy at once", err, time.Since(start))
		}
		g.leave("b")
		if s := <-got; s != "4c<nil>" {
			t.Errorf("b's place went to %s, want c's, since a has one", s)
		}
		g.leave("a")
		if s := <-got; s != "0a<nil>" {
			t.Errorf("a's place went to %s, want a's first", s)
		}
		cancel()
		for range 4 {
			if s := <-got; s[2:] != "context canceled" {
				t.Errorf("who went got %s", s)
			}
		}
		g.leave("a")
		g.leave("c")
		if g.inside != 0 || len(g.of) != 0 || len(g.line) != 0 {
			t.Errorf("left behind: %d, %v, %d", g.inside, g.of, len(g.line))
		}
	})
}
