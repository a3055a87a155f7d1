package live

import (
	"sync/atomic"
	"testing"
	"time"

	"nowcast/streamer/streamertest"
)

// TestWake opens a stream while the log stands nearly still: the first message has what the log says now.
func TestWake(t *testing.T) {
	w := newWorld(t)
	w.Final(3)
	var idle atomic.Bool
	woken := make(chan struct{}, 2)
	wake := func() bool {
		if !idle.CompareAndSwap(true, false) {
			return false
		}
		woken <- struct{}{}
		return true
	}
	server, base := w.service(Config{Wake: wake})
	goOn := func() { // as ingest and aggregator do after a wake-up
		<-woken
		time.Sleep(50 * time.Millisecond)
		w.Final(15)
	}
	for range 2 {
		w.eventually("all seconds on the board", func() bool { // from then on the log stands still
			return server.tail.board().LastFinal() == w.At
		})
		idle.Store(true)
		done := make(chan struct{})
		go func() { defer close(done); goOn() }()
		s, _ := w.open(base, nil)
		m := s.Next()
		<-done
		n := len(*m.Seconds)
		if m.Event != "snapshot" || n == 0 || (*m.Seconds)[n-1].At < streamertest.Stamp(w.At-14) {
			t.Errorf("the snapshot ends with %+v, the log with %s", (*m.Seconds)[n-1],
				streamertest.Stamp(w.At))
		}
	}
	idle.Store(true)
	done := make(chan struct{})
	go func() { defer close(done); goOn() }()
	if _, err := server.Visitors(t.Context(), "open.example.com"); err != nil || idle.Load() {
		t.Errorf("a question about active visitors: %v, still idle: %t", err, idle.Load())
	}
	<-done
	s, _ := w.open(base, nil)
	s.Until(streamertest.EventID(w.At, 0))
	// A log that doesn't go on delays a viewer by wakeTimeout only.
	idle.Store(true)
	begin := time.Now()
	s, _ = w.open(base, nil)
	if m := s.Next(); m.Event != "snapshot" || time.Since(begin) < wakeTimeout {
		t.Errorf("%s after %v", m.Event, time.Since(begin))
	}
}
