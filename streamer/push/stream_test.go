package push

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A viewer gets each frame whole and in order; the metrics count what it got, and when it leaves its
// slot is released.
func TestFrames(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string, cfg Config) {
		w := start(t, cfg)
		c, first := w.open("slot=7")
		if n := len(*first.Seconds); n != 1 || (*first.Seconds)[0].At.Unix() != T {
			t.Fatalf("%d seconds in the snapshot", n)
		}
		bytes := 0
		for range 5 {
			w.finalize()
			m := c.next()
			if m.Second == nil || m.Second.At.Unix() != w.at || m.Second.Pageviews != 2 || m.Skipped != 0 {
				t.Fatalf("%+v", m)
			}
			if want := "1-" + strconv.FormatInt(w.at, 10) + "-0"; m.id != want {
				t.Errorf("id %s, want %s", m.id, want)
			}
			bytes += m.size
		}
		w.eventually("frames are counted", func() bool {
			return w.metric("frames_total", "rate", "1s") == 5 &&
				w.metric("bytes_total", "rate", "1s") == float64(bytes)
		})
		if n := w.metric("viewers", "transport", transport, "rate", "1s"); n != 1 || w.engine.Viewers() != 1 {
			t.Errorf("%v viewers by %s, %d in all", n, transport, w.engine.Viewers())
		}
		if w.metric("frame_age_seconds") == 0 || len(w.slots()) != 0 {
			t.Errorf("%v ages, %v released", w.metric("frame_age_seconds"), w.slots())
		}
		c.conn.Close()
		w.ended("gone", 7)
	})
}

// ended waits until one stream has ended for a reason, and checks that its slot is released and the
// gauges are 0.
func (w *world) ended(reason string, slot uint64) {
	w.t.Helper()
	w.eventually("the stream has ended, its slot is released and the gauges are 0", func() bool {
		return w.metric("streams_ended_total", "reason", reason) == 1 &&
			slices.Equal(w.slots(), []uint64{slot}) && w.engine.Viewers() == 0 && w.metric("viewers") == 0
	})
	if n := w.metric("streams_ended_total"); n != 1 {
		w.t.Errorf("%v streams have ended", n)
	}
}

// A viewer that doesn't read misses frames and delays no other viewer. When it reads again, it gets the
// message that was cut whole, and then one frame whose sums and skipped frames add up.
func TestSlowViewer(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string, cfg Config) {
		w := start(t, cfg)
		w.makeFramesLarge()
		fast, _ := w.open("top=100")
		slow, _ := w.open("top=100")
		_ = slow.conn.(*net.TCPConn).SetReadBuffer(16 << 10)
		last, skipped := w.at, 0
		n := 10 // more than a socket's buffers hold
		if transport == "handler" {
			n = 2 * maxQueuedFrames // and more than the handler's queue
		}
		for range n {
			w.finalize()
			fast.nextAt(w.at)
		}
		for last < w.at {
			m := slow.next()
			from := m.Second.At.Unix()
			if !m.Second.From.IsZero() {
				from = m.Second.From.Unix()
			}
			n := int(m.Second.At.Unix() - last)
			if from != last+1 || m.Second.Pageviews != 2*n || m.Skipped != n-1 {
				t.Fatalf("%+v after %d: %+v", *m.Second, last, m)
			}
			last = m.Second.At.Unix()
			skipped += m.Skipped
		}
		if skipped == 0 {
			t.Error("no frame was skipped")
		}
		w.eventually("skipped frames are counted", func() bool {
			return w.metric("skipped_frames_total") > 0 && w.metric("conflated_frames_total") > 0
		})
		if transport != "handler" && w.metric("write_blocks_total") == 0 {
			t.Error("no write was cut")
		}
		w.finalize()
		fast.nextAt(w.at)
		slow.nextAt(w.at)
	})
}

// A viewer that takes no byte for Config.Stall is disconnected; others stay.
func TestStalledViewer(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string, cfg Config) {
		cfg.Stall = 5 * time.Second
		reason := "blocked"
		// net/http has a clock of its own, and reports a time-out as a failed write
		if transport == "handler" {
			cfg.Stall, reason = 200*time.Millisecond, "gone"
		}
		w := start(t, cfg)
		w.makeFramesLarge()
		fast, _ := w.open("top=100")
		slow, _ := w.open("top=100&slot=3")
		_ = slow.conn.(*net.TCPConn).SetReadBuffer(16 << 10)
		ended := func() bool { return w.metric("streams_ended_total", "reason", reason) == 1 }
		for deadline := time.Now().Add(patience); w.metric("skipped_frames_total") == 0 && !ended(); {
			if time.Now().After(deadline) {
				t.Fatal("the viewer doesn't stall")
			}
			w.finalize()
			fast.nextAt(w.at)
		}
		w.eventually("the viewer is disconnected", func() bool {
			w.skew.Add(int64(time.Second)) // its kernel may still take some bytes
			return ended()
		})
		w.eventually("the slot is released", func() bool { return slices.Equal(w.slots(), []uint64{3}) })
		w.finalize()
		fast.nextAt(w.at)
		if n := w.engine.Viewers(); n != 1 {
			t.Errorf("%d viewers are left", n)
		}
	})
}

// Each way in which the engine ends a stream has its reason, and tells the client to reconnect after a
// random delay.
func TestEnds(t *testing.T) {
	for _, row := range []struct {
		reason, query string
		end           func(w *world, revoked *atomic.Bool)
	}{
		{"lifetime", "slot=1&lifetime=50ms", func(*world, *atomic.Bool) {}},
		{"revoked", "slot=1&authorization=a", func(_ *world, revoked *atomic.Bool) { revoked.Store(true) }},
		{"restarted", "slot=1", func(w *world, _ *atomic.Bool) { w.engine.EndAll() }},
		{"drained", "slot=1", func(w *world, _ *atomic.Bool) { w.engine.Drain(t.Context(), time.Second) }},
		{"drained", "slot=1", func(w *world, _ *atomic.Bool) { w.stop() }},
	} {
		t.Run(row.reason, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, _ string, cfg Config) {
				var revoked atomic.Bool
				cfg.RecheckInterval = time.Millisecond
				cfg.Authorized = func(text string) bool { return text != "a" || !revoked.Load() }
				w := start(t, cfg)
				c, _ := w.open(row.query)
				row.end(w, &revoked)
				c.expectReconnect()
				w.ended(row.reason, 1)
			})
		})
	}
}

// expectReconnect reads up to the end of the stream, which has to be the field that tells a client when
// to reconnect.
func (c *client) expectReconnect() {
	c.t.Helper()
	var last message
	for {
		m, err := c.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.t.Fatal(err)
		}
		last = m
	}
	if ms, err := strconv.Atoi(last.retry); err != nil || ms < 300 || ms >= 1500 {
		c.t.Errorf("the stream ends with %+v", last)
	}
}

// An authorization that is revoked ends the streams that it opened, and no others.
func TestRevokedAuthorization(t *testing.T) {
	eachTransport(t, func(t *testing.T, _ string, cfg Config) {
		var revoked atomic.Bool
		cfg.RecheckInterval = time.Millisecond
		cfg.Authorized = func(text string) bool { return text == "b" || !revoked.Load() }
		w := start(t, cfg)
		a, _ := w.open("authorization=a&slot=1")
		b, _ := w.open("authorization=b&slot=2")
		revoked.Store(true)
		a.expectReconnect()
		w.finalize()
		b.nextAt(w.at)
		w.eventually("one slot is released", func() bool { return slices.Equal(w.slots(), []uint64{1}) })
	})
}

// A viewer leaves between the moment at which its authorization is found invalid and the moment at which its
// streams are ended. Another viewer, who comes in between, isn't ended in its place.
func TestRevokedWhileViewersChange(t *testing.T) {
	eachTransport(t, func(t *testing.T, _ string, cfg Config) {
		deciding, decide := make(chan struct{}), make(chan struct{})
		cfg.RecheckInterval = time.Millisecond
		var once sync.Once
		cfg.Authorized = func(text string) bool {
			if text != "a" {
				return true
			}
			once.Do(func() { close(deciding); <-decide })
			return false
		}
		w := start(t, cfg)
		a, _ := w.open("authorization=a&slot=1")
		<-deciding
		a.conn.Close()
		w.eventually("the first viewer has left", func() bool { return w.engine.Viewers() == 0 })
		b, _ := w.open("authorization=b&slot=2")
		close(decide)
		for range 20 { // a recheck a millisecond
			w.finalize()
			b.nextAt(w.at)
		}
	})
}

// Drain ends all streams and returns when none is left.
func TestDrain(t *testing.T) {
	eachTransport(t, func(t *testing.T, _ string, cfg Config) {
		w := start(t, cfg)
		var clients []*client
		for range 20 {
			c, _ := w.open("")
			clients = append(clients, c)
		}
		w.engine.Drain(t.Context(), 10*time.Second)
		if n := w.engine.Viewers(); n != 0 {
			t.Errorf("%d viewers are left", n)
		}
		for _, c := range clients {
			c.expectReconnect()
		}
	})
}

// Drain gives up when its context ends.
func TestDrainIsCancelled(t *testing.T) {
	w := start(t, Config{})
	for range 5 {
		w.open("")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.engine.Drain(ctx, time.Hour)
	if w.engine.Viewers() == 0 {
		t.Error("all streams have ended")
	}
}

// A pacer lets so many streams a second end, and after a stop of the process no more than those of
// maxPacerGap at once.
func TestPacer(t *testing.T) {
	at := time.Unix(T, 0)
	p := newPacer(1000, at)
	for i, row := range []struct {
		elapsed time.Duration
		n       int
	}{
		{0, 1},
		{0, 0},
		{20 * time.Millisecond, 20},
		{500 * time.Microsecond, 0},
		{500 * time.Microsecond, 1},
		{maxPacerGap, 100},
		{time.Hour, 100},
		{time.Millisecond, 1},
	} {
		at = at.Add(row.elapsed)
		if n := p.take(at); n != row.n {
			t.Errorf("step %d: %d tokens, want %d", i, n, row.n)
		}
	}
}

// Without a running hub nothing is streamed: a handler may answer with an error, and a connection that
// was taken from net/http gets an empty stream, after which an EventSource reconnects.
func TestClosedHub(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string, cfg Config) {
		w := start(t, cfg)
		w.stopHub()
		c := w.connect("slot=5")
		if transport == "handler" {
			c.readHead(http.StatusServiceUnavailable)
		} else {
			c.readHead(http.StatusOK)
			c.expectReconnect()
		}
		w.eventually("the slot is released", func() bool { return slices.Equal(w.slots(), []uint64{5}) })
		if n := w.engine.Viewers(); n != 0 {
			t.Errorf("%d viewers are counted", n)
		}
	})
}

// A viewer behind TLS is served by a handler, with HTTP/1.1 as with HTTP/2.
func TestTLS(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			w := newWorld(t, Config{})
			w.run()
			w.server.EnableHTTP2 = protocol == "HTTP/2.0"
			w.server.StartTLS()
			transport := w.server.Client().Transport.(*http.Transport).Clone()
			transport.ForceAttemptHTTP2 = w.server.EnableHTTP2
			if !w.server.EnableHTTP2 {
				transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			defer transport.CloseIdleConnections()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := (&http.Client{Transport: transport}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.Proto != protocol || w.metric("viewers", "transport", "handler") != 1 {
				t.Errorf("%s, %v viewers by handlers", res.Proto, w.metric("viewers", "transport", "handler"))
			}
			cancel()
			w.ended("gone", 0)
		})
	}
}
