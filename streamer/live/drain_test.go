package live

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"nowcast/streamer/streamertest"
)

// A server that ends disconnects its viewers one after the other; each continues at another server and has
// every second once.
func TestDrain(t *testing.T) { both(t, testDrain) }

func testDrain(t *testing.T, cfg Config) {
	w := newWorld(t)
	s, base := w.service(cfg)
	other := w.streamer(cfg)
	w.Final(3)
	const viewers = 40
	var streams []*streamertest.Stream
	last := make([]string, viewers)
	for range viewers {
		c, _ := w.open(base, nil)
		c.Next()
		streams = append(streams, c)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Drain(ctx) }()
	began := time.Now()
	stop()
	w.Final(2)
	if err := <-done; err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	if n := s.push.Viewers(); n != 0 {
		t.Errorf("%d viewers remain", n)
	}
	res, _ := w.get(base + "/api/events?site=open.example.com")
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Error(res.Status)
	}
	w.Final(2)
	for i, c := range streams {
		sent := int64(0)
		for m := range c.Messages {
			last[i] = m.ID
		}
		if last[i] == "" {
			last[i] = streamertest.EventID(w.At-4, 0)
		}
		if _, err := fmt.Sscanf(last[i], "1-%d-0", &sent); err != nil {
			t.Fatal(err)
		}
		c, _ = w.open(other, nil, "lastEventId", last[i])
		for m := c.Next(); sent < w.At; m = c.Next() {
			if m.Seconds != nil {
				for _, x := range *m.Seconds {
					if x.Final && x.At != streamertest.Stamp(sent+1) {
						t.Fatalf("%s after %s", x.At, streamertest.Stamp(sent))
					} else if x.Final {
						sent++
					}
				}
			} else if m.Second.At != streamertest.Stamp(sent+1) {
				t.Fatalf("%s after %s", m.Second.At, streamertest.Stamp(sent))
			} else {
				sent++
			}
			if sent == w.At {
				break
			}
		}
		c.Cancel()
	}
	if w.metric("viewers") < 0 {
		t.Error("the gauge is negative")
	}
}

// A drain disconnects at most 1,000 viewers a second where its time allows.
func TestDrainIsPaced(t *testing.T) {
	w := newWorld(t)
	s, base := w.service(Config{})
	w.Final(1)
	const viewers = 600
	ended := make(chan time.Time, viewers)
	for range viewers {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /api/events?site=open.example.com HTTP/1.0\r\n\r\n")
		go func() {
			defer c.Close()
			b, _ := io.ReadAll(c)
			if !bytes.HasSuffix(b, []byte("\n\n")) ||
				!bytes.Contains(b[max(0, len(b)-20):], []byte("retry: ")) {
				t.Errorf("the stream has no retry at its end: %q", b[max(0, len(b)-100):])
			}
			ended <- time.Now()
		}()
	}
	w.eventually("all viewers are connected", func() bool { return s.push.Viewers() == viewers })
	ctx, stop := context.WithCancel(t.Context())
	stop()
	began := time.Now()
	_ = s.Drain(ctx)
	if took := time.Since(began); took < 500*time.Millisecond || took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	var times []time.Time
	for range viewers {
		times = append(times, <-ended)
	}
	slices.SortFunc(times, time.Time.Compare)
	for i := 300; i < viewers; i++ {
		if times[i].Sub(times[i-300]) < 100*time.Millisecond {
			t.Fatalf("300 ended within %s", times[i].Sub(times[i-300]))
		}
	}
}
