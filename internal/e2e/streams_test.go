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
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

var (
	streamViewers = flag.Int("stream-viewers", 200, "how many connections TestStreams follows")
	streamSpan    = flag.Duration("stream-span", 20*time.Second, "for how long")
	streamWalls   = flag.Bool("stream-walls", true, "some connections follow several sites")
)

// Viewers of several sites with all rates and all reading speeds, who drop their connections and come back at either replica, while the replicas are
// killed and stopped in turn: each is given every second once, and all that it was given adds up to what the windows topic says. In the middle third of
// the time nothing is restarted, so that slow readers fall behind and are told what was left out.
func TestStreams(t *testing.T) {
	sites := []feed.Site{{Domain: "busy.example.com", Values: 10}, {Domain: "broad.example.com", Values: 100}, {Domain: "plain.example.com"},
		{Domain: "silent.example.com", Quiet: true}}
	w := startStreams(t, 2, 60, sites)
	r := rand.New(rand.NewPCG(*chaosSeed, 6))
	ctx, cancel := context.WithTimeout(t.Context(), *streamSpan)
	defer cancel()
	var counts tally
	var all sync.WaitGroup
	viewers := make([]*viewer, *streamViewers)
	for i := range viewers {
		viewers[i] = newViewer(w, r, sites, &counts)
		all.Go(func() { viewers[i].follow(ctx) })
	}
	restarts := 0
	calm, over := time.Now().Add(*streamSpan/3), time.Now().Add(*streamSpan*2/3)
	for n := 0; ctx.Err() == nil; n++ {
		if time.Now().After(calm) {
			time.Sleep(time.Until(over))
		}
		select {
		case <-time.After(2*time.Second + time.Duration(r.Int64N(int64(2*time.Second)))):
		case <-ctx.Done():
			continue
		}
		if rest, _ := ctx.Deadline(); time.Until(rest) < 3*time.Second {
			break // the last seconds are for those who were cut off to come back
		}
		w.replicas[n%2].restart(t, []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGTERM}[n%4])
		restarts++
	}
	all.Wait()
	final := w.feed.Final()
	w.inTopic(t, final)
	judge(t, viewers, final)
	t.Logf("%d viewers, %d connections of which %d were cut by a streamer, %d restarts, %d events", len(viewers), counts.opened.Load(), counts.dropped.Load(), restarts, counts.frames.Load())
	if restarts < 2 || counts.dropped.Load() == 0 {
		t.Error("no restart cut anybody off: that proves nothing")
	}
}

func newViewer(w *streams, r *rand.Rand, sites []feed.Site, counts *tally) *viewer {
	v := &viewer{w: w, random: rand.New(rand.NewPCG(r.Uint64(), 1)), counts: counts, key: w.key, accounts: map[string]*account{},
		rate: []string{"100ms", "250ms", "1s", "1s", "1s", "5s", "30s"}[r.IntN(7)], top: []int{0, 10, 100}[r.IntN(3)],
		stays: time.Duration(2+r.IntN(15)) * time.Second, browser: r.IntN(2) == 0, replica: r.IntN(len(w.replicas))}
	if r.IntN(5) == 0 {
		v.pace, v.top, v.stays = 1024<<r.IntN(4), 100, 2*time.Minute // a snapshot alone may take it half a minute
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
		f := []filter{{dimension: "page", value: "/articles/3"}, {dimension: "page", value: "/nowhere"}, {dimension: "source", value: "source-7"},
			{dimension: "country", value: "AB"}, {dimension: "device", value: "Desktop"}}[r.IntN(5)]
		f.least, f.most, f.exact = w.feed.Active(v.sites[0], f.dimension, f.value)
		v.filter, v.accounts[v.sites[0]].filter, v.accounts[v.sites[0]].span = f, f, map[string]int64{"1s": 1, "5s": 5, "30s": 30}[v.rate]
	}
	return v
}

// judge wants every account in order, and that what was to be tried has happened.
func judge(t *testing.T, viewers []*viewer, final int64) {
	t.Helper()
	faulty, resumed, moved, merged, skipped, refused, seconds, late, filtered, told := 0, 0, 0, 0, 0, 0, int64(0), 0, 0, 0
	for i, v := range viewers {
		faults := v.strange
		for _, a := range v.accounts {
			a.settle()
			faults = append(faults, a.faults...)
			resumed, merged, skipped, seconds = resumed+a.resumed, merged+a.merged, skipped+a.skipped, seconds+a.given-a.began
			if a.filter.dimension != "" {
				filtered += a.frames
			}
			if a.skipped > 0 {
				told++
			}
			// Who reads all there is and has been here a while is never far behind: 30 s of a rate, and the time of one reconnect.
			if behind := final - a.given; v.pace == 0 && v.opened > 0 && a.id != "" && behind > 45 {
				faults = append(faults, fmt.Sprintf("%s: %d s behind at the end", a.site, behind))
			}
			if a.id == "" && v.pace == 0 {
				late++
			}
		}
		moved, refused = moved+v.moved, refused+v.refused
		if len(faults) > 0 {
			if faulty++; faulty <= 10 {
				t.Errorf("viewer %d (rate %s, %d bytes/s, top %d, %d connections): %s", i, v.rate, v.pace, v.top, v.opened, strings.Join(faults, "; "))
			}
		}
	}
	t.Logf("%d viewers with faults; %d resumes, %d of them elsewhere, %d merged frames, %d skipped as the frames say to %d viewers, %d of one value only, %d refusals, %d seconds booked",
		faulty, resumed, moved, merged, skipped, told, filtered, refused, seconds)
	if resumed < len(viewers)/2 || moved < len(viewers)/4 || merged == 0 || seconds < int64(len(viewers))*int64(streamSpan.Seconds())/4 {
		t.Error("too few resumes, moves, merges or seconds: that proves nothing")
	}
	if late > len(viewers)/10 {
		t.Errorf("%d streams never had a snapshot", late)
	}
	if filtered == 0 {
		t.Error("nobody followed one value")
	}
	if *streamSpan >= 90*time.Second && told < len(viewers)/40 {
		t.Errorf("%d slow readers only were told that something was left out", told)
	}
}

// inTopic reads the windows topic and holds it against the feed's own truth, which the accounts are held against.
func (w *streams) inTopic(t *testing.T, final int64) {
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
				t.Fatalf("%s, second %d: the topic has %+v, the feed says %+v", k.site, k.at, c, w.feed.Truth(k.site, k.at))
			}
		}
	}
	if want := int(final-w.feed.Began()+1) * 4; n != want {
		t.Fatalf("the topic has %d final seconds, the feed made %d", n, want)
	}
}
