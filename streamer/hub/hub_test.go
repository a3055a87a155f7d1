package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"nowcast/internal/window"
	"nowcast/streamer/board"
	"nowcast/streamer/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const T = 1_795_435_200

// viewer takes frames as those who serve viewers do, and now and then misses some.
type viewer struct {
	feed  *Feed
	at    Cursor
	got   []string
	given int64
	stuck bool
}

func (v *viewer) take(b []byte) {
	if b != nil {
		v.got = append(v.got, string(b))
	}
}

func (v *viewer) frames(f *Feed, frames []Frame) {
	if f != v.feed {
		return
	}
	for i := range frames {
		if v.stuck {
			v.at.Missed++
		} else {
			v.take(f.Next(&v.at, &frames[i]))
		}
	}
}

type sink struct{ waiting []delivery }

type delivery struct {
	feed   *Feed
	frames []Frame
}

func (s *sink) Deliver(f *Feed, frames []Frame) { s.waiting = append(s.waiting, delivery{f, frames}) }

// Whenever viewers come, at whatever rate, and whatever they miss: every second is in one of their messages once, and the sums are those
// of what happened.
func TestSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)) //nolint:gosec // a test's history
		b := board.New(2)
		h := New(b)
		now := time.Unix(T, 0)
		h.now = func() time.Time { return now }
		var s sink
		var viewers []*viewer
		views := map[int64]uint32{}
		emit := func(at int64) {
			for p := range 2 {
				n := uint32(r.IntN(3))
				e := &window.Emission{Version: 1, Epoch: window.Epoch, Offset: at, Watermark: (at + 1) * 1000, Now: (at + 1) * 1000}
				if n > 0 {
					e.Seconds = []window.Second{{Site: "x", At: at, Pageviews: n, Visitors: n, Events: n, Active: n, Final: true, Revision: n + 1, Version: window.RowVersion(window.Epoch, true, at)}}
				}
				b.Apply(p, at, e)
				views[at] += n
			}
		}
		work := func() {
			for len(s.waiting) > 0 {
				d := s.waiting[0]
				s.waiting = s.waiting[1:]
				for _, v := range viewers {
					v.frames(d.feed, d.frames)
				}
			}
			for _, v := range viewers {
				if v.stuck = r.IntN(4) == 0; !v.stuck && v.at.Missed > 0 {
					v.take(v.feed.CatchUp(&v.at))
				}
			}
		}
		at := int64(T)
		for emit(at); at < T+150; {
			for range 1 + r.IntN(3)*r.IntN(8) {
				at++
				emit(at)
			}
			now = now.Add(time.Second)
			if r.IntN(3) > 0 {
				h.take()
			}
			if r.IntN(8) == 0 {
				rate := rates[r.IntN(len(rates))]
				k := FeedKey{Sites: "x", Top: 10, Rate: rate}
				from := Resume{}
				if r.IntN(2) == 0 {
					from = Resume{Requested: true, Valid: true, ID: frame.ID{LastSecond: max(T, at-int64(r.IntN(20)))}}
				}
				if err := h.Join(k, from, &s, func(f Snapshot) {
					v := &viewer{feed: f.Feed, at: Cursor{SentThrough: f.Through}, given: from.ID.LastSecond}
					v.take(f.Bytes)
					viewers = append(viewers, v)
				}); err != nil {
					t.Fatal(err)
				}
			}
			if r.IntN(2) == 0 {
				work()
			}
		}
		at = (at+30)/30*30 + 29 // where all rates have a frame
		for next := at - 60; next <= at; next++ {
			if _, ok := views[next]; !ok {
				emit(next)
			}
		}
		h.take()
		for range 50 { // until nobody is stuck
			work()
		}
		for _, v := range viewers {
			if v.stuck || v.at.Missed > 0 {
				v.take(v.feed.CatchUp(&v.at))
			}
			check(t, v, views)
		}
		for _, v := range viewers {
			v.feed.Leave(&s)
		}
		if len(h.feeds) != 0 || len(h.of) != 0 {
			t.Fatal("feeds are kept that nobody watches")
		}
	})
}

// check reads a viewer's messages as its client would.
func check(t *rapid.T, v *viewer, views map[int64]uint32) {
	type second struct {
		At, From  time.Time
		Pageviews uint32
		Final     bool
	}
	given := v.given
	for _, m := range v.got {
		for line := range strings.Lines(m) {
			data, ok := strings.CutPrefix(line, "data: ")
			if !ok {
				continue
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
					if s.Final && (s.At.Unix() <= given || s.Pageviews != views[s.At.Unix()]) {
						t.Fatalf("%s: snapshot has second %d with %d, after %d", v.feed.Rate(), s.At.Unix()-T, s.Pageviews, given-T)
					}
				}
				given = max(given, f.Second.At.Unix())
				continue
			}
			if f.Second == nil || !f.Second.Final {
				continue
			}
			from := f.Second.At
			if !f.Second.From.IsZero() {
				from = f.Second.From
			}
			if from.Unix() != given+1 {
				t.Fatalf("%s: from second %d, after %d", v.feed.Rate(), from.Unix()-T, given-T)
			}
			sum := uint32(0)
			for at := from.Unix(); at <= f.Second.At.Unix(); at++ {
				sum += views[at]
			}
			if sum != f.Second.Pageviews {
				t.Fatalf("%s: %d views in seconds %d to %d, want %d", v.feed.Rate(), f.Second.Pageviews, from.Unix()-T, f.Second.At.Unix()-T, sum)
			}
			given = f.Second.At.Unix()
		}
	}
	if last := slices.Max(slices.Collect(keys(views))); given != last {
		t.Fatalf("%s: the last second is %d, want %d", v.feed.Rate(), given-T, last-T)
	}
}

func keys(m map[int64]uint32) func(func(int64) bool) {
	return func(yield func(int64) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// Nothing is made for a site that nobody watches, and one frame for all who watch the same.
func TestOneFrameForAll(t *testing.T) {
	b := board.New(1)
	h := New(b)
	var s sink
	k := FeedKey{Sites: "x", Top: 10, Rate: rates[2]}
	emit := func(at int64) {
		b.Apply(0, at, &window.Emission{Version: 1, Epoch: window.Epoch, Watermark: (at + 1) * 1000, Now: at * 1000, Seconds: []window.Second{
			{Site: "x", At: at, Events: 1, Final: true, Version: window.RowVersion(window.Epoch, true, at)}, {Site: fmt.Sprint("y", at), At: at, Events: 1, Final: true, Version: window.RowVersion(window.Epoch, true, at)}}})
		h.take()
	}
	emit(T)
	var first [2]Snapshot
	for i := range first {
		if err := h.Join(k, Resume{}, &s, func(f Snapshot) { first[i] = f }); err != nil {
			t.Fatal(err)
		}
	}
	if &first[0].Bytes[0] != &first[1].Bytes[0] {
		t.Error("a snapshot was made twice")
	}
	emit(T + 1)
	if len(s.waiting) != 1 || len(s.waiting[0].frames) != 1 || len(h.feeds) != 1 {
		t.Errorf("%d deliveries of %d feeds", len(s.waiting), len(h.feeds))
	}
	a, z := Cursor{SentThrough: T}, Cursor{SentThrough: T}
	f := &s.waiting[0].frames[0]
	if x, y := first[0].Feed.Next(&a, f), first[1].Feed.Next(&z, f); &x[0] != &y[0] {
		t.Error("a frame was made twice")
	}
}

// What one viewer is told to catch up is still news to the others.
func TestCatchingUpIsNoNewsToOthers(t *testing.T) {
	b := board.New(1)
	h := New(b)
	var s sink
	var feed *Feed
	emit := func(at int64, active uint32, watermark int64) {
		b.Apply(0, at, &window.Emission{Version: 1, Epoch: window.Epoch, Watermark: watermark, Now: watermark, Seconds: []window.Second{
			{Site: "x", At: at, Events: 1, Active: active, Final: true, Version: window.RowVersion(window.Epoch, true, int64(active))}}})
	}
	emit(T, 1, (T+1)*1000)
	h.take()
	if err := h.Join(FeedKey{Sites: "x", Top: 10, Rate: rates[0]}, Resume{}, &s, func(f Snapshot) { feed = f.Feed }); err != nil {
		t.Fatal(err)
	}
	emit(T+1, 2, (T+2)*1000)
	h.take()
	s.waiting = nil
	emit(T+1, 7, (T+2)*1000)
	behind := Cursor{SentThrough: T, Missed: 1}
	if b := feed.CatchUp(&behind); !strings.Contains(string(b), `"visitors":7`) {
		t.Fatalf("%s", b)
	}
	h.now = func() time.Time { return time.Now().Add(time.Second) }
	h.take()
	if len(s.waiting) != 1 || !strings.Contains(string(s.waiting[0].frames[0].Bytes), `"visitors":7`) {
		t.Errorf("%d deliveries", len(s.waiting))
	}
}

// A stream of several sites that breaks after any of its messages, again and again, also in the middle of what brings it up to date: every
// second of each site is given once.
func TestWallThatBreaks(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	rapid.Check(t, func(t *rapid.T) {
		b := board.New(1)
		h := New(b)
		var s sink
		key := FeedKey{Sites: JoinSites(names), Rate: rates[rapid.IntRange(0, len(rates)-1).Draw(t, "rate")]}
		at := int64(T)
		emit := func() {
			e := &window.Emission{Version: 1, Epoch: window.Epoch, Watermark: (at + 1) * 1000, Now: (at + 1) * 1000}
			for _, name := range names {
				e.Seconds = append(e.Seconds, window.Second{Site: name, At: at, Pageviews: 1, Visitors: 1, Events: 1, Final: true, Revision: 2, Version: window.RowVersion(window.Epoch, true, at)})
			}
			b.Apply(0, at, e)
			h.take()
			at++
		}
		for range 40 {
			emit()
		}
		given := map[string]int64{} // by site: the newest second
		var from Resume
		read := func(m []byte) (whole bool) { // all of its messages, or the first ones
			for message := range strings.SplitAfterSeq(string(m), "\n\n") {
				if message == "" {
					continue
				}
				if rapid.IntRange(0, 3).Draw(t, "breaks") == 0 {
					return false
				}
				lines := strings.Split(message, "\n")
				i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "id: ") })
				j := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "data: ") })
				if i < 0 || j < 0 {
					t.Fatalf("%q", message)
				}
				from = Resume{Requested: true}
				from.ID, from.Valid = frame.ParseID(strings.TrimPrefix(lines[i], "id: "))
				var f struct {
					Site   string
					Second *struct {
						At, From  time.Time
						Final     bool
						Pageviews int
					}
					Seconds *[]struct {
						At    time.Time
						Final bool
					}
				}
				if err := json.Unmarshal([]byte(strings.TrimPrefix(lines[j], "data: ")), &f); err != nil {
					t.Fatal(err)
				}
				last, known := given[f.Site]
				switch {
				case f.Seconds != nil:
					for _, x := range *f.Seconds {
						if known && x.At.Unix() != last+1 {
							t.Fatalf("%s: a snapshot gives second %d after %d", f.Site, x.At.Unix()-T, last-T)
						}
						last, known = x.At.Unix(), true
					}
				case f.Second != nil && f.Second.Final:
					first := f.Second.At.Unix()
					if !f.Second.From.IsZero() {
						first = f.Second.From.Unix()
					}
					if first != last+1 || f.Second.Pageviews != int(f.Second.At.Unix()-last) {
						t.Fatalf("%s: seconds %d to %d with %d after %d", f.Site, first-T, f.Second.At.Unix()-T, f.Second.Pageviews, last-T)
					}
					last = f.Second.At.Unix()
				}
				if told := from.ID.SiteSecond(slices.Index(names, f.Site)); from.Valid && told != last {
					t.Fatalf("%s: after %s it has seconds up to %d, not %d", f.Site, from.ID, last-T, told-T)
				}
				given[f.Site] = last
			}
			return true
		}
		for range 40 {
			var feed *Feed
			place, open := Cursor{}, false
			if err := h.Join(key, from, &s, func(f Snapshot) {
				feed, place.SentThrough, s.waiting = f.Feed, f.Through, nil
				open = read(f.Bytes)
			}); err != nil {
				t.Fatal(err)
			}
			for open && rapid.IntRange(0, 9).Draw(t, "goes on") > 0 {
				emit()
				for _, d := range s.waiting {
					for i := range d.frames {
						if open {
							open = read(feed.Next(&place, &d.frames[i]))
						}
					}
				}
				s.waiting = nil
			}
			feed.Leave(&s)
			for range rapid.IntRange(0, 3).Draw(t, "meanwhile") {
				emit()
			}
		}
	})
}

// finalize makes a second of site x final, in which something happened.
func finalize(b *board.Board, at int64) {
	b.Apply(0, at, &window.Emission{Version: 1, Epoch: window.Epoch, Watermark: (at + 1) * 1000, Now: (at + 1) * 1000,
		Seconds: []window.Second{{Site: "x", At: at, Events: 1, Active: 1, Final: true, Version: window.RowVersion(window.Epoch, true, at)}}})
}

// The board may go on while a snapshot is made: of no second after its id it says that it is final, for the next frame gives that.
func TestSnapshotOfAMovingBoard(t *testing.T) {
	b := board.New(1)
	h := New(b)
	var s sink
	var feed *Feed
	finalize(b, T)
	h.take()
	if err := h.Join(FeedKey{Sites: "x", Rate: rates[2]}, Resume{}, &s, func(f Snapshot) { feed = f.Feed }); err != nil {
		t.Fatal(err)
	}
	finalize(b, T+1)
	finalize(b, T+2)
	m := string(feed.snapshots(nil, 0, T-1, T+1, T+1+ahead, Resume{}))
	if !strings.Contains(m, "id: 1-1795435201-0\n") || strings.Count(m[strings.Index(m, `"seconds":`):], `"final":true`) != 2 || strings.Count(m, `"final":false`) != 1 {
		t.Error(m)
	}
}

// The board goes on while history is asked for a gap: what it told still reaches what the board has.
func TestGapReachesTheBoard(t *testing.T) {
	b := board.New(1)
	h := New(b)
	var s sink
	const asked = T + 400 // the newest second when history was asked
	for at := int64(T); at <= asked; at++ {
		finalize(b, at)
	}
	from := Resume{Requested: true, Valid: true, ID: frame.ID{LastSecond: asked - 350}, GapThrough: asked - board.SnapshotSeconds, Gap: [][]board.Second{nil}}
	for at := from.ID.LastSecond + 1; at <= from.GapThrough; at++ {
		from.Gap[0] = append(from.Gap[0], board.Second{At: at, Events: 1, Final: true})
	}
	for at := int64(asked + 1); at <= asked+5; at++ {
		finalize(b, at)
	}
	h.take()
	for name, from := range map[string]Resume{"gap": from, "seconds that were on the board": {Requested: true, Valid: true, ID: frame.ID{LastSecond: asked - board.SnapshotSeconds}}} {
		if err := h.Join(FeedKey{Sites: "x", Rate: rates[2]}, from, &s, func(f Snapshot) {
			m := string(f.Bytes)
			if n := strings.Count(m[max(0, strings.Index(m, `"seconds":`)):], `"final":true`); strings.Contains(m, "event: reset") || n != int(asked+5-from.ID.LastSecond) {
				t.Errorf("%s: %d seconds, want %d: %.200s", name, n, asked+5-from.ID.LastSecond, m)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// An instance that hasn't got the second in whose middle a stream broke can't bring its sites to one place: it says so. An id that no instance
// can have given is no reason to wait.
func TestBehindAnotherInstance(t *testing.T) {
	b := board.New(1)
	h := New(b)
	b.Apply(0, T, &window.Emission{Version: 1, Epoch: window.Epoch, Watermark: (T + 1) * 1000, Now: (T + 1) * 1000})
	h.take()
	var s sink
	for _, row := range []struct {
		id    frame.ID
		err   error
		reset bool
	}{
		{frame.ID{LastSecond: T + 5, SentSites: 1, PrevSecond: T - 1}, ErrBehind, false},
		{frame.ID{LastSecond: T + 5}, nil, false},
		{frame.ID{LastSecond: T, SentSites: 1, PrevSecond: T - 1}, nil, false},
		{frame.ID{LastSecond: T + 1000, SentSites: 1, PrevSecond: T - 1}, nil, true},
	} {
		var m string
		err := h.Join(FeedKey{Sites: JoinSites([]string{"a", "b"}), Rate: rates[2]}, Resume{Requested: true, Valid: true, ID: row.id}, &s, func(f Snapshot) {
			m = string(f.Bytes)
		})
		if !errors.Is(err, row.err) || strings.HasPrefix(m, "event: reset") != row.reset {
			t.Errorf("%s: %v, %.40q", row.id, err, m)
		}
	}
}
