package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"nowcast/internal/window"
	"nowcast/streamer/board"
	"nowcast/streamer/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const T = 1_795_435_200

// queueSink queues what is delivered.
type queueSink struct{ queue []delivery }

type delivery struct {
	feed   *Feed
	frames []Frame
}

func (s *queueSink) Deliver(f *Feed, frames []Frame) { s.queue = append(s.queue, delivery{f, frames}) }

// emission is one whose watermark makes the second at final, with rows of that second.
func emission(at int64, rows ...window.Second) *window.Emission {
	end := (at + 1) * 1000
	for i := range rows {
		rows[i].At, rows[i].Final = at, true
		if rows[i].Version == 0 {
			rows[i].Version = window.RowVersion(window.Epoch, true, at)
		}
	}
	return &window.Emission{
		Version: 1, Epoch: window.Epoch, Offset: at, Watermark: end, Now: end, Seconds: rows,
	}
}

// finalize makes a second of site x with one event final.
func finalize(b *board.Board, at int64) {
	b.Apply(0, at, emission(at, window.Second{Site: "x", Events: 1, Active: 1}))
}

// join fails the test when the viewer isn't let in.
func join(t interface{ Fatal(...any) }, h *Hub, k FeedKey, from Resume, s Sink) (snapshot Snapshot) {
	if err := h.Join(k, from, s, func(got Snapshot) { snapshot = got }); err != nil {
		t.Fatal(err)
	}
	return snapshot
}

// rate is the rate with a name, which has to exist.
func rate(name string) Rate {
	r, _ := ParseRate(name)
	return r
}

// Viewers with the same key share the bytes of snapshots and frames.
func TestViewersShareBytes(t *testing.T) {
	b := board.New(1)
	h := New(b)
	var s queueSink
	k := FeedKey{Sites: "x", Top: 10, Rate: rate("1s")}
	emit := func(at int64) {
		other := window.Second{Site: fmt.Sprint("y", at), Events: 1}
		b.Apply(0, at, emission(at, window.Second{Site: "x", Events: 1}, other))
		h.deliverChanges()
	}
	emit(T)
	one, two := join(t, h, k, Resume{}, &s), join(t, h, k, Resume{}, &s)
	if &one.Bytes[0] != &two.Bytes[0] {
		t.Error("a snapshot was made twice")
	}
	emit(T + 1)
	if len(s.queue) != 1 || len(s.queue[0].frames) != 1 || len(h.feeds) != 1 {
		t.Errorf("%d deliveries of %d feeds", len(s.queue), len(h.feeds))
	}
	a, z := Cursor{SentThrough: T}, Cursor{SentThrough: T}
	f := &s.queue[0].frames[0]
	if x, y := one.Feed.Next(&a, f), two.Feed.Next(&z, f); &x[0] != &y[0] {
		t.Error("a frame was made twice")
	}
}

// A catch-up frame for one viewer doesn't count as sent to the others.
func TestCatchUpIsOfOneViewer(t *testing.T) {
	b := board.New(1)
	h := New(b)
	var s queueSink
	emit := func(at int64, active uint32, watermark int64) {
		e := emission(at, window.Second{Site: "x", Events: 1, Active: active,
			Version: window.RowVersion(window.Epoch, true, int64(active))})
		e.Watermark, e.Now = watermark, watermark
		b.Apply(0, at, e)
	}
	emit(T, 1, (T+1)*1000)
	h.deliverChanges()
	feed := join(t, h, FeedKey{Sites: "x", Top: 10, Rate: rate("100ms")}, Resume{}, &s).Feed
	emit(T+1, 2, (T+2)*1000)
	h.deliverChanges()
	s.queue = nil
	emit(T+1, 7, (T+2)*1000)
	behind := Cursor{SentThrough: T, Missed: 1}
	if b := feed.CatchUp(&behind); !strings.Contains(string(b), `"visitors":7`) {
		t.Fatalf("%s", b)
	}
	h.now = func() time.Time { return time.Now().Add(time.Second) }
	h.deliverChanges()
	if len(s.queue) != 1 || !strings.Contains(string(s.queue[0].frames[0].Bytes), `"visitors":7`) {
		t.Errorf("%d deliveries", len(s.queue))
	}
}

// A feed on change sends at most one frame for each MinInterval, and then the newest state.
func TestMinInterval(t *testing.T) {
	b := board.New(1)
	h := New(b)
	now := time.Unix(T, 0)
	h.now = func() time.Time { return now }
	var s queueSink
	finalize(b, T)
	h.deliverChanges()
	join(t, h, FeedKey{Sites: "x", Rate: rate("250ms")}, Resume{}, &s)
	provisional := func(n int64) {
		row := window.Second{Site: "x", At: T + 1, Events: uint32(n)}
		row.Version = window.RowVersion(window.Epoch, false, n)
		b.Apply(0, T, &window.Emission{Version: 1, Epoch: window.Epoch, Seconds: []window.Second{row}})
		h.deliverChanges()
	}
	provisional(1)
	for n := range int64(5) {
		now = now.Add(40 * time.Millisecond)
		provisional(2 + n)
	}
	if len(s.queue) != 1 || len(h.deferred) != 1 || h.untilDeferred() != 50*time.Millisecond {
		t.Fatalf("%d deliveries, %d deferred for %s", len(s.queue), len(h.deferred), h.untilDeferred())
	}
	now = now.Add(50 * time.Millisecond)
	h.deliverDeferred()
	if len(s.queue) != 2 || !strings.Contains(string(s.queue[1].frames[0].Bytes), `"events":6`) {
		t.Errorf("%d deliveries", len(s.queue))
	}
	if len(h.deferred) != 0 || h.untilDeferred() != time.Hour {
		t.Errorf("%d are deferred for %s", len(h.deferred), h.untilDeferred())
	}
}

// A feed that writes nothing for HeartbeatInterval sends a comment, which moves no cursor.
func TestHeartbeat(t *testing.T) {
	b := board.New(1)
	h := New(b)
	now := time.Unix(T, 0)
	h.now = func() time.Time { return now }
	var s queueSink
	finalize(b, T)
	h.deliverChanges()
	feed := join(t, h, FeedKey{Sites: "x", Rate: rate("1s")}, Resume{}, &s).Feed
	for _, row := range []struct {
		after time.Duration
		sent  int
	}{{HeartbeatInterval - time.Second, 0}, {time.Second, 1}, {time.Second, 1}, {HeartbeatInterval, 2}} {
		now = now.Add(row.after)
		if h.deliverHeartbeats(); len(s.queue) != row.sent {
			t.Fatalf("%d deliveries, want %d", len(s.queue), row.sent)
		}
	}
	c := Cursor{SentThrough: T, Missed: 2}
	if b := feed.Next(&c, &s.queue[0].frames[0]); string(b) != ": hb\n\n" || c != (Cursor{T, 2}) {
		t.Errorf("%q, %+v", b, c)
	}
}

// Heartbeats come as long as there is a feed, also after a time without one.
func TestHeartbeatsOfLaterFeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(board.New(1))
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		go h.Run(ctx)
		for range 2 {
			var s queueSink
			feed := join(t, h, FeedKey{Sites: "x", Rate: rate("1s")}, Resume{}, &s).Feed
			time.Sleep(3*HeartbeatInterval + 5*time.Second)
			if feed.Leave(&s); len(s.queue) != 3 {
				t.Errorf("%d heartbeats, want 3", len(s.queue))
			}
			time.Sleep(time.Minute)
		}
	})
}

// While a snapshot is made the board may go on. No second after the snapshot's id is final in it, since
// the next frame gives that second.
func TestSnapshotOfMovingBoard(t *testing.T) {
	b := board.New(1)
	h := New(b)
	var s queueSink
	finalize(b, T)
	h.deliverChanges()
	feed := join(t, h, FeedKey{Sites: "x", Rate: rate("1s")}, Resume{}, &s).Feed
	finalize(b, T+1)
	finalize(b, T+2)
	m := string(feed.appendSnapshots(nil, 0, snapshotRange{T - 1, T + 1, T + 1 + maxIDLead}, Resume{}))
	final := strings.Count(m[strings.Index(m, `"seconds":`):], `"final":true`)
	provisional := strings.Count(m, `"final":false`)
	if !strings.Contains(m, "id: 1-1795435201-0\n") || final != 2 || provisional != 1 {
		t.Error(m)
	}
}

// While history is asked for a gap the board may go on. The gap still reaches the seconds on the board.
func TestGapReachesBoard(t *testing.T) {
	b := board.New(1)
	h := New(b)
	var s queueSink
	const asked = T + 400 // newest second when history was asked
	for at := int64(T); at <= asked; at++ {
		finalize(b, at)
	}
	filled := Resume{Requested: true, Valid: true, ID: frame.ID{LastSecond: asked - 350},
		GapThrough: asked - board.SnapshotSeconds, Gap: [][]board.Second{nil}}
	for at := filled.ID.LastSecond + 1; at <= filled.GapThrough; at++ {
		filled.Gap[0] = append(filled.Gap[0], board.Second{At: at, Events: 1, Final: true})
	}
	for at := int64(asked + 1); at <= asked+5; at++ {
		finalize(b, at)
	}
	h.deliverChanges()
	onBoard := Resume{Requested: true, Valid: true}
	onBoard.ID.LastSecond = asked - board.SnapshotSeconds
	for name, from := range map[string]Resume{"gap": filled, "seconds that were on the board": onBoard} {
		m := string(join(t, h, FeedKey{Sites: "x", Rate: rate("1s")}, from, &s).Bytes)
		n := strings.Count(m[max(0, strings.Index(m, `"seconds":`)):], `"final":true`)
		if want := int(asked + 5 - from.ID.LastSecond); strings.Contains(m, "event: reset") || n != want {
			t.Errorf("%s: %d seconds, want %d: %.200s", name, n, want, m)
		}
	}
}

// An instance that hasn't read the second in whose middle a stream broke can't bring its sites to one
// second, and says so. An id that no instance can have sent yet is invalid.
func TestBehindAnotherInstance(t *testing.T) {
	b := board.New(1)
	h := New(b)
	b.Apply(0, T, emission(T))
	h.deliverChanges()
	var s queueSink
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
		k := FeedKey{Sites: JoinSites([]string{"a", "b"}), Rate: rate("1s")}
		from := Resume{Requested: true, Valid: true, ID: row.id}
		err := h.Join(k, from, &s, func(got Snapshot) { m = string(got.Bytes) })
		if !errors.Is(err, row.err) || strings.HasPrefix(m, "event: reset") != row.reset {
			t.Errorf("%s: %v, %.40q", row.id, err, m)
		}
	}
}
