package live

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"nowcast/internal/window"
	"nowcast/streamer/streamertest"
)

// A stream of several sites has each second once for each site, and an ID from between the messages of one
// second is valid on any instance.
func TestSeveralSites(t *testing.T) { both(t, testSeveralSites) }

func testSeveralSites(t *testing.T, cfg Config) {
	w := newWorld(t)
	one, other := w.streamer(cfg), w.streamer(cfg)
	w.Final(3)
	key := http.Header{"Authorization": {"Bearer nck_a-key"}}
	open := func(base, id string) *streamertest.Stream {
		url := base + "/api/events?site=open.example.com&site=own.example.com&lastEventId=" + id
		s, res := streamertest.Open(t, url, key)
		if res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}
		return s
	}
	s := open(one, "")
	seen := map[string]int{}
	read := func(s *streamertest.Stream, until string) (last streamertest.Message) {
		for last = s.Next(); ; last = s.Next() {
			if last.Seconds != nil {
				for _, x := range *last.Seconds {
					if x.Final {
						seen[last.Site+x.At]++
					}
				}
			} else if last.Second.Final {
				end := parse(t, last.Second.At)
				for at := parse(t, last.First()); !at.After(end); at = at.Add(time.Second) {
					seen[last.Site+streamertest.Stamp(at.Unix())]++
				}
			}
			if last.ID == until || strings.HasSuffix(until, "-") && strings.HasPrefix(last.ID, until) {
				return last
			}
		}
	}
	read(s, streamertest.EventID(w.At, 0))
	w.Final(5)
	m := read(s, streamertest.EventID(w.At-2, 0)+"-1-") // the first site has it, the other hasn't
	if m.Site != "open.example.com" ||
		m.ID != fmt.Sprintf("%s-1-%d", streamertest.EventID(w.At-2, 0), w.At-3) {
		t.Fatal(m.Site, m.ID)
	}
	s.Cancel()
	w.eventually("the other instance has read all", func() bool {
		s, _ := w.open(other, nil)
		defer s.Cancel()
		return s.Next().ID == streamertest.EventID(w.At, 0)
	})
	s = open(other, m.ID)
	w.Final(2)
	read(s, streamertest.EventID(w.At, 0))
	for at := w.Start; at <= w.At; at++ {
		if n := seen["open.example.com"+streamertest.Stamp(at)]; n != 1 {
			t.Errorf("%s was sent %d times", streamertest.Stamp(at), n)
		}
	}
	for at := w.At - 5; at <= w.At; at++ {
		if n := seen["own.example.com"+streamertest.Stamp(at)]; n > 1 || n == 0 && at > w.At-2 {
			t.Errorf("the quiet site's %s was sent %d times", streamertest.Stamp(at), n)
		}
	}
	_, res := streamertest.Open(t, one+"/api/events?site=open.example.com&site=own.example.com", nil)
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("with a site that it may not read: %s", res.Status)
	}
}

func parse(t *testing.T, at string) time.Time {
	t.Helper()
	x, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// A filtered stream has the number of active visitors with one value; an upper bound where a partition does
// not list it.
func TestFilter(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{})
	w.Final(1)
	for p := range 2 {
		end := (w.At + 1) * 1000
		w.Emit(p, &window.Emission{Offset: w.At, Watermark: end, Now: end, Nows: []window.Now{{
			Site: "open.example.com", At: w.At, Version: window.RowVersion(window.Epoch, false, 1),
			Pages: []window.Count{
				{Name: "/", Active: 5},
				{Name: "/a b", Active: uint32(4 - p)},
			}, RestPages: 2,
			Sources:   []window.Count{{Name: "", Active: 6}, {Name: "Google", Active: 1}},
			Countries: []window.Count{{Name: "DE", Active: 7}},
		}}})
	}
	for _, row := range []struct {
		name, value string
		visitors    uint32
		atMost      bool
	}{
		{"page", "/a b", 7, false},
		{"page", "/nowhere", 4, true},
		{"country", "DE", 14, false},
		{"country", "FR", 0, false},
		{"device", "Desktop", 0, false},
		{"source", "Google", 2, false},
		{"source", "Direct / None", 12, false},
	} {
		w.eventually(row.name+row.value, func() bool {
			s, _ := w.open(base, nil, row.name, row.value, "rate", "250ms")
			defer s.Cancel()
			m := s.Next()
			return m.Visitors == row.visitors && m.AtMost == row.atMost && m.Filter[row.name] == row.value &&
				m.Second == nil && m.Now == nil && m.Seconds != nil && len(*m.Seconds) == 0
		})
	}
	s, _ := w.open(base, nil, "page", "/")
	s.Next()
	w.Final(2)
	if m := s.Next(); m.Visitors != 10 || m.Second != nil || m.ID == "" {
		t.Errorf("%+v", m)
	}
	for _, q := range []string{"page=/&country=DE", "page=", "device=" + strings.Repeat("x", 2100)} {
		res, body := w.get(base + "/api/events?site=open.example.com&" + q)
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%.40s: %d %s", q, res.StatusCode, body)
		}
	}
}
