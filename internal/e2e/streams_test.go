package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/e2e/feed"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

var (
	streamViewers = flag.Int("stream-viewers", 200, "how many connections TestStreams follows")
	streamSpan    = flag.Duration("stream-span", 20*time.Second, "for how long")
	streamWalls   = flag.Bool("stream-walls", true, "some connections follow several sites")
)

// Viewers of several sites, with all rates and reading speeds, close their connections and resume at either
// replica, while the replicas are killed and stopped in turn. Each viewer receives every second once, and
// the sum is that of the windows topic. In the middle third of the time no replica is restarted, so that
// slow readers fall behind and frames say how many were skipped.
func TestStreams(t *testing.T) {
	sites := []feed.Site{{Domain: "busy.example.com", Values: 10},
		{Domain: "broad.example.com", Values: 100}, {Domain: "plain.example.com"},
		{Domain: "silent.example.com", Quiet: true}}
	w := startStreams(t, 2, 60, sites)
	r := rand.New(rand.NewPCG(*chaosSeed, 6))
	ctx, cancel := context.WithTimeout(t.Context(), *streamSpan)
	defer cancel()
	var counts viewerCounts
	var all sync.WaitGroup
	viewers := make([]*viewer, *streamViewers)
	for i := range viewers {
		viewers[i] = newViewer(w, r, sites, &counts)
		all.Go(func() { viewers[i].follow(ctx) })
	}
	restarts := 0
	calmFrom, calmTo := time.Now().Add(*streamSpan/3), time.Now().Add(*streamSpan*2/3)
	for n := 0; ctx.Err() == nil; n++ {
		if time.Now().After(calmFrom) {
			_ = retry.Sleep(ctx, time.Until(calmTo))
		}
		if retry.Sleep(ctx, 2*time.Second+time.Duration(r.Int64N(int64(2*time.Second)))) != nil {
			continue
		}
		if rest, _ := ctx.Deadline(); time.Until(rest) < 3*time.Second {
			break // in the last seconds the viewers that were cut off resume
		}
		kill, term := syscall.SIGKILL, syscall.SIGTERM
		w.replicas[n%2].restart(t, []syscall.Signal{kill, kill, term, term}[n%4])
		restarts++
	}
	all.Wait()
	final := w.feed.Final()
	w.checkTopic(t, final)
	judge(t, viewers, final)
	t.Logf("%d viewers, %d connections of which %d were cut by a streamer, %d restarts, %d events",
		len(viewers), counts.opened.Load(), counts.dropped.Load(), restarts, counts.frames.Load())
	if restarts < 2 || counts.dropped.Load() == 0 {
		t.Error("no restart cut anybody off: that proves nothing")
	}
}

func newViewer(w *streams, r *rand.Rand, sites []feed.Site, counts *viewerCounts) *viewer {
	v := &viewer{w: w, random: rand.New(rand.NewPCG(r.Uint64(), 1)), counts: counts, key: w.key,
		rate: []string{"100ms", "250ms", "1s", "1s", "1s", "5s", "30s"}[r.IntN(7)],
		top:  []int{0, 10, 100}[r.IntN(3)],
		stay: time.Duration(2+r.IntN(15)) * time.Second, browser: r.IntN(2) == 0,
		replica:  r.IntN(len(w.replicas)),
		accounts: map[string]*account{}}
	if r.IntN(5) == 0 {
		v.readRate, v.top, v.stay = 1024<<r.IntN(4), 100, 2*time.Minute // a snapshot may take half a minute
	}
	n := 1
	if *streamWalls && r.IntN(5) == 0 {
		n = 2 + r.IntN(2)
	}
	for _, i := range r.Perm(len(sites))[:n] {
		v.sites = append(v.sites, sites[i].Domain)
		v.accounts[sites[i].Domain] = &account{site: sites[i].Domain, truth: w.feed}
	}
	if n == 1 && r.IntN(6) == 0 {
		f := []filter{{dimension: "page", value: "/articles/3"}, {dimension: "page", value: "/nowhere"},
			{dimension: "source", value: "source-7"}, {dimension: "country", value: "AB"},
			{dimension: "device", value: "Desktop"}}[r.IntN(5)]
		f.least, f.most, f.exact = w.feed.Active(v.sites[0], f.dimension, f.value)
		a := v.accounts[v.sites[0]]
		v.filter, a.filter, a.span = f, f, map[string]int64{"1s": 1, "5s": 5, "30s": 30}[v.rate]
	}
	return v
}

// judge fails on a fault of any account, and if too few viewers resumed, moved or were skipped for the test
// to mean anything.
func judge(t *testing.T, viewers []*viewer, final int64) {
	t.Helper()
	var faulty, resumed, moved, merged, skipped, refused, noSnapshot, filtered, withSkips int
	var seconds int64
	for i, v := range viewers {
		faults := v.faults
		for _, a := range v.accounts {
			a.compareTotal()
			faults = append(faults, a.faults...)
			resumed, merged, skipped = resumed+a.resumed, merged+a.merged, skipped+a.skipped
			seconds += a.lastSecond - a.began
			if a.filter.dimension != "" {
				filtered += a.frames
			}
			if a.skipped > 0 {
				withSkips++
			}
			// A viewer that reads at full speed is at most 30 s of a rate and one reconnect behind.
			if behind := final - a.lastSecond; v.readRate == 0 && v.opened > 0 && a.id != "" && behind > 45 {
				faults = append(faults, fmt.Sprintf("%s: %d s behind at the end", a.site, behind))
			}
			if a.id == "" && v.readRate == 0 {
				noSnapshot++
			}
		}
		moved, refused = moved+v.moved, refused+v.refused
		if len(faults) > 0 {
			if faulty++; faulty <= 10 {
				t.Errorf("viewer %d (rate %s, %d bytes/s, top %d, %d connections): %s", i, v.rate,
					v.readRate, v.top, v.opened, strings.Join(faults, "; "))
			}
		}
	}
	t.Logf("%d viewers with faults; %d resumes, %d of them elsewhere, %d merged frames, "+
		"%d skipped as the frames say to %d viewers, %d of one value only, %d refusals, %d seconds counted",
		faulty, resumed, moved, merged, skipped, withSkips, filtered, refused, seconds)
	enough := int64(len(viewers)) * int64(streamSpan.Seconds()) / 4
	if resumed < len(viewers)/2 || moved < len(viewers)/4 || merged == 0 || seconds < enough {
		t.Error("too few resumes, moves, merges or seconds: that proves nothing")
	}
	if noSnapshot > len(viewers)/10 {
		t.Errorf("%d streams never had a snapshot", noSnapshot)
	}
	if filtered == 0 {
		t.Error("nobody followed one value")
	}
	if *streamSpan >= 90*time.Second && withSkips < len(viewers)/40 {
		t.Errorf("the frames of only %d slow readers say that frames were skipped", withSkips)
	}
}

// checkTopic compares the windows topic with the feed, against which the accounts are checked.
func (w *streams) checkTopic(t *testing.T, final int64) {
	t.Helper()
	type key struct {
		site string
		at   int64
		part int
	}
	errEnd := fmt.Errorf("the end")
	rows := map[key]window.Second{}
	for p := range windowPartitions {
		_, end, err := w.client.Bounds(t.Context(), topic.Windows, p)
		if err != nil {
			t.Fatal(err)
		}
		var e window.Emission
		_ = w.client.Follow(t.Context(), broker.Follower{Topic: topic.Windows, Partition: p,
			Record: func(r broker.Record) error {
				if err := e.Decode(r.Value); err != nil {
					return err
				}
				for _, s := range e.Seconds {
					if k := (key{strings.Clone(s.Site), s.At, p}); s.Final && s.Version > rows[k].Version {
						rows[k] = s
					}
				}
				return nil
			},
			Batch: func(next, _ int64) error {
				if next >= end {
					return errEnd
				}
				return nil
			}})
	}
	sums := map[key]feed.Counts{}
	for k, s := range rows {
		k.part = 0
		c := sums[k]
		c.Add(feed.Counts{Pageviews: s.Pageviews, Visitors: s.Visitors, Events: s.Events})
		sums[k] = c
	}
	n := 0
	for k, c := range sums {
		if k.at <= final {
			if n++; c != w.feed.Truth(k.site, k.at) {
				t.Fatalf("%s, second %d: the topic has %+v, the feed says %+v", k.site, k.at, c,
					w.feed.Truth(k.site, k.at))
			}
		}
	}
	if want := int(final-w.feed.Began()+1) * 4; n != want {
		t.Fatalf("the topic has %d final seconds, the feed made %d", n, want)
	}
}
