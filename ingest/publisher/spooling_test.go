package publisher

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"nowcast/ingest/publisher/spool"
	"nowcast/internal/event"
)

var errDown = errors.New("the log is down")

// withSpool runs f in a synctest bubble, with a log in memory. open opens the spool as a process does at
// its start.
func withSpool(t *testing.T, change func(*spool.Config),
	f func(t *testing.T, m *memory, open func() *spool.Spool)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f(t, &memory{values: map[int][]stored{}}, func() *spool.Spool {
			cfg := spool.Config{Dir: dir, MinFreeBytes: 1, Log: slog.New(slog.DiscardHandler)}
			if change != nil {
				change(&cfg)
			}
			s, err := spool.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
}

// TestSpool keeps the log down for five minutes. The disk acknowledges events meanwhile. Once the log
// is back, it gets them in order and at most maxReplaySpeed times as fast as they were written, and then the
// writer stops using the disk.
func TestSpool(t *testing.T) {
	withSpool(t, nil, func(t *testing.T, m *memory, open func() *spool.Spool) {
		disk := open()
		p, stop := m.publisher(t, disk, 1)
		time.Sleep(time.Second)
		m.set(0, errDown)
		before := time.Now()
		n := 0
		for ; time.Since(before) < 5*time.Minute; n++ {
			e := p.mustAdd(t, 0)
			sent := time.Now()
			<-e.done
			took := time.Since(sent)
			if e.err != nil || took > 100*time.Millisecond && time.Since(before) > 3*time.Second ||
				took > stuckAfter+100*time.Millisecond {
				t.Fatalf("acknowledged after %v: %v", took, e.err)
			}
			time.Sleep(500 * time.Millisecond)
		}
		if ok, reason := p.Ready(); !ok {
			t.Errorf("unready while the disk takes events: %s", reason)
		}
		if reason := p.Degraded(); !strings.Contains(reason, "its events wait on disk: "+errDown.Error()) {
			t.Errorf("degraded: %q", reason)
		}
		if m.events(t, 0) != 0 || disk.Envelopes() < int64(n) {
			t.Fatalf("%d events in the log, %d envelopes on disk, of %d", m.events(t, 0), disk.Envelopes(), n)
		}
		m.set(0, nil)
		back := time.Now()
		for ; disk.Envelopes() > 0; time.Sleep(50 * time.Millisecond) {
		}
		if took := time.Since(back); took < 90*time.Second || took > 110*time.Second {
			t.Errorf("5 minutes drained in %v", took)
		}
		if reason := p.Degraded(); reason != "" {
			t.Errorf("degraded when all is drained: %q", reason)
		}
		if got := m.events(t, 0); got != n {
			t.Errorf("%d of %d events in the log", got, n)
		}
		e := p.mustAdd(t, 0)
		synctest.Wait()
		if !acked(e) || disk.Envelopes() != 0 || p.writers[0].spooling {
			t.Error("the writer still uses the disk")
		}
		stop()
		m.mu.Lock()
		tries := m.tries
		m.mu.Unlock()
		if tries < 150 {
			t.Errorf("tried %d times", tries)
		}
		_ = disk.Close()
	})
}

// TestSpoolRecovered restarts the process while the log is unavailable: the last process sends what
// all of them left on disk.
func TestSpoolRecovered(t *testing.T) {
	withSpool(t, nil, func(t *testing.T, m *memory, open func() *spool.Spool) {
		n := 0
		for range 3 {
			disk := open()
			m.set(0, errDown)
			p, stop := m.publisher(t, disk, 2)
			time.Sleep(time.Second)
			var all []*Envelope
			for i := range 20 {
				all = append(all, p.mustAdd(t, i%2))
				time.Sleep(100 * time.Millisecond)
			}
			for _, e := range all {
				if <-e.done; e.err != nil {
					t.Fatal(e.err)
				}
				n++
			}
			last := p.mustAdd(t, 0) // not acknowledged when the stop begins
			stop()
			if <-last.done; last.err == nil {
				n++
			}
			_ = disk.Close()
		}
		m.set(0, nil)
		disk := open()
		if len(disk.Recovered()) != 6 {
			t.Errorf("%d queues recovered", len(disk.Recovered()))
		}
		_, stop := m.publisher(t, disk, 2)
		for ; disk.Envelopes() > 0; time.Sleep(50 * time.Millisecond) {
		}
		stop()
		if got := m.events(t, 0) + m.events(t, 1); got != n {
			t.Errorf("%d events in the log, %d were acknowledged", got, n)
		}
		_ = disk.Close()
	})
}

// TestSpoolFull fills the spool: it refuses events, Ready tells why, and later it takes events again.
func TestSpoolFull(t *testing.T) {
	withSpool(t, func(c *spool.Config) { c.MaxBytes = 20_000 },
		func(t *testing.T, m *memory, open func() *spool.Spool) {
			disk := open()
			p, stop := m.publisher(t, disk, 1)
			m.set(0, errDown)
			var all []*Envelope
			refused := 0
			for range 1000 {
				e, err := p.Add(0, &event.Event{}, nil)
				if err != nil {
					if !errors.Is(err, spool.ErrFull) {
						t.Fatal(err)
					}
					refused++
				} else {
					all = append(all, e)
				}
				time.Sleep(60 * time.Millisecond)
			}
			if refused == 0 {
				t.Fatal("never full")
			}
			if ok, reason := p.Ready(); ok {
				t.Error("ready with a full spool")
			} else {
				t.Log(reason)
			}
			m.set(0, nil)
			for ; disk.Envelopes() > 0; time.Sleep(50 * time.Millisecond) {
			}
			time.Sleep(time.Second)
			for _, e := range all {
				if !acked(e) {
					t.Fatal("an event that was taken wasn't acknowledged")
				}
			}
			if got := m.events(t, 0); got != len(all) {
				t.Errorf("%d of %d events in the log", got, len(all))
			}
			if e := p.mustAdd(t, 0); e != nil {
				synctest.Wait()
				if !acked(e) {
					t.Error("no event is taken afterwards")
				}
			}
			stop()
			_ = disk.Close()
		})
}

// TestSpoolBroken uses a disk that can't be written to: nothing is acknowledged, and the queue goes to
// the log once it is back.
func TestSpoolBroken(t *testing.T) {
	var dir string
	withSpool(t, func(c *spool.Config) { dir = c.Dir },
		func(t *testing.T, m *memory, open func() *spool.Spool) {
			disk := open()
			p, stop := m.publisher(t, disk, 1)
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			m.set(0, errDown)
			var all []*Envelope
			for range 20 {
				e, err := p.Add(0, &event.Event{}, nil)
				if err == nil {
					all = append(all, e)
				}
				time.Sleep(500 * time.Millisecond)
			}
			for _, e := range all {
				if acked(e) {
					t.Fatal("acknowledged, although neither log nor disk has it")
				}
			}
			m.set(0, nil)
			time.Sleep(5 * time.Second)
			for _, e := range all {
				if !acked(e) {
					t.Fatal("not acknowledged by the log")
				}
			}
			if got := m.events(t, 0); got != len(all) || got == 0 {
				t.Errorf("%d of %d events in the log", got, len(all))
			}
			stop()
			_ = disk.Close()
		})
}

// TestSpoolFails uses a disk that fails for a while, with another error than ErrFull. Ready tells the
// reason, and the writer uses the disk again once it works.
func TestSpoolFails(t *testing.T) {
	var dir string
	withSpool(t, func(c *spool.Config) { dir = c.Dir },
		func(t *testing.T, m *memory, open func() *spool.Spool) {
			disk := open()
			p, stop := m.publisher(t, disk, 1)
			// which can't be made where a directory is
			file := filepath.Join(dir, fmt.Sprintf("%016x-%05d-%08d.spool", p.node, 0, 0))
			if err := os.Mkdir(file, 0o700); err != nil {
				t.Fatal(err)
			}
			m.set(0, errDown)
			e := p.mustAdd(t, 0)
			time.Sleep(30 * time.Second)
			ok, reason := p.Ready()
			if acked(e) || ok || !strings.Contains(reason, "can't be put on disk") ||
				strings.Count(reason, "is a directory") != 1 || disk.Full() != nil {
				t.Errorf("acknowledged %v, ready %v: %s (full: %v)", acked(e), ok, reason, disk.Full())
			}
			if _, sendErr, spoolErr := p.writers[0].stuck(); !errors.Is(sendErr, errDown) ||
				errors.Is(sendErr, syscall.EISDIR) || !errors.Is(spoolErr, syscall.EISDIR) {
				t.Errorf("the log fails with %v, the disk with %v", sendErr, spoolErr)
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if ok, reason := p.Ready(); !acked(e) || !ok {
				t.Errorf("acknowledged %v, ready %v once the disk is back: %s", acked(e), ok, reason)
			}
			m.set(0, nil)
			time.Sleep(20 * time.Second)
			if ok, reason := p.Ready(); !ok || m.events(t, 0) != 1 || disk.Envelopes() != 0 {
				t.Errorf("%d events in the log, %d envelopes on disk: %s", m.events(t, 0), disk.Envelopes(),
					reason)
			}
			stop()
			_ = disk.Close()
		})
}

// TestSpoolUnknownOutcome lets the log take envelopes after the writer has put them on disk: they are
// sent again with the same sequence.
func TestSpoolUnknownOutcome(t *testing.T) {
	withSpool(t, nil, func(t *testing.T, m *memory, open func() *spool.Spool) {
		disk := open()
		p, stop := m.publisher(t, disk, 1)
		m.set(4*time.Second, nil) // longer than stuckAfter
		var all []*Envelope
		for range 30 {
			all = append(all, p.mustAdd(t, 0))
			time.Sleep(200 * time.Millisecond)
		}
		m.set(0, nil)
		for ; disk.Envelopes() > 0; time.Sleep(50 * time.Millisecond) {
		}
		time.Sleep(time.Second)
		for _, e := range all {
			if !acked(e) {
				t.Fatal("not acknowledged")
			}
		}
		if got := m.events(t, 0); got != len(all) {
			t.Errorf("%d of %d events in the log", got, len(all))
		}
		stop()
		_ = disk.Close()
	})
}
