package board

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nowcast/internal/window"
)

// clock makes emissions as aggregators do, a second a partition, on simulated time.
type clock struct {
	b   *Board
	at  int64 // newest second that is over
	now time.Time
}

func newClock(partitions int) *clock {
	c := &clock{b: New(partitions), at: T, now: time.Unix(T, 0)}
	c.b.now = func() time.Time { return c.now }
	return c
}

// tick lets a second pass, in which each of the partitions has n events at every site.
func (c *clock) tick(n uint32, sites int, partitions ...int) {
	c.now = c.now.Add(time.Second)
	c.at++
	for _, p := range partitions {
		c.emit(p, c.at, n, sites)
	}
}

func (c *clock) emit(p int, at int64, n uint32, sites int) {
	e := emission(at, at)
	for i := range sites {
		if n > 0 {
			e.Seconds = append(e.Seconds, second(fmt.Sprint("site", i), at, n, true, at))
		}
	}
	c.b.Apply(p, at, e)
}

// held is the number of seconds and changes that the board keeps of all sites.
func held(b *Board) (n int) {
	for _, s := range b.sites {
		n += len(s.seconds)
		for i := range s.active {
			n += len(s.active[i].changes) + len(s.lists[i].changes)
		}
	}
	for i := range b.partitions {
		n += len(b.partitions[i].advances) + len(b.partitions[i].absent)
	}
	return n
}

// One of four partitions is silent for a day while the others go on. The board's memory stays bounded, the
// seconds of the others become final and say that they are incomplete, and the partition's return doubles
// and misses nothing.
func TestPartitionSilentForADay(t *testing.T) {
	const sites, day = 3, 24 * 3600
	c := newClock(4)
	v := c.b.Watch("site0")
	defer v.Unwatch()
	for range 400 {
		c.tick(1, sites, 0, 1, 2, 3)
	}
	before, silentSince := held(c.b), c.at
	for i := range int64(day) {
		c.tick(1, sites, 0, 1, 2)
		switch faults := c.b.Faults(); {
		case i < maxBehindSeconds && len(faults) > 0:
			t.Fatalf("missing after %d s: %v", i, faults)
		case i > maxBehindSeconds+int64(missingGrace/time.Second)+2 && c.b.LastFinal() != c.at:
			t.Fatalf("after %d s of silence the newest final second is %d s old", i, c.at-c.b.LastFinal())
		}
		if i%3600 == 0 && held(c.b) > 2*before {
			t.Fatalf("after %d s of silence %d values are held, before %d", i, held(c.b), before)
		}
	}
	want := []Fault{{Partition: 3, Missing: true, Watermark: (silentSince + 1) * 1000, Epoch: -1}}
	if faults := c.b.Faults(); !reflect.DeepEqual(faults, want) {
		t.Fatalf("%+v", faults)
	}
	if view := v.Latest(); !view.Incomplete || view.ActiveVisitors != 3 {
		t.Errorf("%+v", view)
	}
	if n := c.b.IncompleteSeconds(); n != day {
		t.Errorf("%d seconds are counted as incomplete", n)
	}
	// The aggregator of the partition is back and reads what it has missed.
	shown := v.Seconds(c.at-SnapshotSeconds, c.at)
	for at := silentSince + 1; at <= c.at; at++ {
		c.emit(3, at, 5, sites)
	}
	lastIncomplete := c.at
	if again := v.Seconds(c.at-SnapshotSeconds, c.at); !reflect.DeepEqual(shown, again) {
		t.Error("final seconds changed")
	}
	for range 10 {
		c.tick(1, sites, 0, 1, 2)
		if c.b.LastFinal() == c.at {
			t.Fatal("a second is final before the partition that is back has passed it")
		}
		c.emit(3, c.at, 5, sites)
		if c.b.LastFinal() != c.at {
			t.Fatal("a second that all partitions have passed isn't final")
		}
	}
	if view := v.Latest(); view.Incomplete || view.ActiveVisitors != 8 || len(c.b.Faults()) > 0 {
		t.Errorf("%+v %v", view, c.b.Faults())
	}
	for _, s := range v.Seconds(c.at-SnapshotSeconds, c.at) {
		want := Second{At: s.At, Pageviews: 3, Visitors: 3, Events: 3, Revision: 6, Final: true,
			Incomplete: true}
		if s.At > lastIncomplete {
			want = Second{At: s.At, Pageviews: 8, Visitors: 8, Events: 8, Revision: 12, Final: true}
		}
		if s != want {
			t.Fatalf("%+v, want %+v", s, want)
		}
	}
}

// A quiet partition whose watermark moves isn't missing. Neither is one for which an hour of the log passes
// at once, as after a machine slept, and which is read a moment later than the others.
func TestQuietAndLatePartitions(t *testing.T) {
	c := newClock(2)
	for range 1000 {
		c.tick(1, 1, 0)
		c.emit(1, c.at, 0, 1)
	}
	c.at += 3600
	c.tick(1, 1, 0)
	c.now = c.now.Add(missingGrace - 2*time.Second)
	c.tick(1, 1, 0)
	for at := c.at - 3600; at <= c.at; at++ {
		c.emit(1, at, 1, 1)
	}
	c.tick(1, 1, 0, 1)
	if faults := c.b.Faults(); len(faults) > 0 || c.b.IncompleteSeconds() > 0 || c.b.LastFinal() != c.at {
		t.Errorf("%v, %d incomplete", faults, c.b.IncompleteSeconds())
	}
}

// A streamer that starts while a partition is silent goes on without it after caughtUpGrace. Where nothing is
// on the log yet it waits for each partition's first emission.
func TestStartWithSilentPartition(t *testing.T) {
	c := newClock(3)
	for at := int64(T - 300); at <= T; at++ { // the part of the log that is read at the start
		c.emit(0, at, 1, 1)
	}
	for at := int64(T - 300); at <= T; at++ {
		c.emit(1, at, 1, 1)
	}
	c.b.CaughtUp()
	for range int(caughtUpGrace/time.Second) - 1 {
		if c.tick(1, 1, 0, 1); c.b.LastFinal() != 0 {
			t.Fatal("a second is final before the grace is over")
		}
	}
	c.tick(1, 1, 0, 1)
	if c.tick(1, 1, 0, 1); c.b.LastFinal() != c.at {
		t.Errorf("the newest final second is %d, want %d", c.b.LastFinal(), c.at)
	}
	fresh := newClock(2)
	fresh.b.CaughtUp()
	for range maxBehindSeconds + 30 {
		if fresh.tick(1, 1, 0); fresh.b.LastFinal() != 0 {
			t.Fatal("a second is final before the partition's first emission")
		}
	}
	if fresh.emit(1, fresh.at, 1, 1); fresh.b.LastFinal() != fresh.at {
		t.Error("the first second isn't final")
	}
}

// Partitions fall silent and come back at random. Each second becomes final once, in order; a complete one
// has the rows of all partitions, and no final second ever changes.
func TestSilenceIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)) //nolint:gosec // a test's history
		const parts = 3
		c := newClock(parts)
		v := c.b.Watch("site0")
		defer v.Unwatch()
		var sent [parts]int64 // newest second that the partition has emitted
		var silent [parts]int // seconds that its silence still lasts
		for p := range sent {
			sent[p] = T
		}
		shown, through := map[int64]Second{}, int64(0)
		for range 1000 {
			c.now = c.now.Add(time.Second)
			c.at++
			for p := range parts {
				if silent[p] > 0 {
					silent[p]--
					continue
				}
				for n := 0; sent[p] < c.at && n < 4; n++ { // it catches up at four times real time
					sent[p]++
					c.emit(p, sent[p], uint32(p+1), 1)
				}
				if r.IntN(150) == 0 {
					silent[p] = r.IntN(300)
				}
			}
			final := c.b.LastFinal()
			if final < through {
				t.Fatal("the newest final second went back")
			}
			for _, s := range v.Seconds(final-SnapshotSeconds, final) {
				if old, ok := shown[s.At]; ok && old != s {
					t.Fatalf("a final second changed: %+v, then %+v", old, s)
				}
				if !s.Incomplete && s.Events != 1+2+3 {
					t.Fatalf("a complete second lacks events: %+v", s)
				}
				shown[s.At] = s
			}
			through = final
			// In missingGrace the newest partition may catch up by four seconds a second.
			most := maxBehindSeconds + 4*int64(missingGrace/time.Second) + 4
			if behind := slices.Max(sent[:]) - final; behind > most {
				t.Fatalf("the newest final second is %d s behind", behind)
			}
			if n := held(c.b); n > 8000 {
				t.Fatalf("%d values are held", n)
			}
		}
	})
}

// An emission of another epoch doesn't count, and is told of until the partition sends one of this epoch.
func TestOtherEpochIsAFault(t *testing.T) {
	b := New(2)
	b.Apply(0, 1, emission(1, T, second("x", T, 1, true, 1)))
	for _, epoch := range []uint32{window.Epoch + 1, 0} {
		e := emission(2, T+1, second("x", T+1, 1, true, 2))
		e.Epoch = epoch
		b.Apply(1, 2, e)
		want := []Fault{{Partition: 1, Epoch: int64(epoch)}}
		if faults := b.Faults(); !reflect.DeepEqual(faults, want) {
			t.Errorf("epoch %d: %+v", epoch, faults)
		}
	}
	b.Apply(1, 3, emission(3, T, second("x", T, 1, true, 3)))
	if faults := b.Faults(); len(faults) > 0 || b.LastFinal() != T {
		t.Errorf("%+v", faults)
	}
}
