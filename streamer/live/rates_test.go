package live

import (
	"fmt"
	"testing"
	"time"

	"nowcast/internal/window"
	"nowcast/streamer/streamertest"
)

func TestSlowRatesMerge(t *testing.T) { both(t, testSlowRatesMerge) }

func testSlowRatesMerge(t *testing.T, cfg Config) {
	w := newWorld(t)
	base := w.streamer(cfg)
	w.Final(1)
	var s *streamertest.Stream
	// A server that has read only one partition starts its frames earlier.
	w.eventually("a snapshot with the first second", func() bool {
		s, _ = w.open(base, nil, "rate", "5s")
		return s.Next().ID == streamertest.EventID(w.At, 0)
	})
	from := w.At + 1
	w.Final(23)
	var sum uint32
	for next := from; next <= w.At-5; {
		m := s.Next()
		start, err := time.Parse(time.RFC3339, m.First())
		if err != nil || start.Unix() != next {
			t.Fatalf("begins at %v, want %s", m.Second, streamertest.Stamp(next))
		}
		end, _ := time.Parse(time.RFC3339, m.Second.At)
		if (end.Unix()+1)%5 != 0 {
			t.Errorf("ends at %s", m.Second.At)
		}
		sum += m.Second.Pageviews
		next = end.Unix() + 1
		if sum != uint32(2*(next-from)) {
			t.Errorf("%d views in %d seconds", sum, next-from)
		}
	}
}

func TestTop(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{})
	w.Final(1)
	end := (w.At + 1) * 1000
	e := &window.Emission{Offset: w.At, Watermark: end, Now: end, Nows: []window.Now{{
		Site: "open.example.com", At: w.At, Version: window.RowVersion(window.Epoch, false, 1), RestPages: 5,
	}}}
	for i := range 20 {
		e.Nows[0].Pages = append(
			e.Nows[0].Pages, window.Count{Name: fmt.Sprintf("/%02d", i), Active: uint32(40 - i)},
		)
	}
	w.Emit(0, e)
	for top, want := range map[string]string{"": "10 [{/00 40}] 260", "3": "3 [{/00 40}] 498"} {
		w.eventually("list", func() bool {
			q := []string{"top", top}
			if top == "" {
				q = nil
			}
			s, _ := w.open(base, nil, q...)
			defer s.Cancel()
			m := s.Next()
			return m.Now != nil && len(m.Now.Pages) > 0 &&
				fmt.Sprint(len(m.Now.Pages), m.Now.Pages[:1], m.Now.Rest.Pages) == want
		})
	}
	s, _ := w.open(base, nil, "top", "0")
	if m := s.Next(); m.Now != nil {
		t.Errorf("%+v", m.Now)
	}
}
