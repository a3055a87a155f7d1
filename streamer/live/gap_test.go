package live

import (
	"context"
	"errors"
	"sync"
	"testing"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
	"nowcast/streamer/board"
	"nowcast/streamer/streamertest"
)

// A viewer that was away for longer than the board holds seconds receives the gap from history if history
// has all of it, and a reset otherwise.
func TestGap(t *testing.T) {
	w := newWorld(t)
	w.At = w.Start - 500
	w.Start = w.At + 1
	w.Final(460)
	past := &storedSeconds{}
	w.history = past
	base := w.streamer(Config{})
	w.eventually("all are read", func() bool {
		s, _ := w.open(base, nil)
		defer s.Cancel()
		return s.Next().ID == streamertest.EventID(w.At, 0)
	})
	ends := map[int]int64{}
	for p := range 2 {
		_, end, err := w.Kafka.Bounds(t.Context(), topic.Windows, p)
		if err != nil {
			t.Fatal(err)
		}
		ends[p] = end
	}
	away := w.At - 420
	held := w.At - 300
	for _, row := range []struct {
		name      string
		committed [2]int64
		err       error
		id        int64
		filled    bool
	}{
		{"nothing was ever committed", [2]int64{-1, -1}, nil, away, false},
		{"one partition lacks some", [2]int64{ends[0], 100}, nil, away, false},
		{"ClickHouse has it all", [2]int64{ends[0], ends[1]}, nil, away, true},
		{"just enough", [2]int64{ends[0] - 300, ends[1] - 300}, nil, away, true},
		{"one less", [2]int64{ends[0] - 301, ends[1] - 300}, nil, away, false},
		{"ClickHouse is away", [2]int64{ends[0], ends[1]}, errors.New("away"), away, false},
		{"too long ago", [2]int64{ends[0], ends[1]}, nil, w.At - 4000, false},
	} {
		past.fail(row.err)
		if row.committed[0] >= 0 {
			store := broker.Membership{Group: topic.Group("store"), Generation: -1}
			err := w.Kafka.Commit(t.Context(), store, []broker.Position{
				{Topic: topic.Windows, Offset: row.committed[0]},
				{Topic: topic.Windows, Partition: 1, Offset: row.committed[1]},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		c, _ := w.open(base, nil, "lastEventId", streamertest.EventID(row.id, 0))
		m := c.Next()
		if (m.Event == "reset") == row.filled {
			t.Errorf("%s: %s", row.name, m.Event)
			continue
		}
		if !row.filled {
			continue
		}
		if from, to := past.bounds(); from != row.id || to != held {
			t.Errorf("%s: read %d to %d, want %d to %d", row.name, from, to, row.id, held)
		}
		want := row.id + 1
		for _, x := range *m.Seconds {
			if x.At != streamertest.Stamp(want) || !x.Final || x.Pageviews == 0 {
				t.Fatalf("%s: %+v, want %s", row.name, x, streamertest.Stamp(want))
			}
			want++
		}
		if want != w.At+1 {
			t.Errorf("%s: ends at %s", row.name, streamertest.Stamp(want-1))
		}
	}
}

func (p *storedSeconds) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *storedSeconds) bounds() (from, to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.from, p.to
}

func (p *storedSeconds) Seconds(_ context.Context, _ string, from, to int64) (out []board.Second, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.to = from, to
	for at := from + 1; at <= to; at++ {
		out = append(
			out, board.Second{At: at, Pageviews: 1, Visitors: 1, Events: 1, Revision: 2, Final: true},
		)
	}
	return out, p.err
}

// storedSeconds is a history in which every second had one event.
type storedSeconds struct {
	mu       sync.Mutex
	from, to int64
	err      error
}
