package hub

import (
	"fmt"
	"strings"
	"testing"

	"nowcast/internal/window"
	"nowcast/streamer/board"
)

// Viewers who join a new log before any second is final get the first final seconds, however many become
// final at once, and then each further one once. So does one that can't take them at once.
func TestFirstFinalSeconds(t *testing.T) {
	for _, name := range RateNames() {
		t.Run(name, func(t *testing.T) {
			b := board.New(2)
			h := New(b)
			var s queueSink
			feed := join(t, h, FeedKey{Sites: "x", Rate: rate(name)}, Resume{}, &s).Feed
			emit := func(p int, at int64) {
				b.Apply(p, at, emission(at, window.Second{Site: "x", Pageviews: 1, Events: 1, Active: 1}))
				h.deliverChanges()
			}
			for at := int64(T); at < T+4; at++ {
				emit(0, at)
			}
			var prompt, slow Cursor
			var received []string
			take := func() {
				for _, d := range s.queue {
					for i := range d.frames {
						slow.Missed++
						if b := feed.Next(&prompt, &d.frames[i]); d.frames[i].Through > 0 {
							received = append(received, string(b))
						}
					}
				}
				s.queue = nil
			}
			emit(1, T+3)
			take()
			first := received[len(received)-1]
			for at := T; at < T+4; at++ {
				stamp := fmt.Sprintf(`{"at":"2026-11-23T12:00:0%dZ","pageviews":`, at-T)
				if !strings.HasPrefix(first, "event: snapshot\n") || strings.Count(first, stamp) == 0 {
					t.Fatalf("second %d isn't in %s", at-T, first)
				}
			}
			if prompt.SentThrough != T+3 {
				t.Errorf("sent through %d", prompt.SentThrough-T)
			}
			if got := string(feed.CatchUp(&slow)); got != first {
				t.Errorf("the slow viewer got %s, want %s", got, first)
			}
			received = nil
			for at := int64(T + 4); at < T+60; at++ {
				emit(0, at)
				emit(1, at)
			}
			take()
			sum := 0
			for _, m := range received {
				if i := strings.Index(m, `"final":true`); i >= 0 && strings.HasPrefix(m, "id: ") {
					var n int
					at := strings.Index(m, `"pageviews":`)
					_, _ = fmt.Sscanf(m[at:], `"pageviews":%d`, &n)
					sum += n
				}
			}
			if want := 2 * (T + 59 - (T + 3)); sum != want {
				t.Errorf("%d page views, want %d", sum, want)
			}
		})
	}
}
