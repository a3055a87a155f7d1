package history

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"nowcast/streamer/api"
)

// Queries without an answer keep their slots until Timeout. Whether another one runs depends on its
// principal and on the slots that are taken.
func TestAdmission(t *testing.T) {
	q := Query{Metrics: []Metric{Events}, DateRange: DateRange{Name: "day"}}
	for _, c := range []struct {
		name    string
		running string // a letter for each query's principal; - is the public
		by      string
		after   time.Duration
		want    string
	}{
		{"its own slots are taken", "aa", "a", time.Second, "2 queries of this key are running already"},
		{"the public's slots are taken", "--", "-", time.Second,
			"2 queries without a key are running already"},
		{"another's slots are taken", "aa", "b", 0, ""},
		{"the public's slots are taken, it has a key", "--", "b", 0, ""},
		{"an address has half of the public's slots", "1", "1", time.Second,
			"1 queries without a key from your address"},
		{"another address has the other half", "1", "2", 0, ""},
		{"addresses together have the public's slots", "12", "3", time.Second,
			"2 queries without a key are running already"},
		{"addresses take the public's slots, it has a key", "12", "b", 0, ""},
		{"all slots are taken", "aab", "c", time.Second, "too many queries are running; try again"},
		{"all slots are taken, its own too", "abb", "b", time.Second, "2 queries of this key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				db := &silent{}
				e := newEngine(t, db, Config{Timeout: time.Hour, Threads: 1, Concurrent: 3, PerPrincipal: 2})
				ends := make(chan error)
				run := func(p api.Principal) {
					go func() {
						_, err := e.Run(ctx, p, Site{}, q)
						ends <- err
					}()
					synctest.Wait()
				}
				for _, letter := range c.running {
					run(named(letter))
				}
				start := time.Now()
				run(named(rune(c.by[0])))
				remaining := len(c.running)
				if c.want != "" {
					var busy *Busy
					if err := <-ends; !errors.As(err, &busy) || len(err.Error()) < len(c.want) ||
						err.Error()[:len(c.want)] != c.want ||
						time.Since(start) != c.after {
						t.Errorf("got %v after %v, want %q after %v", err, time.Since(start), c.want, c.after)
					}
				} else {
					remaining++
				}
				if n := db.running.Load(); n != int64(remaining) {
					t.Errorf("%d statements run, want %d", n, remaining)
				}
				cancel()
				for range remaining {
					<-ends
				}
			})
		})
	}
}

// A free slot goes to the first query of the queue that may run, a full queue refuses at once, and cancelled
// queries leave nothing behind.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := admission{limit: 2, perPrincipal: 1, timeout: time.Minute}
		for _, letter := range "ab" {
			if err := a.acquire(t.Context(), named(letter)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string, 8)
		for i, letter := range "aaaacb" {
			go func() { got <- fmt.Sprint(i, string(letter), a.acquire(ctx, named(letter))) }()
			synctest.Wait()
		}
		var busy *Busy
		if start, err := time.Now(), a.acquire(ctx, named('a')); !errors.As(err, &busy) ||
			time.Since(start) != 0 {
			t.Errorf(
				"the fifth of a in the queue: got %v after %v, want *Busy at once", err, time.Since(start),
			)
		}
		a.release(named('b'))
		if s := <-got; s != "4c<nil>" {
			t.Errorf("b's slot went to %s, want c's, since a has one", s)
		}
		a.release(named('a'))
		if s := <-got; s != "0a<nil>" {
			t.Errorf("a's slot went to %s, want a's first", s)
		}
		cancel()
		for range 4 {
			if s := <-got; s[2:] != "context canceled" {
				t.Errorf("a cancelled query got %s", s)
			}
		}
		a.release(named('a'))
		a.release(named('c'))
		if a.running != 0 || len(a.counts) != 0 || len(a.queue) != 0 {
			t.Errorf("left behind: %d, %v, %d", a.running, a.counts, len(a.queue))
		}
	})
}

// named is the principal of a letter; that of - is the public, that of a digit the public at an address.
func named(letter rune) api.Principal {
	if '0' <= letter && letter <= '9' {
		return api.Principal{Kind: api.Public, ID: "192.0.2." + string(letter) + "/32"}
	}
	if letter == '-' {
		return public
	}
	return api.Principal{Kind: api.KeyPrincipal, ID: string(letter)}
}
