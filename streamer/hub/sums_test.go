package hub

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nowcast/internal/window"
	"nowcast/streamer/board"
	"nowcast/streamer/frame"
)

// viewer takes frames as package push does, and now and then misses some.
type viewer struct {
	feed        *Feed
	cursor      Cursor
	received    []string
	sentThrough int64 // by its id when it came
	stalled     bool
}

func (v *viewer) receive(b []byte) {
	if b != nil {
		v.received = append(v.received, string(b))
	}
}

func (v *viewer) deliver(d delivery) {
	if d.feed != v.feed {
		return
	}
	for i := range d.frames {
		if v.stalled {
			v.cursor.Missed++
		} else {
			v.receive(v.feed.Next(&v.cursor, &d.frames[i]))
		}
	}
}

// sumsWorld is a hub with viewers, whose events a random generator makes.
type sumsWorld struct {
	t         *rapid.T
	r         *rand.Rand
	board     *board.Board
	hub       *Hub
	sink      queueSink
	viewers   []*viewer
	pageviews map[int64]uint32 // by second
}

// emit makes a second final, with a random number of page views on each of two partitions.
func (w *sumsWorld) emit(at int64) {
	for p := range 2 {
		n := uint32(w.r.IntN(3))
		e := emission(at)
		if n > 0 {
			row := window.Second{Site: "x", Pageviews: n, Visitors: n, Events: n, Active: n, Revision: n + 1}
			e = emission(at, row)
		}
		w.board.Apply(p, at, e)
		w.pageviews[at] += n
	}
}

// join adds a viewer at a random rate, half of them with the id of one of the last 20 seconds.
func (w *sumsWorld) join(at int64) {
	all := rates()
	from := Resume{}
	k := FeedKey{Sites: "x", Top: 10, Rate: all[w.r.IntN(len(all))]}
	if w.r.IntN(2) == 0 {
		from = Resume{Requested: true, Valid: true, ID: frame.ID{LastSecond: max(T, at-int64(w.r.IntN(20)))}}
	}
	s := join(w.t, w.hub, k, from, &w.sink)
	v := &viewer{feed: s.Feed, cursor: Cursor{SentThrough: s.Through}, sentThrough: from.ID.LastSecond}
	v.receive(s.Bytes)
	w.viewers = append(w.viewers, v)
}

// deliver brings what is queued to the viewers, of which a random quarter stalls.
func (w *sumsWorld) deliver() {
	for _, d := range w.sink.queue {
		for _, v := range w.viewers {
			v.deliver(d)
		}
	}
	w.sink.queue = nil
	for _, v := range w.viewers {
		if v.stalled = w.r.IntN(4) == 0; !v.stalled && v.cursor.Missed > 0 {
			v.receive(v.feed.CatchUp(&v.cursor))
		}
	}
}

// Whenever viewers join, at whatever rate, and whatever they miss: each second is in exactly one of
// their messages, and the sums are those of the events.
func TestSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)) //nolint:gosec // a test's history
		b := board.New(2)
		w := &sumsWorld{t: t, r: r, board: b, hub: New(b), pageviews: map[int64]uint32{}}
		now := time.Unix(T, 0)
		w.hub.now = func() time.Time { return now }
		at := int64(T)
		for w.emit(at); at < T+150; {
			for range 1 + r.IntN(3)*r.IntN(8) {
				at++
				w.emit(at)
			}
			now = now.Add(time.Second)
			if r.IntN(3) > 0 {
				w.hub.deliverChanges()
			}
			if r.IntN(8) == 0 {
				w.join(at)
			}
			if r.IntN(2) == 0 {
				w.deliver()
			}
		}
		at = (at+30)/30*30 + 29 // where each rate has a frame
		for next := at - 60; next <= at; next++ {
			if _, ok := w.pageviews[next]; !ok {
				w.emit(next)
			}
		}
		w.hub.deliverChanges()
		for range 50 { // until no viewer stalls
			w.deliver()
		}
		for _, v := range w.viewers {
			if v.stalled || v.cursor.Missed > 0 {
				v.receive(v.feed.CatchUp(&v.cursor))
			}
			checkSums(t, v, w.pageviews)
		}
		for _, v := range w.viewers {
			v.feed.Leave(&w.sink)
		}
		if len(w.hub.feeds) != 0 || len(w.hub.feedsOf) != 0 {
			t.Fatal("feeds are kept that nobody watches")
		}
	})
}

// checkSums reads a viewer's messages as its client would.
func checkSums(t *rapid.T, v *viewer, pageviews map[int64]uint32) {
	sentThrough := v.sentThrough
	for _, m := range v.received {
		for line := range strings.Lines(m) {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				sentThrough = checkMessage(t, v.feed.Rate(), data, sentThrough, pageviews)
			}
		}
	}
	if last := slices.Max(slices.Collect(maps.Keys(pageviews))); sentThrough != last {
		t.Fatalf("%s: the last second is %d, want %d", v.feed.Rate(), sentThrough-T, last-T)
	}
}

// checkMessage checks the final seconds of a message after sentThrough, and returns the last of them.
func checkMessage(t *rapid.T, rate, data string, sentThrough int64, pageviews map[int64]uint32) int64 {
	type second struct {
		At, From  time.Time
		Pageviews uint32
		Final     bool
	}
	var f struct {
		Second  *second
		Seconds *[]second
	}
	if err := json.Unmarshal([]byte(data), &f); err != nil {
		t.Fatal(err)
	}
	if f.Seconds != nil {
		for _, s := range *f.Seconds {
			at := s.At.Unix()
			if s.Final && (at <= sentThrough || s.Pageviews != pageviews[at]) {
				t.Fatalf("%s: snapshot: second %d with %d after %d", rate, at-T, s.Pageviews, sentThrough-T)
			}
		}
		return max(sentThrough, f.Second.At.Unix())
	}
	if f.Second == nil || !f.Second.Final {
		return sentThrough
	}
	from, through := f.Second.At.Unix(), f.Second.At.Unix()
	if !f.Second.From.IsZero() {
		from = f.Second.From.Unix()
	}
	if from != sentThrough+1 {
		t.Fatalf("%s: from second %d, after %d", rate, from-T, sentThrough-T)
	}
	sum := uint32(0)
	for at := from; at <= through; at++ {
		sum += pageviews[at]
	}
	if sum != f.Second.Pageviews {
		t.Fatalf("%s: %d views in %d to %d, want %d", rate, f.Second.Pageviews, from-T, through-T, sum)
	}
	return through
}
