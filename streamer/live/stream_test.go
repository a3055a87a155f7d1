package live

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"nowcast/internal/topic"
	"nowcast/internal/window"
	"nowcast/streamer/streamertest"
)

func TestSnapshotThenEverySecondOnce(t *testing.T) { both(t, testSnapshotThenEverySecondOnce) }

func testSnapshotThenEverySecondOnce(t *testing.T, cfg Config) {
	w := newWorld(t)
	w.Final(1) // a server that is ready has a final second
	base := w.streamer(cfg)
	w.Final(4)
	s, res := w.open(base, nil)
	if h := res.Header; h.Get("Content-Type") != "text/event-stream" ||
		h.Get("Cache-Control") != "no-cache, no-transform" || h.Get("X-Accel-Buffering") != "no" {
		t.Error(h)
	}
	seen := map[string]int{}
	m := s.Next()
	if m.Event != "snapshot" || m.Visitors != 6 && m.Second != nil {
		t.Errorf("%+v", m)
	}
	for _, x := range *m.Seconds {
		// a second of which one partition is unread is provisional here, and sent again when it is final
		if x.Final {
			seen[x.At]++
		}
	}
	w.Final(20)
	for last := streamertest.Stamp(w.At); seen[last] == 0; {
		m = s.Next()
		if m.Event != "" || m.Second == nil || !m.Second.Final || m.Second.Pageviews != 2 ||
			m.Visitors != 6 || m.Skipped != 0 {
			t.Fatalf("%+v", m)
		}
		seen[m.Second.At]++
	}
	for at := w.Start; at <= w.At; at++ {
		if seen[streamertest.Stamp(at)] != 1 {
			t.Errorf("%s was sent %d times", streamertest.Stamp(at), seen[streamertest.Stamp(at)])
		}
	}
}

func TestResume(t *testing.T) { both(t, testResume) }

func testResume(t *testing.T, cfg Config) {
	w := newWorld(t)
	one, other := w.streamer(cfg), w.streamer(cfg)
	w.Final(30)
	s, _ := w.open(one, nil)
	s.Until(streamertest.EventID(w.At, 0)) // a snapshot may be older than the last record
	s.Cancel()
	id := streamertest.EventID(w.At-10, 0)
	for _, row := range []struct {
		name, header, query string
		reset               bool
		seconds             int
	}{
		{"header", id, "", false, 10},
		{"query", "", id, false, 10},
		{"header over query", id, streamertest.EventID(w.At-20, 0), false, 10},
		{"of a provisional second", streamertest.EventID(w.At-10, 7), "", false, 10},
		{"nothing since", streamertest.EventID(w.At, 0), "", false, 0},
		{"ahead of this instance", streamertest.EventID(w.At+2, 0), "", false, 0},
		{"far ahead", streamertest.EventID(w.At+1000, 0), "", true, 30},
		{"too old", streamertest.EventID(w.At-1000, 0), "", true, 30},
		{"other epoch", fmt.Sprintf("9-%d-0", w.At), "", true, 30},
		{"garbage", "\u00ff';--", "", true, 30},
		{"negative", "1--5-0", "", true, 30},
		{"huge", "1-99999999999999999999999-0", "", true, 30},
	} {
		h := http.Header{}
		if row.header != "" {
			h.Set("Last-Event-ID", row.header)
		}
		q := []string{}
		if row.query != "" {
			q = []string{"lastEventId", row.query}
		}
		var m streamertest.Message
		w.eventually(row.name, func() bool { // the other server may be behind for a moment
			s, res := w.open(other, h, q...)
			if res.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s", row.name, res.Status)
			}
			defer s.Cancel()
			m = s.Next()
			reset := m.Event == "reset"
			if reset {
				m = s.Next()
			}
			return reset == row.reset && m.Seconds != nil && len(*m.Seconds) == row.seconds
		})
	}
	// A viewer that is ahead of this server receives no second twice.
	s, _ = w.open(other, nil, "lastEventId", streamertest.EventID(w.At+2, 0))
	s.Next()
	w.Final(4)
	if m := s.Next(); m.Second.At != streamertest.Stamp(w.At-1) {
		t.Errorf("first after the id: %s, want %s", m.Second.At, streamertest.Stamp(w.At-1))
	}
}

// A viewer who has seen seconds before a cut of the log begins again: they may have had other numbers.
func TestResumeAfterCut(t *testing.T) { both(t, testResumeAfterCut) }

func testResumeAfterCut(t *testing.T, cfg Config) {
	w := newWorld(t)
	server := w.streamer(cfg)
	w.Final(30)
	s, _ := w.open(server, nil)
	s.Until(streamertest.EventID(w.At, 0))
	s.Cancel()
	id := streamertest.EventID(w.At-3, 0)
	at := time.Now().Unix()
	cut := topic.LogCut{From: 30, After: w.At * 1000}
	if _, err := w.Kafka.ProduceKeyed(t.Context(), topic.Windows, cut.Key(), []byte{}); err != nil {
		t.Fatal(err)
	}
	first := streamertest.Stamp(w.At - 2) // events may be lost that came so long before the newest record
	w.eventually("reset", func() bool {
		s, _ := w.open(server, nil, "lastEventId", id)
		defer s.Cancel()
		if s.Next().Event != "reset" {
			return false
		}
		if cut := s.Next().Cut; cut.After != first || cut.At < streamertest.Stamp(at) {
			t.Errorf("the snapshot after the cut says %+v, want from %s", cut, first)
		}
		return true
	})
	w.Final(int(at-w.At) + 8) // up to some seconds behind the cut
	id = streamertest.EventID(w.At-2, 0)
	w.eventually("resumed", func() bool {
		s, _ := w.open(server, nil, "lastEventId", id)
		defer s.Cancel()
		m := s.Next()
		return m.Event != "reset" && m.Seconds != nil && len(*m.Seconds) == 2
	})
}

// Messages with the same ID have the same bytes on every server.
func TestInstancesAgree(t *testing.T) { both(t, testInstancesAgree) }

func testInstancesAgree(t *testing.T, cfg Config) {
	w := newWorld(t)
	w.Final(1)
	other := cfg
	if other.Transport = Handlers; cfg.Transport == Handlers {
		other.Transport = ""
	}
	one, two := w.streamer(cfg), w.streamer(other)
	for rate, span := range map[string]int64{"1s": 1, "5s": 5} {
		a, _ := w.open(one, nil, "rate", rate)
		b, _ := w.open(two, nil, "rate", rate)
		a.Next()
		b.Next()
		same := 0
		for i := range uint32(25) {
			for p := range 2 { // lists that change between two frames
				end := (w.At + 1) * 1000
				w.Emit(
					p,
					&window.Emission{Offset: w.At, Watermark: end + 100, Now: end + 500, Nows: []window.Now{{
						Site: "open.example.com", At: w.At + 1,
						Version: window.RowVersion(window.Epoch, false, int64(i)),
						Pages:   []window.Count{{Name: fmt.Sprint("/", i), Active: i + 1}},
					}}},
				)
			}
			w.Final(1)
			if (w.At+1)%span != 0 { // read both partitions at the same pace
				continue
			}
			last := streamertest.EventID(w.At, 0)
			x, y := a.Until(last), b.Until(last)
			if i < 8 { // the first frame starts where the viewer joined
				continue
			}
			if same++; x.Data != y.Data {
				t.Errorf("%s, %s:\n%s\n%s", rate, last, x.Data, y.Data)
			}
		}
		if same < 3 {
			t.Errorf("%s: only %d frames are of the same id", rate, same)
		}
	}
}

// When the windows topic is deleted and created again, streams end, and a viewer that reconnects receives
// the seconds of the new log.
func TestTopicRecreated(t *testing.T) { both(t, testTopicRecreated) }

func testTopicRecreated(t *testing.T, cfg Config) {
	w := newWorld(t)
	w.Final(20)
	base := w.streamer(cfg)
	s, _ := w.open(base, nil)
	s.Next()
	if err := w.Cluster.DeleteTopic(topic.Windows); err != nil {
		t.Fatal(err)
	}
	if err := w.Kafka.Ensure(t.Context(), topic.Specs(2, 1), nil); err != nil {
		t.Fatal(err)
	}
	w.Final(30)
	for range s.Messages { // until it ends
	}
	w.eventually("the new log", func() bool {
		s, _ = w.open(base, nil)
		defer s.Cancel()
		m, open := <-s.Messages // closed while the new board replaces the old one
		return open && m.Second != nil && m.Second.At == streamertest.Stamp(w.At)
	})
}

func TestProvisionalSecondAtOnce(t *testing.T) { both(t, testProvisionalSecondAtOnce) }

func testProvisionalSecondAtOnce(t *testing.T, cfg Config) {
	w := newWorld(t)
	base := w.streamer(cfg)
	w.Final(2)
	s, _ := w.open(base, nil, "rate", "100ms")
	s.Until(streamertest.EventID(w.At, 0))
	at := w.At + 1
	for n := uint32(1); n <= 3; n++ {
		w.Emit(
			0,
			&window.Emission{
				Offset:    int64(n),
				Watermark: at * 1000,
				Now:       at*1000 + 100,
				Seconds: []window.Second{{
					Site: "open.example.com", At: at, Pageviews: n, Visitors: n, Events: n, Active: 3 + n,
					Revision: n,
					Version:  window.RowVersion(window.Epoch, false, int64(n)),
				}},
			},
		)
	}
	for m := s.Next(); ; m = s.Next() {
		if m.Second != nil && m.Second.At == streamertest.Stamp(at) {
			if m.Second.Final || m.ID != streamertest.EventID(w.At, m.Second.Revision) {
				t.Errorf("%+v %+v", m.ID, *m.Second)
			}
			if m.Second.Pageviews == 3 && m.Visitors == 9 {
				break
			}
		}
	}
	w.Final(1)
	isFinal := func(m streamertest.Message) bool {
		return m.Second != nil && m.Second.Final && m.Second.At == streamertest.Stamp(at)
	}
	for !isFinal(s.Next()) {
	}
	select { // the end of the provisional second makes no frame of its own
	case m := <-s.Messages:
		t.Errorf("nothing changed after the final frame, but there is %s %s", m.ID, m.Data)
	case <-time.After(400 * time.Millisecond):
	}
}
