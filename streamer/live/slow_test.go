package live

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nowcast/internal/window"
	"nowcast/streamer/board"
	"nowcast/streamer/streamertest"
)

// A viewer that reads slower than frames are made receives the newest state with the number of frames left
// out, and its sums stay complete.
func TestSlowReader(t *testing.T) { both(t, testSlowReader) }

func testSlowReader(t *testing.T, cfg Config) {
	w := newWorld(t)
	cfg.Stall = 0
	base := w.streamer(cfg)
	w.Final(1)
	watch, _ := w.open(base, nil)
	for m := watch.Next(); m.Second == nil || m.Second.At != streamertest.Stamp(w.At); m = watch.Next() {
	}
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
	fmt.Fprintf(c, "GET /api/events?site=open.example.com&top=100 HTTP/1.0\r\n\r\n")
	r := bufio.NewReader(slowly{c})
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	from := w.At
	long := strings.Repeat("x", 900)
	w.Emit(0, w.longLists(0, long))
	// A second every 5 ms makes 20 MB/s of frames. The board must still hold what the viewer has not read.
	const maxLag = board.SnapshotSeconds - 50
	var read atomic.Int64
	read.Store(from)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				if w.At-read.Load() < maxLag {
					w.Final(1)
				}
			}
		}
	}()
	defer func() { close(stop); <-done }()
	skipped, frames, views := 0, 0, uint32(0)
	last := from
	err = streamertest.Read(res.Body, func(m streamertest.Message) bool {
		if m.Event == "snapshot" || m.Second == nil {
			return true
		}
		first, _ := time.Parse(time.RFC3339, m.First())
		to, _ := time.Parse(time.RFC3339, m.Second.At)
		if first.Unix() != last+1 {
			t.Fatalf("%+v comes after %s", *m.Second, streamertest.Stamp(last))
		}
		last = to.Unix()
		read.Store(last)
		frames++
		skipped += m.Skipped
		views += m.Second.Pageviews
		if want := uint32(2 * (last - from)); views != want {
			t.Fatalf("%d views up to %s, want %d", views, streamertest.Stamp(last), want)
		}
		if int64(frames+skipped) != last-from {
			t.Fatalf("%d frames and %d skipped for %d seconds", frames, skipped, last-from)
		}
		return skipped == 0 || frames < 8
	})
	if err != nil || skipped == 0 || frames < 8 {
		t.Fatalf("the stream ended after %d frames and %d skipped: %v", frames, skipped, err)
	}
	if w.metric("skipped_frames_total") == 0 || w.metric("conflated_frames_total") == 0 {
		t.Error("nothing was counted")
	}
}

func (s slowly) Read(b []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return s.Reader.Read(b[:min(len(b), 4096)])
}

// Viewers who join while many seconds become final at once receive each of them once: those behind their
// snapshot in frames of a second, or of several where the snapshot isn't acknowledged yet.
func TestJoinAtBurst(t *testing.T) { both(t, testJoinAtBurst) }

func testJoinAtBurst(t *testing.T, cfg Config) {
	w := newWorld(t)
	w.Final(100)
	base := w.streamer(cfg)
	const burst = 10
	for i := range 30 {
		begin := w.At
		emitted := make(chan struct{})
		go func() {
			defer close(emitted)
			if i%2 == 0 {
				runtime.Gosched()
			}
			w.burst(burst)
		}()
		s, _ := w.open(base, nil)
		m := s.Next()
		<-emitted
		at, err := time.Parse(time.RFC3339, m.Second.At)
		if err != nil || m.Event != "snapshot" || at.Unix() < begin {
			t.Fatalf("%v, the first of %s is %s", err, streamertest.Stamp(begin), m.Data)
		}
		for last := at.Unix(); last < w.At; {
			m = s.Next()
			to, err := time.Parse(time.RFC3339, m.Second.At)
			n := to.Unix() - last
			if err != nil || m.First() != streamertest.Stamp(last+1) || int64(m.Second.Pageviews) != 2*n ||
				int64(m.Skipped) != n-1 {
				t.Fatalf("after %s came %s (%v)", streamertest.Stamp(last), m.Data, err)
			}
			last = to.Unix()
		}
		s.Cancel()
	}
}

// burst makes the next n seconds final by one emission of each partition.
func (w *world) burst(n int64) {
	end := (w.At + n + 1) * 1000
	for p := range 2 {
		e := &window.Emission{Offset: w.At + n, Watermark: end, Now: end + 250}
		for at := w.At + 1; at <= w.At+n; at++ {
			e.Seconds = append(e.Seconds, window.Second{
				Site: "open.example.com", At: at, Pageviews: 1, Visitors: 1, Events: 1, Active: 3,
				Final: true, Revision: 2, Version: window.RowVersion(window.Epoch, true, at),
			})
		}
		w.Emit(p, e)
	}
	w.At += n
}

// A viewer that never reads is disconnected after Config.Stall, and other viewers receive every second.
func TestStalledViewer(t *testing.T) { both(t, testStalledViewer) }

func testStalledViewer(t *testing.T, cfg Config) {
	w := newWorld(t)
	base := w.streamer(cfg)
	w.Final(1)
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(1)
	fmt.Fprintf(c, "GET /api/events?site=open.example.com&top=100 HTTP/1.1\r\nHost: x\r\n\r\n")
	long := strings.Repeat("x", 2000)
	s, _ := w.open(base, nil)
	s.Next()
	for i := range 40 {
		w.Emit(0, w.longLists(i, long))
		w.Final(1)
		if m := s.Next(); m.Second == nil {
			t.Fatal("no second")
		}
	}
	w.eventually("the viewer is disconnected", func() bool {
		return w.metric("streams_ended_total", "blocked")+w.metric("streams_ended_total", "gone") == 1
	})
}

// Bytes that a viewer sends after its request, and connections that are reset, affect no other viewer.
func TestImpoliteViewers(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{})
	w.Final(1)
	good, _ := w.open(base, nil)
	good.Next()
	for i := range 60 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /api/events?site=open.example.com HTTP/1.%d\r\nHost: x\r\n\r\n", i%2)
		switch i % 3 {
		case 0:
			_, _ = c.Write(bytes.Repeat([]byte("GET / HTTP/1.1\r\n\r\n"), 1000))
		case 1:
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		_ = c.Close()
	}
	w.Final(1)
	good.Next()
	w.eventually("the others are gone", func() bool { return w.metric("viewers") == 1 })
}

// slowly reads a little at a time.
type slowly struct{ io.Reader }

// longLists is an emission whose pages have long names, so that frames are large.
func (w *world) longLists(i int, suffix string) *window.Emission {
	now := window.Now{
		Site: "open.example.com", At: w.At,
		Version: window.RowVersion(window.Epoch, false, int64(i+1)),
	}
	for k := range 100 {
		now.Pages = append(now.Pages, window.Count{Name: fmt.Sprintf("/%d/%s", k, suffix), Active: 1})
	}
	end := (w.At + 1) * 1000
	return &window.Emission{Offset: int64(i), Watermark: end, Now: end, Nows: []window.Now{now}}
}
