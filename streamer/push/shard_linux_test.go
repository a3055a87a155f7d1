package push

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"nowcast/streamer/board"
	"nowcast/streamer/hub"
)

// Where the kernel has no io_uring, the shards write with write(2).
func TestWithoutIOURing(t *testing.T) {
	w := newWorld(t, Config{})
	for _, s := range w.engine.shards {
		s.openRing = func() (*ring, error) { return nil, unix.ENOSYS }
	}
	w.run()
	w.server.Start()
	c, _ := w.open("")
	w.finalize()
	c.nextAt(w.at)
	if n := w.metric("viewers", "transport", "epoll"); n != 1 {
		t.Errorf("%v viewers by epoll", n)
	}
}

// A ring whose system call fails ends Run with the error, and all streams.
func TestRingFails(t *testing.T) {
	if !hasIOURing() {
		t.Skip("LEFT OUT: this system has no io_uring")
	}
	w := newWorld(t, Config{Shards: 2})
	for _, s := range w.engine.shards {
		s.openRing = func() (*ring, error) {
			r, err := newRing()
			if err == nil {
				fd := r.fd
				t.Cleanup(func() { _ = unix.Close(fd) })
				r.fd = none
			}
			return r, err
		}
	}
	w.run()
	w.server.Start()
	a, _ := w.open("slot=1")
	b, _ := w.open("slot=2")
	w.finalize()
	select {
	case err := <-w.result:
		if !errors.Is(err, unix.EBADF) || !strings.HasPrefix(err.Error(), "send by io_uring: ") {
			t.Errorf("Run returned %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Run goes on")
	}
	a.expectReconnect()
	b.expectReconnect()
	if n := w.engine.Viewers(); n != 0 || len(w.slots()) != 2 {
		t.Errorf("%d viewers are left, %v are released", n, w.slots())
	}
}

// A shard that stops closes the viewers that wait in its queue, and those that come later get an empty
// stream.
func TestStopWithPendingJoins(t *testing.T) {
	const later = 3
	w := newWorld(t, Config{Shards: 1})
	w.server.Start()
	s := w.engine.shards[0]
	s.ops.put(op{kind: opStop}) // before the joins
	var clients []*client
	for range maxPendingJoins + later {
		clients = append(clients, w.connect(""))
	}
	w.eventually("the queue is full", func() bool {
		s.ops.mu.Lock()
		defer s.ops.mu.Unlock()
		return len(s.ops.ops) == 1+maxPendingJoins
	})
	w.eventually("all requests are there", func() bool { return w.engine.Viewers() == maxPendingJoins+later })
	w.run()
	empty := 0
	for _, c := range clients {
		_ = c.conn.SetReadDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(c.conn)
		if err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("data:")) {
			t.Errorf("a viewer got %q", b)
		}
		if bytes.HasPrefix(b, []byte("HTTP/1.1 200 OK\r\n")) {
			empty++
		}
	}
	if empty != later {
		t.Errorf("%d empty streams, want %d", empty, later)
	}
	w.eventually("all slots are released", func() bool { return len(w.slots()) == maxPendingJoins+later })
	if n := w.engine.Viewers(); n != 0 {
		t.Errorf("%d viewers are counted", n)
	}
}

// newShardTest makes a shard whose thread is the test, with a viewer that has joined a feed.
func newShardTest(tb testing.TB, cfg Config, fd int) (*shard, hub.Snapshot) {
	tb.Helper()
	cfg.Shards = 1
	e, err := New(cfg, prometheus.NewRegistry())
	if err != nil {
		tb.Fatal(err)
	}
	s := e.shards[0]
	s.transport = "epoll"
	h := hub.New(board.New(1))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	tb.Cleanup(func() { s.stop(nil); cancel(); <-done })
	var snapshot hub.Snapshot
	rate, _ := hub.ParseRate("1s")
	key := hub.FeedKey{Sites: "x", Rate: rate}
	err = h.Join(key, hub.Resume{}, &s.ops, func(got hub.Snapshot) { snapshot = got })
	if err != nil {
		tb.Fatal(err)
	}
	e.viewers.Add(1)
	s.join(&pendingJoin{fd, []byte("head\n"), snapshot, Viewer{Deadline: time.Now().Add(time.Hour)}})
	return s, snapshot
}

// A message that the connection takes in parts arrives whole. Frames that come meanwhile are missed, and
// none is written into the message.
func TestCutMessage(t *testing.T) {
	for _, withRing := range []bool{false, true} {
		if withRing && !hasIOURing() {
			t.Log("LEFT OUT: this system has no io_uring")
			continue
		}
		fd, viewer := pair(t)
		own, err := unix.Dup(int(fd)) // the shard closes it
		if err != nil {
			t.Fatal(err)
		}
		s, snapshot := newShardTest(t, Config{}, own)
		if withRing {
			runtime.LockOSThread() // a ring belongs to a thread
			defer runtime.UnlockOSThread()
			if s.ring, err = newRing(); err != nil {
				t.Fatal(err)
			}
			defer s.ring.close()
		}
		large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MB, more than both ends' buffers
		deliver := func(after int64, b []byte) {
			fr := hub.Frame{After: after, Through: after + 1, Bytes: b, CreatedAt: time.Now()}
			s.deliver(&op{feed: snapshot.Feed, frames: []hub.Frame{fr}})
		}
		deliver(0, large)
		e := &s.viewers.entries[0]
		if e.stalledAt == 0 || len(s.pending[0]) == 0 || len(s.pending[0]) == len(large) {
			t.Fatalf("ring %v: %d of %d bytes are pending", withRing, len(s.pending[0]), len(large))
		}
		deliver(1, []byte("small"))
		if e.missed != 1 || e.sentThrough != 1 {
			t.Errorf("ring %v: %d frames are missed after %d", withRing, e.missed, e.sentThrough)
		}
		pending := len(s.pending[0])
		s.resume(0) // the connection is still full
		if e.stalledAt == 0 || len(s.pending[0]) == 0 || len(s.pending[0]) > pending {
			t.Errorf("ring %v: %d bytes are pending, %d before", withRing, len(s.pending[0]), pending)
		}
		read := make(chan []byte, 1)
		want := append(append([]byte("head\n"), snapshot.Bytes...), large...)
		go func() {
			b := make([]byte, len(want))
			_ = viewer.SetReadDeadline(time.Now().Add(patience))
			n, _ := io.ReadFull(viewer, b)
			read <- b[:n]
		}()
		waitWritable(t, s, func() bool { return e.stalledAt == 0 })
		if got := <-read; !bytes.Equal(got, want) {
			t.Errorf("ring %v: %d bytes arrived, want %d", withRing, len(got), len(want))
		}
		if e.missed != 0 || len(s.pending) != 0 {
			t.Errorf("ring %v: %d frames are missed, %d messages pending", withRing, e.missed, len(s.pending))
		}
	}
}

// waitWritable handles the shard's epoll events until a condition holds.
func waitWritable(t *testing.T, s *shard, holds func() bool) {
	t.Helper()
	events := make([]unix.EpollEvent, 8)
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			t.Fatal("the connection takes no more")
		}
		n, err := unix.EpollWait(s.epoll, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		for _, ev := range events[:max(n, 0)] {
			s.handle(ev)
		}
	}
}

// The sweep ends a viewer whose pending write made no progress for more than Stall, and one whose
// deadline has passed.
func TestSweep(t *testing.T) {
	for _, row := range []struct {
		name    string
		entry   entry
		elapsed time.Duration // since the viewer joined
		reason  endReason     // "": it stays
	}{
		{"takes all", entry{deadline: 3600}, time.Minute, ""},
		{"stalled for Stall", entry{deadline: 3600, stalledAt: 1}, 10 * time.Second, ""},
		{"stalled for longer", entry{deadline: 3600, stalledAt: 1}, 11 * time.Second, reasonBlocked},
		{"progress since", entry{deadline: 3600, stalledAt: 5}, 14 * time.Second, ""},
		{"before its deadline", entry{deadline: 60}, 58 * time.Second, ""},
		{"at its deadline", entry{deadline: 60}, 59 * time.Second, reasonLifetime},
		{"stalled at its deadline", entry{deadline: 60, stalledAt: 1}, 59 * time.Second, reasonBlocked},
	} {
		fd, _ := pair(t)
		own, err := unix.Dup(int(fd))
		if err != nil {
			t.Fatal(err)
		}
		s, _ := newShardTest(t, Config{Stall: 10 * time.Second}, own)
		e := &s.viewers.entries[0]
		e.deadline, e.stalledAt = row.entry.deadline, row.entry.stalledAt
		joined := s.start.Add(time.Second)
		s.engine.now = func() time.Time { return joined.Add(row.elapsed) }
		s.sweep()
		if ended := e.fd == none; ended != (row.reason != "") {
			t.Errorf("%s: ended is %v", row.name, ended)
		}
		for _, reason := range []endReason{reasonBlocked, reasonLifetime} {
			want := 0.0
			if reason == row.reason {
				want = 1
			}
			if n := testutil.ToFloat64(s.engine.metrics.ended.WithLabelValues(string(reason))); n != want {
				t.Errorf("%s: %v ended as %s", row.name, n, reason)
			}
		}
	}
}

// An event of a connection that has ended doesn't touch the viewer that has its entry now.
func TestEventOfFormerViewer(t *testing.T) {
	fd, _ := pair(t)
	one, err := unix.Dup(int(fd))
	if err != nil {
		t.Fatal(err)
	}
	s, snapshot := newShardTest(t, Config{}, one)
	event := unix.EpollEvent{Events: unix.EPOLLHUP, Fd: 0, Pad: s.viewers.entries[0].generation}
	two, err := unix.Dup(int(fd))
	if err != nil {
		t.Fatal(err)
	}
	s.end(0, reasonGone)
	s.join(&pendingJoin{two, nil, snapshot, Viewer{Deadline: time.Now().Add(time.Hour)}})
	s.engine.viewers.Add(1)
	if s.handle(event); s.viewers.entries[0].fd != int32(two) {
		t.Error("the new viewer was removed")
	}
	event.Pad = s.viewers.entries[0].generation
	if s.handle(event); s.viewers.entries[0].fd != none {
		t.Error("the new viewer is still there")
	}
}

// Only a TCP connection can be taken from net/http.
func TestDup(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if fd, err := dup(a); err == nil || fd != none {
		t.Errorf("%d, %v", fd, err)
	}
}

// BenchmarkDeliver is the time of a frame for 10,000 viewers of one feed without that of their sockets,
// which are /dev/null.
func BenchmarkDeliver(b *testing.B) {
	fd, err := unix.Open("/dev/null", unix.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	refused, err := unix.Dup(fd)
	if err != nil {
		b.Fatal(err)
	}
	s, snapshot := newShardTest(b, Config{}, refused) // the join fails, since epoll takes no /dev/null
	const viewers = 10_000
	for range viewers {
		s.viewers.insert(entry{fd: int32(fd), group: s.groupOf(snapshot.Feed)})
	}
	frame := bytes.Repeat([]byte("x"), 1000)
	at := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		fr := hub.Frame{After: at, Through: at + 1, Bytes: frame, CreatedAt: time.Now()}
		s.deliver(&op{feed: snapshot.Feed, frames: []hub.Frame{fr}})
		at++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/viewers, "ns/viewer")
	for i := range s.viewers.entries { // they share a descriptor, which the shard must not close
		s.viewers.entries[i].fd = none
	}
}
