package streamer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nowcast/internal/broker"

	"nowcast/internal/topic"
	"nowcast/internal/window"
	"nowcast/streamer/query"
)

// A viewer that reads slower than frames come gets the newest state, with how much was left out, and what it got adds up.
func TestSlowReader(t *testing.T) { both(t, testSlowReader) }

func testSlowReader(t *testing.T, cfg Config) {
	w := newWorld(t)
	cfg.Blocked = 0 // the default
	base := w.streamer(cfg)
	w.final(1)
	watch, _ := w.open(base, nil)
	for m := watch.next(); m.Second == nil || m.Second.At != stamp(w.at); m = watch.next() {
	}
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
	fmt.Fprintf(c, "GET /api/events?site=open.example.com&top=100 HTTP/1.0\r\n\r\n")
	r := bufio.NewReader(slowly{c})
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	from := w.at
	long := strings.Repeat("x", 900)
	e := &window.Emission{Watermark: (w.at + 1) * 1000, Now: (w.at + 1) * 1000, Nows: []window.Now{{Site: "open.example.com", At: w.at, Version: window.RowVersion(window.Epoch, false, 1)}}}
	for k := range 100 {
		e.Nows[0].Pages = append(e.Nows[0].Pages, window.Count{Name: fmt.Sprintf("/%d/%s", k, long), Active: 1})
	}
	w.emit(0, e)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // a second every 5 ms, which is 20 MB/s of frames
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				w.final(1)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	skipped, frames, views := 0, 0, uint32(0)
	last := from
	read := bufio.NewReader(res.Body)
	for skipped == 0 || frames < 8 {
		m := readMessage(t, read)
		if m.event == "snapshot" || m.Second == nil {
			continue
		}
		first, _ := time.Parse(time.RFC3339, cmpFrom(m))
		to, _ := time.Parse(time.RFC3339, m.Second.At)
		if first.Unix() != last+1 {
			t.Fatalf("%+v comes after %s", *m.Second, stamp(last))
		}
		last = to.Unix()
		frames++
		skipped += m.Skipped
		views += m.Second.Pageviews
		if want := uint32(2 * (last - from)); views != want {
			t.Fatalf("%d views up to %s, want %d", views, stamp(last), want)
		}
		if int64(frames+skipped) != last-from {
			t.Fatalf("%d frames and %d skipped for %d seconds", frames, skipped, last-from)
		}
	}
	if w.count("skipped_frames_total") == 0 || w.count("conflated_frames_total") == 0 {
		t.Error("nothing was counted")
	}
}

// slowly reads a little at a time.
type slowly struct{ io.Reader }

func (s slowly) Read(b []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return s.Reader.Read(b[:min(len(b), 4096)])
}

func readMessage(t *testing.T, r *bufio.Reader) (m msg) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		switch field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); field {
		case "event":
			m.event = value
		case "id":
			m.id = value
		case "data":
			m.data = value
			if err := json.Unmarshal([]byte(value), &m.frameData); err != nil {
				t.Fatalf("%s: %v", value, err)
			}
		case "":
			if m.data != "" {
				return m
			}
		}
	}
}

// Several sites on one connection: each second comes once for each, and an id of the middle of a second is good on any instance.
func TestSeveralSites(t *testing.T) { both(t, testSeveralSites) }

func testSeveralSites(t *testing.T, cfg Config) {
	w := newWorld(t)
	one, other := w.streamer(cfg), w.streamer(cfg)
	w.final(3)
	key := http.Header{"Authorization": {"Bearer " + adminSecret}}
	open := func(base, id string) *stream {
		s, res := w.open(base+"/api/events?site=open.example.com&site=own.example.com&lastEventId="+id+"#", key)
		if res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}
		return s
	}
	s := open(one, "")
	seen := map[string]int{}
	take := func(s *stream, until string) (last msg) {
		for last = s.next(); ; last = s.next() {
			if last.Seconds != nil {
				for _, x := range *last.Seconds {
					if x.Final {
						seen[last.Site+x.At]++
					}
				}
			} else if last.Second.Final {
				for at, _ := time.Parse(time.RFC3339, cmpFrom(last)); !at.After(parse(t, last.Second.At)); at = at.Add(time.Second) {
					seen[last.Site+stamp(at.Unix())]++
				}
			}
			if last.id == until || strings.HasSuffix(until, "-") && strings.HasPrefix(last.id, until) {
				return last
			}
		}
	}
	take(s, eventID(w.at, 0))
	w.final(5)
	m := take(s, eventID(w.at-2, 0)+"-1-") // the first site has it, the other hasn't
	if m.Site != "open.example.com" || m.id != fmt.Sprintf("%s-1-%d", eventID(w.at-2, 0), w.at-3) {
		t.Fatal(m.Site, m.id)
	}
	s.cancel()
	w.soon("the other instance is there", func() bool { s, _ := w.open(other, nil); defer s.cancel(); return s.next().id == eventID(w.at, 0) })
	s = open(other, m.id)
	w.final(2)
	take(s, eventID(w.at, 0))
	for at := w.start; at <= w.at; at++ {
		if n := seen["open.example.com"+stamp(at)]; n != 1 {
			t.Errorf("%s was given %d times", stamp(at), n)
		}
	}
	for at := w.at - 5; at <= w.at; at++ {
		if n := seen["own.example.com"+stamp(at)]; n > 1 || n == 0 && at > w.at-2 {
			t.Errorf("the quiet site's %s was given %d times", stamp(at), n)
		}
	}
	if _, res := w.open(one+"/api/events?site=open.example.com&site=own.example.com#", nil); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("with a site that one may not read: %s", res.Status)
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

// A stream about one value gives how many visitors have it, at most where a partition doesn't list it.
func TestFilter(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{})
	w.final(1)
	for p := range 2 {
		w.emit(p, &window.Emission{Offset: w.at, Watermark: (w.at + 1) * 1000, Now: (w.at + 1) * 1000, Nows: []window.Now{{Site: "open.example.com", At: w.at,
			Version: window.RowVersion(window.Epoch, false, 1), Pages: []window.Count{{Name: "/", Active: 5}, {Name: "/a b", Active: uint32(4 - p)}}, RestPages: 2,
			Sources: []window.Count{{Name: "", Active: 6}, {Name: "Google", Active: 1}}, Countries: []window.Count{{Name: "DE", Active: 7}}}}})
	}
	for _, row := range []struct {
		name, value string
		visitors    uint32
		atMost      bool
	}{{"page", "/a b", 7, false}, {"page", "/nowhere", 4, true}, {"country", "DE", 14, false}, {"country", "FR", 0, false}, {"device", "Desktop", 0, false},
		{"source", "Google", 2, false}, {"source", "Direct / None", 12, false}} {
		w.soon(row.name+row.value, func() bool {
			s, _ := w.open(base, nil, row.name, row.value, "rate", "250ms")
			defer s.cancel()
			m := s.next()
			return m.Visitors == row.visitors && m.AtMost == row.atMost && m.Filter[row.name] == row.value && m.Second == nil && m.Now == nil && m.Seconds != nil && len(*m.Seconds) == 0
		})
	}
	s, _ := w.open(base, nil, "page", "/")
	s.next()
	w.final(2)
	if m := s.next(); m.Visitors != 10 || m.Second != nil || m.id == "" {
		t.Errorf("%+v", m)
	}
	for _, q := range []string{"page=/&country=DE", "page=", "device=" + strings.Repeat("x", 2100)} {
		if res, body := w.get("GET", base+"/api/events?site=open.example.com&"+q, "", ""); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%.40s: %d %s", q, res.StatusCode, body)
		}
	}
}

// Who was away for longer than the board holds gets the gap from history, as long as history has it all; else everything anew.
func TestGap(t *testing.T) {
	w := newWorld(t)
	w.at = w.start - 500
	w.start = w.at + 1
	w.final(460)
	past := &pastSeconds{}
	w.past = past
	base := w.streamer(Config{})
	soon := func() bool { m, _ := w.open(base, nil); defer m.cancel(); return m.next().id == eventID(w.at, 0) }
	w.soon("all are read", soon)
	ends := map[int]int64{}
	for p := range 2 {
		_, end, err := w.kafka.Bounds(t.Context(), topic.Windows, p)
		if err != nil {
			t.Fatal(err)
		}
		ends[p] = end
	}
	away := w.at - 420
	held := w.at - 300
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
		{"too long ago", [2]int64{ends[0], ends[1]}, nil, w.at - 4000, false},
	} {
		past.fail(row.err)
		if row.committed[0] >= 0 {
			commits := []broker.Position{{Topic: topic.Windows, Offset: row.committed[0]}, {Topic: topic.Windows, Partition: 1, Offset: row.committed[1]}}
			if err := w.kafka.Commit(t.Context(), broker.Membership{Group: topic.Group("store"), Generation: -1}, commits); err != nil {
				t.Fatal(err)
			}
		}
		c, _ := w.open(base, nil, "lastEventId", eventID(row.id, 0))
		m := c.next()
		if (m.event == "reset") == row.filled {
			t.Errorf("%s: %s", row.name, m.event)
			continue
		}
		if !row.filled {
			continue
		}
		if from, to := past.asked(); from != row.id || to != held {
			t.Errorf("%s: asked for %d to %d, want %d to %d", row.name, from, to, row.id, held)
		}
		want := row.id + 1
		for _, x := range *m.Seconds {
			if x.At != stamp(want) || !x.Final || x.Pageviews == 0 {
				t.Fatalf("%s: %+v, want %s", row.name, x, stamp(want))
			}
			want++
		}
		if want != w.at+1 {
			t.Errorf("%s: ends at %s", row.name, stamp(want-1))
		}
	}
}

// pastSeconds is a history in which every second had one event.
type pastSeconds struct {
	mu       sync.Mutex
	from, to int64
	err      error
}

func (p *pastSeconds) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *pastSeconds) asked() (from, to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.from, p.to
}

func (p *pastSeconds) Seconds(_ context.Context, _ string, from, to int64) (out []query.WindowSecond, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.to = from, to
	for at := from + 1; at <= to; at++ {
		out = append(out, query.WindowSecond{At: at, Pageviews: 1, Visitors: 1, Events: 1, Revision: 2})
	}
	return out, p.err
}

// A full instance says so in a way that a browser survives.
func TestFull(t *testing.T) { both(t, testFull) }

func testFull(t *testing.T, cfg Config) {
	w := newWorld(t)
	cfg.Limits = Limits{Viewers: 2}
	base := w.streamer(cfg)
	w.final(1)
	a, _ := w.open(base, nil)
	b, _ := w.open(base, nil)
	a.next()
	b.next()
	res, body := w.get("GET", base+"/api/events?site=open.example.com", "", "")
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !strings.Contains(body, "as many viewers") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	res, body = w.get("GET", base+"/api/events?site=open.example.com", "", "", "User-Agent", "Mozilla/5.0 (X11)")
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" || !strings.HasPrefix(body, "retry: ") || strings.Contains(body, "data:") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	a.cancel()
	w.soon("there is room again", func() bool {
		s, res := w.open(base, nil)
		defer s.cancel()
		return res.StatusCode == http.StatusOK
	})
}

// A streamer that ends lets its viewers go one after the other; each can go on elsewhere and has every second once.
func TestDrain(t *testing.T) { both(t, testDrain) }

func testDrain(t *testing.T, cfg Config) {
	w := newWorld(t)
	s, base := w.service(cfg)
	other := w.streamer(cfg)
	w.final(3)
	const viewers = 40
	var streams []*stream
	last := make([]string, viewers)
	for range viewers {
		c, _ := w.open(base, nil)
		c.next()
		streams = append(streams, c)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Drain(ctx) }()
	began := time.Now()
	stop()
	w.final(2)
	if err := <-done; err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	if n := s.push.Viewers(); n != 0 {
		t.Errorf("%d are left", n)
	}
	if res, _ := w.get("GET", base+"/api/events?site=open.example.com", "", ""); res.StatusCode != http.StatusServiceUnavailable {
		t.Error(res.Status)
	}
	w.final(2)
	for i, c := range streams {
		given := int64(0)
		for m := range c.msgs {
			last[i] = m.id
		}
		if last[i] == "" {
			last[i] = eventID(w.at-4, 0)
		}
		if _, err := fmt.Sscanf(last[i], "1-%d-0", &given); err != nil {
			t.Fatal(err)
		}
		c, _ = w.open(other, nil, "lastEventId", last[i])
		for m := c.next(); given < w.at; m = c.next() {
			if m.Seconds != nil {
				for _, x := range *m.Seconds {
					if x.Final && x.At != stamp(given+1) {
						t.Fatalf("%s after %s", x.At, stamp(given))
					} else if x.Final {
						given++
					}
				}
			} else if m.Second.At != stamp(given+1) {
				t.Fatalf("%s after %s", m.Second.At, stamp(given))
			} else {
				given++
			}
			if given == w.at {
				break
			}
		}
		c.cancel()
	}
	if w.count("viewers") < 0 {
		t.Error("the gauge is wrong")
	}
}

func TestSeats(t *testing.T) {
	s := newSeats(Limits{Viewers: 5, PerAddress: 2, PerKey: 3})
	key := func(id string) []access { return []access{{kind: 1, id: id}} }
	for _, row := range []struct {
		address string
		by      []access
		err     error
	}{
		{"192.0.2.1", nil, nil},
		{"::ffff:192.0.2.1", nil, nil},
		{"192.0.2.1", nil, errAddress},
		{"2001:db8:1:2::1", key("a"), nil},
		{"2001:db8:1:2:3::1", key("a"), nil},
		{"2001:db8:1:2:4::1", key("b"), errAddress},
		{"127.0.0.1", key("a"), nil},
		{"127.0.0.1", key("a"), errFull},
	} {
		if _, err := s.take(row.address, row.by); !errors.Is(err, row.err) {
			t.Errorf("%s %v: %v", row.address, row.by, err)
		}
	}
	s = newSeats(Limits{PerKey: 1})
	seat, err := s.take("127.0.0.1", key("a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.take("127.0.0.2", key("a")); !errors.Is(err, errKey) {
		t.Error(err)
	}
	s.leave(seat)
	if len(s.of) != 0 || s.all != 0 {
		t.Errorf("%v are kept", s.of)
	}
}

// What a viewer sends after its request, and how it leaves, is nobody else's trouble.
func TestRudeViewers(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{})
	w.final(1)
	good, _ := w.open(base, nil)
	good.next()
	for i := range 60 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /api/events?site=open.example.com HTTP/1.%d\r\nHost: x\r\n\r\n", i%2)
		switch i % 3 {
		case 0:
			_, _ = c.Write(bytes.Repeat([]byte("GET / HTTP/1.1\r\n\r\n"), 1000))
		case 1:
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		_ = c.Close()
	}
	w.final(1)
	good.next()
	w.soon("they are gone", func() bool { return w.count("viewers") == 1 })
}

// However many viewers there are, the other instances see no more than a thousand a second of them.
func TestDrainIsPaced(t *testing.T) {
	w := newWorld(t)
	s, base := w.service(Config{})
	w.final(1)
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
			if !bytes.HasSuffix(b, []byte("\n\n")) || !bytes.Contains(b[max(0, len(b)-20):], []byte("retry: ")) {
				t.Errorf("it isn't told when to come back: %q", b[max(0, len(b)-100):])
			}
			ended <- time.Now()
		}()
	}
	w.soon("all are there", func() bool { return s.push.Viewers() == viewers })
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
