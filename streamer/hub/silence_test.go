package hub

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nowcast/internal/window"
	"nowcast/streamer/board"
	"nowcast/streamer/frame"
)

// secondOf is the second in a message's data.
type secondOf struct {
	ID     frame.ID
	Frame  bool // incomplete, of the visitors
	Second struct {
		At, From   time.Time
		Pageviews  int
		Incomplete bool
	}
}

func parseMessage(t *testing.T, b []byte) (m secondOf) {
	t.Helper()
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			m.ID, _ = frame.ParseID(id)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			if err := json.Unmarshal([]byte(data), &m); err != nil {
				t.Fatal(err)
			}
			m.Frame = strings.Contains(data[:strings.Index(data, `"second"`)], `"incomplete":true`)
		}
	}
	return m
}

// A partition is silent for ten minutes and comes back. A viewer gets each second once, marked where it lacks
// the partition, and the complete ones have all page views.
func TestSilentPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := board.New(2)
		h := New(b)
		var s queueSink
		at := int64(T)
		emit := func(p int, at int64) {
			b.Apply(p, at, emission(at, window.Second{Site: "x", Pageviews: uint32(p + 1), Events: 1}))
			h.deliverChanges()
		}
		tick := func(partitions ...int) {
			time.Sleep(time.Second)
			at++
			for _, p := range partitions {
				emit(p, at)
			}
		}
		tick(0, 1)
		join(t, h, FeedKey{Sites: "x", Rate: rate("1s")}, Resume{}, &s)
		through, incomplete := at, 0
		received := func() {
			for _, d := range s.queue {
				for _, f := range d.frames {
					m := parseMessage(t, f.Bytes)
					from, to := m.Second.At.Unix(), m.Second.At.Unix()
					if !m.Second.From.IsZero() {
						from = m.Second.From.Unix()
					}
					if from != through+1 || m.ID.LastSecond != to {
						t.Fatalf("after %d come %d to %d, with id %+v", through, from, to, m.ID)
					}
					n := int(to - from + 1)
					if m.Second.Incomplete {
						incomplete += n
					}
					want := map[bool]int{true: n, false: 3 * n}[m.Second.Incomplete]
					if m.Second.Pageviews != want || m.Frame != m.Second.Incomplete {
						t.Fatalf("%d seconds: %+v, want %d page views", n, m, want)
					}
					through = to
				}
			}
			s.queue = nil
		}
		for range 10 {
			tick(0, 1)
		}
		for range 600 {
			tick(0)
		}
		if received(); through != at {
			t.Fatalf("the newest second is %d s old", at-through)
		}
		for missed := at - 599; missed <= at; missed++ {
			emit(1, missed)
		}
		for range 10 {
			tick(0, 1)
		}
		if received(); through != at || incomplete != 600 {
			t.Errorf("the newest second is %d s old, and %d were incomplete", at-through, incomplete)
		}
	})
}
