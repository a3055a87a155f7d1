package streamer

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"nowcast/streamer/access"
	"nowcast/streamer/live"
	"nowcast/streamer/streamertest"
)

// A full instance answers so that an EventSource connects again.
func TestFull(t *testing.T) {
	for _, transport := range []live.Transport{"", live.Epoll, live.Handlers} {
		t.Run(
			string(transport),
			func(t *testing.T) { testFull(t, live.Config{Transport: transport, Stall: time.Second}) },
		)
	}
}

func testFull(t *testing.T, how live.Config) {
	w := newWorld(t)
	cfg := Config{Live: how, Limits: access.Limits{Viewers: 2}}
	base := w.streamer(cfg)
	w.Final(1)
	a, _ := w.open(base, nil)
	b, _ := w.open(base, nil)
	a.Next()
	b.Next()
	res, body := w.get("GET", base+"/api/events?site=open.example.com", "", "")
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" ||
		!strings.Contains(body, "limit of viewers") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	res, body = w.get(
		"GET", base+"/api/events?site=open.example.com", "", "", "User-Agent", "Mozilla/5.0 (X11)",
	)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" ||
		!strings.HasPrefix(body, "retry: ") ||
		strings.Contains(body, "data:") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	a.Cancel()
	streamertest.Eventually(t, "a stream can be opened again", func() bool {
		s, res := w.open(base, nil)
		defer s.Cancel()
		return res.StatusCode == http.StatusOK
	})
}
