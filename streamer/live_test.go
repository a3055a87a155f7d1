package streamer

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"nowcast/internal/broker"
	"nowcast/internal/site"
	"nowcast/internal/topic"
	"nowcast/internal/window"
	"nowcast/streamer/api/apitest"
	"nowcast/streamer/frame"
)

// The JSON of a message, as a viewer reads it.
type (
	frameData struct {
		Visitors  uint32            `json:"visitors"`
		Timestamp string            `json:"timestamp"`
		Site      string            `json:"site"`
		Filter    map[string]string `json:"filter"`
		AtMost    bool              `json:"upper_bound"`
		Second    *second           `json:"second"`
		Now       *now              `json:"now"`
		Skipped   int               `json:"skipped"`
		Seconds   *[]second         `json:"seconds"`
	}
	second struct {
		At        string `json:"at"`
		From      string `json:"from"`
		To        string `json:"to"`
		Pageviews uint32 `json:"pageviews"`
		Visitors  uint32 `json:"visitors"`
		Events    uint32 `json:"events"`
		Final     bool   `json:"final"`
		Revision  uint32 `json:"revision"`
	}
	now struct {
		Pages, Sources, Countries, Devices []count
		Rest                               struct{ Pages, Sources, Countries, Devices uint32 }
	}
	count struct {
		Name   string
		Active uint32
	}
)

func stamp(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }

func eventID(final int64, revision uint32) string {
	return frame.ID{LastSecond: final, Revision: revision}.String()
}

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

const adminSecret = "nck_an-operators-own-key"

// world is a log with two partitions of windows, and streamers over it.
type world struct {
	t       *testing.T
	cluster *kfake.Cluster
	kafka   *broker.Client
	sites   *site.Registry
	start   int64                // of the test's seconds
	at      int64                // the newest final second produced
	metrics *prometheus.Registry // of the newest streamer
	past    past                 // of the next one
}

// count is a counter's or a gauge's value, summed over what has all of the labels given.
func (w *world) count(name string, labels ...string) (sum float64) {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "nowcast_streamer_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			text := fmt.Sprint(m.GetLabel())
			if slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(text, `value:"`+l+`"`) }) {
				continue
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func newWorld(t *testing.T) *world {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	w := &world{t: t, cluster: k, kafka: broker.New(broker.Config{Addrs: k.ListenAddrs()}), start: time.Now().Unix() - 60}
	w.at = w.start - 1
	t.Cleanup(w.kafka.Close)
	if err := w.kafka.Ensure(t.Context(), topic.Specs(2, 1), nil); err != nil {
		t.Fatal(err)
	}
	w.sites = site.NewRegistry(w.kafka, slog.New(slog.DiscardHandler))
	w.run(w.sites.Run)
	if err := w.sites.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []site.Site{{Domain: "open.example.com", Public: true}, {Domain: "own.example.com"}} {
		if err := w.sites.Put(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) run(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = f(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
}

// streamer starts one and returns its address.
func (w *world) streamer(cfg Config) string {
	w.t.Helper()
	_, base := w.service(cfg)
	return base
}

func (w *world) service(cfg Config) (*Service, string) {
	w.t.Helper()
	cfg.AdminKey = adminSecret
	w.metrics = prometheus.NewRegistry()
	s, err := New(cfg, Deps{Broker: w.kafka, Sites: w.sites, Log: slog.New(slog.DiscardHandler), Metrics: w.metrics})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.past != nil {
		s.past = w.past
	}
	w.run(s.Run)
	e := gin.New()
	s.Routes(e)
	srv := httptest.NewServer(e)
	w.t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	w.soon("ready", func() bool { ok, _ := s.Ready(); return ok })
	return s, srv.URL
}

func (w *world) soon(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("not within 10 s: ", what)
		}
	}
}

func (w *world) emit(part int, e *window.Emission) {
	w.t.Helper()
	e.Version, e.Epoch, e.Partition = window.Version, window.Epoch, uint32(part)
	if _, err := w.kafka.Produce(w.t.Context(), topic.Windows, part, time.Now(), e.Append(nil)); err != nil {
		w.t.Fatal(err)
	}
}

// final makes the next n seconds final, each with one page view in either partition.
func (w *world) final(n int) {
	w.t.Helper()
	for range n {
		w.at++
		for p := range 2 {
			w.emit(p, &window.Emission{Offset: w.at, Watermark: (w.at + 1) * 1000, Now: (w.at+1)*1000 + 250, Seconds: []window.Second{
				{Site: "open.example.com", At: w.at, Pageviews: 1, Visitors: 1, Events: 1, Active: 3, Final: true, Revision: 2, Version: window.RowVersion(window.Epoch, true, w.at)}}})
		}
	}
}

// both runs a test of streams once for each way in which viewers are served.
func both(t *testing.T, f func(t *testing.T, cfg Config)) {
	for _, how := range []Transport{"", Writes, Handlers} {
		t.Run(string(how), func(t *testing.T) { f(t, Config{Transport: how, Blocked: time.Second}) })
	}
}

// stream is one connection's messages.
type stream struct {
	t      *testing.T
	msgs   chan msg
	cancel context.CancelFunc
}

type msg struct {
	event, id, data string
	frameData
}

func (w *world) open(base string, header http.Header, query ...string) (*stream, *http.Response) {
	w.t.Helper()
	if !strings.HasSuffix(base, "#") { // with a query of its own
		base += "/api/events?"
	}
	base = strings.TrimSuffix(base, "#")
	q := url.Values{"site": {"open.example.com"}}
	if strings.Contains(base, "site=") {
		q = url.Values{}
	}
	for i := 0; i+1 < len(query); i += 2 {
		q.Set(query[i], query[i+1])
	}
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+q.Encode(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	s := &stream{w.t, make(chan msg, 1000), cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.msgs)
		defer res.Body.Close()
		sc := bufio.NewScanner(res.Body)
		sc.Buffer(nil, 1<<20)
		var m msg
		for sc.Scan() {
			field, value, _ := strings.Cut(sc.Text(), ": ")
			switch field {
			case "event":
				m.event = value
			case "id":
				m.id = value
			case "data":
				m.data = value
				_ = json.Unmarshal([]byte(value), &m.frameData)
			case "":
				if m.data != "" {
					s.msgs <- m
				}
				m = msg{}
			}
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done; http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
	return s, res
}

func (s *stream) next() msg {
	s.t.Helper()
	select {
	case m, ok := <-s.msgs:
		if !ok {
			s.t.Fatal("the stream ended")
		}
		return m
	case <-time.After(10 * time.Second):
		s.t.Fatal("no message within 10 s")
	}
	panic("unreachable")
}

func (c *count) UnmarshalJSON(b []byte) error {
	var v [2]any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	c.Name, c.Active = v[0].(string), uint32(v[1].(float64))
	return nil
}

func TestSnapshotThenEverySecondOnce(t *testing.T) { both(t, testSnapshotThenEverySecondOnce) }

func testSnapshotThenEverySecondOnce(t *testing.T, cfg Config) {
	w := newWorld(t)
	base := w.streamer(cfg)
	w.final(5)
	s, res := w.open(base, nil)
	if h := res.Header; h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-cache, no-transform" || h.Get("X-Accel-Buffering") != "no" {
		t.Error(h)
	}
	seen := map[string]int{}
	m := s.next()
	if m.event != "snapshot" || m.Visitors != 6 && m.Second != nil {
		t.Errorf("%+v", m)
	}
	for _, x := range *m.Seconds {
		if x.Final { // one that the instance has read of one partition only is shown as open, and given when it is final
			seen[x.At]++
		}
	}
	w.final(20)
	for last := stamp(w.at); seen[last] == 0; {
		m = s.next()
		if m.event != "" || m.Second == nil || !m.Second.Final || m.Second.Pageviews != 2 || m.Visitors != 6 || m.Skipped != 0 {
			t.Fatalf("%+v", m)
		}
		seen[m.Second.At]++
	}
	for at := w.start; at <= w.at; at++ {
		if seen[stamp(at)] != 1 {
			t.Errorf("%s was given %d times", stamp(at), seen[stamp(at)])
		}
	}
}

func TestResume(t *testing.T) { both(t, testResume) }

func testResume(t *testing.T, cfg Config) {
	w := newWorld(t)
	one, other := w.streamer(cfg), w.streamer(cfg)
	w.final(30)
	s, _ := w.open(one, nil)
	for m := s.next(); m.id != eventID(w.at, 0); m = s.next() { // a snapshot may have been made before all were read
	}
	s.cancel()
	id := eventID(w.at-10, 0)
	for _, row := range []struct {
		name, header, query string
		reset               bool
		seconds             int
	}{
		{"header", id, "", false, 10},
		{"query", "", id, false, 10},
		{"header over query", id, eventID(w.at-20, 0), false, 10},
		{"of an open second", eventID(w.at-10, 7), "", false, 10},
		{"nothing since", eventID(w.at, 0), "", false, 0},
		{"ahead of this instance", eventID(w.at+2, 0), "", false, 0},
		{"far ahead", eventID(w.at+1000, 0), "", true, 30},
		{"too old", eventID(w.at-1000, 0), "", true, 30},
		{"other epoch", fmt.Sprintf("9-%d-0", w.at), "", true, 30},
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
		var m msg
		w.soon(row.name, func() bool { // the other instance may be a moment behind
			s, res := w.open(other, h, q...)
			if res.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s", row.name, res.Status)
			}
			defer s.cancel()
			m = s.next()
			reset := m.event == "reset"
			if reset {
				m = s.next()
			}
			return reset == row.reset && m.Seconds != nil && len(*m.Seconds) == row.seconds
		})
	}
	// A viewer that is ahead of this instance isn't given a second twice.
	s, _ = w.open(other, nil, "lastEventId", eventID(w.at+2, 0))
	s.next()
	w.final(4)
	if m := s.next(); m.Second.At != stamp(w.at-1) {
		t.Errorf("first after the id: %s, want %s", m.Second.At, stamp(w.at-1))
	}
}

// The same id is the same bytes, whoever sends it.
func TestInstancesAgree(t *testing.T) { both(t, testInstancesAgree) }

func testInstancesAgree(t *testing.T, cfg Config) {
	w := newWorld(t)
	w.final(1)
	other := cfg
	if other.Transport = Handlers; cfg.Transport == Handlers {
		other.Transport = ""
	}
	one, two := w.streamer(cfg), w.streamer(other)
	for rate, span := range map[string]int64{"1s": 1, "5s": 5} {
		a, _ := w.open(one, nil, "rate", rate)
		b, _ := w.open(two, nil, "rate", rate)
		a.next()
		b.next()
		same := 0
		for i := range uint32(25) {
			for p := range 2 { // what is said after the one frame and before the next
				w.emit(p, &window.Emission{Offset: w.at, Watermark: (w.at+1)*1000 + 100, Now: (w.at+1)*1000 + 500, Nows: []window.Now{{Site: "open.example.com", At: w.at + 1,
					Version: window.RowVersion(window.Epoch, false, int64(i)), Pages: []window.Count{{Name: fmt.Sprint("/", i), Active: i + 1}}}}})
			}
			w.final(1)
			if (w.at+1)%span != 0 { // no partition may be read far ahead of the other
				continue
			}
			last := eventID(w.at, 0)
			x, y := a.until(last), b.until(last)
			if i < 8 { // the first frame begins where the viewer came in
				continue
			}
			if same++; x.data != y.data {
				t.Errorf("%s, %s:\n%s\n%s", rate, last, x.data, y.data)
			}
		}
		if same < 3 {
			t.Errorf("%s: only %d frames are of the same id", rate, same)
		}
	}
}

// until reads up to the message with an id.
func (s *stream) until(id string) msg {
	s.t.Helper()
	m := s.next()
	for m.id != id {
		m = s.next()
	}
	return m
}

// A windows topic that was made again: streams end, and who connects again sees the seconds of the new log.
func TestTopicMadeAnew(t *testing.T) { both(t, testTopicMadeAnew) }

func testTopicMadeAnew(t *testing.T, cfg Config) {
	w := newWorld(t)
	w.final(20)
	base := w.streamer(cfg)
	s, _ := w.open(base, nil)
	s.next()
	if err := w.cluster.DeleteTopic(topic.Windows); err != nil {
		t.Fatal(err)
	}
	if err := w.kafka.Ensure(t.Context(), topic.Specs(2, 1), nil); err != nil {
		t.Fatal(err)
	}
	w.final(30)
	for range s.msgs { // until it ends
	}
	w.soon("the new log", func() bool {
		s, _ = w.open(base, nil)
		defer s.cancel()
		m, open := <-s.msgs // none where the new board takes the old one's place just now
		return open && m.Second != nil && m.Second.At == stamp(w.at)
	})
}

func TestOpenSecondIsShownAtOnce(t *testing.T) { both(t, testOpenSecondIsShownAtOnce) }

func testOpenSecondIsShownAtOnce(t *testing.T, cfg Config) {
	w := newWorld(t)
	base := w.streamer(cfg)
	w.final(2)
	s, _ := w.open(base, nil, "rate", "100ms")
	s.until(eventID(w.at, 0))
	at := w.at + 1
	for n := uint32(1); n <= 3; n++ {
		w.emit(0, &window.Emission{Offset: int64(n), Watermark: at * 1000, Now: at*1000 + 100, Seconds: []window.Second{
			{Site: "open.example.com", At: at, Pageviews: n, Visitors: n, Events: n, Active: 3 + n, Revision: n, Version: window.RowVersion(window.Epoch, false, int64(n))}}})
	}
	for m := s.next(); ; m = s.next() {
		if m.Second != nil && m.Second.At == stamp(at) {
			if m.Second.Final || m.id != eventID(w.at, m.Second.Revision) {
				t.Errorf("%+v %+v", m.id, *m.Second)
			}
			if m.Second.Pageviews == 3 && m.Visitors == 9 {
				break
			}
		}
	}
	w.final(1)
	for m := s.next(); m.Second == nil || !m.Second.Final || m.Second.At != stamp(at); m = s.next() {
	}
	select { // that the second isn't open any more is no news of its own
	case m := <-s.msgs:
		t.Errorf("nothing changed after the final frame, but there is %s %s", m.id, m.data)
	case <-time.After(400 * time.Millisecond):
	}
}

func TestSlowRatesMerge(t *testing.T) { both(t, testSlowRatesMerge) }

func testSlowRatesMerge(t *testing.T, cfg Config) {
	w := newWorld(t)
	base := w.streamer(cfg)
	w.final(1)
	var s *stream
	w.soon("a snapshot with the first second", func() bool { // the instance may have read one partition only, and the frames begin earlier then
		s, _ = w.open(base, nil, "rate", "5s")
		return s.next().id == eventID(w.at, 0)
	})
	from := w.at + 1
	w.final(23)
	var sum uint32
	for next := from; next <= w.at-5; {
		m := s.next()
		start, err := time.Parse(time.RFC3339, cmpFrom(m))
		if err != nil || start.Unix() != next {
			t.Fatalf("begins at %v, want %s", m.Second, stamp(next))
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

// cmpFrom is the first second of a frame.
func cmpFrom(m msg) string {
	if m.Second.From != "" {
		return m.Second.From
	}
	return m.Second.At
}

func TestTop(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{})
	w.final(1)
	e := &window.Emission{Offset: w.at, Watermark: (w.at + 1) * 1000, Now: (w.at + 1) * 1000, Nows: []window.Now{{Site: "open.example.com", At: w.at, Version: window.RowVersion(window.Epoch, false, 1), RestPages: 5}}}
	for i := range 20 {
		e.Nows[0].Pages = append(e.Nows[0].Pages, window.Count{Name: fmt.Sprintf("/%02d", i), Active: uint32(40 - i)})
	}
	w.emit(0, e)
	for top, want := range map[string]string{"": "10 [{/00 40}] 260", "3": "3 [{/00 40}] 498"} {
		w.soon("list", func() bool {
			q := []string{"top", top}
			if top == "" {
				q = nil
			}
			s, _ := w.open(base, nil, q...)
			defer s.cancel()
			m := s.next()
			return m.Now != nil && len(m.Now.Pages) > 0 && fmt.Sprint(len(m.Now.Pages), m.Now.Pages[:1], m.Now.Rest.Pages) == want
		})
	}
	s, _ := w.open(base, nil, "top", "0")
	if m := s.next(); m.Now != nil {
		t.Errorf("%+v", m.Now)
	}
}

// A viewer that never reads is let go after the write limit, and nobody else notices.
func TestStalledViewer(t *testing.T) { both(t, testStalledViewer) }

func testStalledViewer(t *testing.T, cfg Config) {
	w := newWorld(t)
	base := w.streamer(cfg)
	w.final(1)
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(1)
	fmt.Fprintf(c, "GET /api/events?site=open.example.com&top=100 HTTP/1.1\r\nHost: x\r\n\r\n")
	long := strings.Repeat("x", 2000)
	s, _ := w.open(base, nil)
	s.next()
	for i := range 40 {
		e := &window.Emission{Offset: int64(i), Watermark: (w.at + 1) * 1000, Now: (w.at + 1) * 1000, Nows: []window.Now{{Site: "open.example.com", At: w.at, Version: window.RowVersion(window.Epoch, false, int64(i+1))}}}
		for k := range 100 {
			e.Nows[0].Pages = append(e.Nows[0].Pages, window.Count{Name: fmt.Sprintf("/%d/%s", k, long), Active: 1})
		}
		w.emit(0, e)
		w.final(1)
		if m := s.next(); m.Second == nil {
			t.Fatal("no second")
		}
	}
	w.soon("it is let go", func() bool {
		return w.count("streams_ended_total", "blocked")+w.count("streams_ended_total", "gone") == 1
	})
}

// checker has read the contract, once for all tests.
var checker = sync.OnceValues(apitest.New)

func (w *world) get(method, url, key, body string, header ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if check, err := checker(); err != nil {
		w.t.Fatal(err)
	} else if strings.HasPrefix(req.URL.Path, "/api/v") {
		if err := check.Response(req, res.StatusCode, res.Header, b); err != nil {
			w.t.Errorf("%s %s: %d %s differs from the contract: %v", method, url, res.StatusCode, b, err)
		}
	}
	return res, string(b)
}

func TestAccess(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{})
	_, reader, err := w.sites.NewKey(t.Context(), "reader", false, []string{"open.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	const visitors = "/api/v1/stats/realtime/visitors?site_id="
	for _, row := range []struct {
		method, path, key, body string
		status                  int
	}{
		{"GET", visitors + "open.example.com", "", "", 200},
		{"GET", visitors + "OPEN.example.com", "", "", 200},
		{"GET", visitors + "own.example.com", "", "", 401},
		{"GET", visitors + "own.example.com", "nck_nonsense", "", 401},
		{"GET", visitors + "own.example.com", reader, "", 403},
		{"GET", visitors + "own.example.com", adminSecret, "", 200},
		{"GET", visitors + "nobody.example", adminSecret, "", 404},
		{"GET", visitors + "nobody.example", "", "", 401},
		{"GET", "/api/v1/stats/realtime/visitors", "", "", 400},
		{"GET", "/api/v1/session", "", "", 200},
		{"GET", "/api/v1/sites", reader, "", 200},
		{"POST", "/api/v1/sites", "", `{"domain":"new.example.com"}`, 401},
		{"POST", "/api/v1/sites", reader, `{"domain":"new.example.com"}`, 403},
		{"POST", "/api/v1/sites", adminSecret, `{"domain":"new.example.com"}`, 201},
		{"POST", "/api/v1/sites", adminSecret, `{"domain":"new.example.com"}`, 409},
		{"POST", "/api/v1/sites", adminSecret, `{"domain":"no domain"}`, 400},
		{"POST", "/api/v1/sites", adminSecret, `{"domain":`, 400},
		{"POST", "/api/v1/sites", adminSecret, `{"domain":"` + strings.Repeat("a", 300_000) + `"}`, 400},
		{"PATCH", "/api/v1/sites/new.example.com", adminSecret, `{"public":true}`, 200},
		{"PATCH", "/api/v1/sites/new.example.com", adminSecret, `{"timezone":"Nowhere"}`, 400},
		{"PATCH", "/api/v1/sites/new.example.com", adminSecret, `{"rules":{"hostnames":["*.example.com"],"blocked_countries":["de"]}}`, 200},
		{"PATCH", "/api/v1/sites/new.example.com", adminSecret, `{"rules":{"blocked_addresses":["10.0.0.0/99"]}}`, 400},
		{"PATCH", "/api/v1/sites/new.example.com", adminSecret, `{"rules":{"hostnames":"example.com"}}`, 400},
		{"PATCH", "/api/v1/sites/new.example.com", reader, `{"rules":{}}`, 403},
		{"PATCH", "/api/v1/sites/nobody.example", adminSecret, `{}`, 404},
		{"DELETE", "/api/v1/sites/new.example.com", adminSecret, "", 204},
		{"DELETE", "/api/v1/sites/new.example.com", adminSecret, "", 404},
		{"GET", "/api/v1/keys", reader, "", 403},
		{"GET", "/api/v1/keys", adminSecret, "", 200},
		{"POST", "/api/v1/keys", adminSecret, `{"name":""}`, 400},
		{"POST", "/api/v1/keys", adminSecret, `{"name":"x","sites":["nobody.example"]}`, 400},
		{"DELETE", "/api/v1/keys/nothing", adminSecret, "", 404},
		{"POST", "/api/v2/query", "", `{"site_id":"own.example.com","metrics":["visitors"],"date_range":"day"}`, 401},
		{"POST", "/api/v2/query", "", `{}`, 400},
		{"GET", "/api/v1/sites/open.example.com/ledger", "", "", 401}, // public, but not this
		{"GET", "/api/v1/sites/own.example.com/ledger", reader, "", 403},
		{"GET", "/api/v1/sites/nobody.example/ledger", adminSecret, "", 404},
		{"GET", "/api/v1/sites/own.example.com/ledger?by=second", adminSecret, "", 400},
		{"GET", "/api/v1/sites/open.example.com/ledger", reader, "", 503}, // there is no ClickHouse here
		{"GET", "/api/v1/sites/own.example.com/ledger", adminSecret, "", 503},
		{"GET", "/api/events?site=own.example.com", "", "", 401},
		{"GET", "/api/events?rate=7s", "", "", 400},
		{"GET", "/api/events?top=101", "", "", 400},
		{"GET", "/api/events?top=x", "", "", 400},
		{"GET", "/api/nothing", "", "", 404},
		{"POST", "/nothing", "", "", 404},
	} {
		res, body := w.get(row.method, base+row.path, row.key, row.body)
		if res.StatusCode != row.status || row.status >= 400 && !strings.Contains(body, `{"error":"`) {
			t.Errorf("%s %s %.60s: %d, want %d: %.200s", row.method, row.path, row.body, res.StatusCode, row.status, body)
		}
	}
}

// Rules are changed list by list, and only admins see them.
func TestSiteRules(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{})
	const all = `{"hostnames":["a.example","*.b.example"],"blocked_addresses":["10.0.0.0/8"],"blocked_countries":["DE"],"blocked_paths":["/x/**"]}`
	for _, row := range []struct{ method, path, body, want string }{
		{"POST", "", `{"domain":"new.example.com","public":true,"rules":` + all + `}`, all},
		{"PATCH", "/new.example.com", `{"public":true}`, all},
		{"PATCH", "/new.example.com", `{"rules":{"blocked_addresses":[],"blocked_countries":["fr"]}}`, `{"hostnames":["a.example","*.b.example"],"blocked_addresses":[],"blocked_countries":["FR"],"blocked_paths":["/x/**"]}`},
		{"GET", "/new.example.com", ``, `"blocked_countries":["FR"]`},
		{"GET", "", ``, `"blocked_countries":["FR"]`},
		{"PATCH", "/new.example.com", `{"rules":{"blocked_paths":["admin"]}}`, `{"error":"not valid: \"admin\" is no path; begin it with / or *`},
		{"PATCH", "/new.example.com", `{"rules":{"hostnames":[],"blocked_countries":[],"blocked_paths":[]}}`, `{"hostnames":[],"blocked_addresses":[],"blocked_countries":[],"blocked_paths":[]}`},
		{"PATCH", "/new.example.com", `{"rules":` + all + `}`, all},
	} {
		_, body := w.get(row.method, base+"/api/v1/sites"+row.path, adminSecret, row.body)
		if keys := sorted(t, row.want); !strings.Contains(sorted(t, body), keys) {
			t.Errorf("%s %s: %s, want %s", row.method, row.body, body, row.want)
		}
	}
	for _, path := range []string{"", "/new.example.com"} {
		if res, body := w.get("GET", base+"/api/v1/sites"+path, "", ""); res.StatusCode != 200 || !strings.Contains(body, "new.example.com") || strings.Contains(body, "blocked") {
			t.Errorf("without a key: %d %s", res.StatusCode, body)
		}
	}
}

// sorted writes the keys of JSON's objects in order; what is no JSON stays.
func sorted(t *testing.T, s string) string {
	t.Helper()
	var v any
	if json.Unmarshal([]byte(s), &v) != nil {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSession(t *testing.T) {
	w := newWorld(t)
	base, other := w.streamer(Config{PublicURL: "https://stats.example.com"}), w.streamer(Config{})
	key, secret, err := w.sites.NewKey(t.Context(), "own", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, _ := w.get("GET", base+"/login?key=nck_nonsense", "", ""); res.StatusCode != http.StatusUnauthorized || len(res.Cookies()) > 0 {
		t.Errorf("login with nonsense: %s", res.Status)
	}
	res, _ := w.get("GET", base+"/login?key="+secret, "", "")
	if res.StatusCode != http.StatusSeeOther || len(res.Cookies()) != 1 {
		t.Fatal(res.Status)
	}
	c := res.Cookies()[0]
	if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("%+v", c)
	}
	cookie := c.Name + "=" + c.Value
	const path = "/api/v1/stats/realtime/visitors?site_id=own.example.com"
	if res, _ := w.get("GET", other+path, "", "", "Cookie", cookie); res.StatusCode != http.StatusOK {
		t.Errorf("on another instance: %s", res.Status)
	}
	if res, _ := w.get("GET", base+path, "", "", "Cookie", cookie[:len(cookie)-2]+"xx"); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("forged: %s", res.Status)
	}
	for site, status := range map[string]int{"same-origin": http.StatusCreated, "cross-site": http.StatusForbidden} {
		res, _ := w.get("POST", base+"/api/v1/sites", "", `{"domain":"`+site+`.example.com"}`, "Cookie", cookie, "Sec-Fetch-Site", site)
		if res.StatusCode != status {
			t.Errorf("%s: %s", site, res.Status)
		}
	}
	// Removing the key ends its sessions and its streams.
	s, _ := w.open(base, http.Header{"Cookie": {cookie}}, "site", "own.example.com")
	s.next()
	if err := w.sites.DeleteKey(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	if res, _ := w.get("GET", base+path, "", "", "Cookie", cookie); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("after its key is gone: %s", res.Status)
	}
	w.soon("the stream ends", func() bool {
		select {
		case _, open := <-s.msgs:
			return !open
		default:
			return false
		}
	})
}

func TestPages(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{Dashboard: fstest.MapFS{"index.html": {Data: []byte("the page")}, "assets/a.js": {Data: []byte("script")}}})
	for _, row := range []struct {
		path, body, cache string
		status            int
	}{
		{"/", "the page", "no-cache", 200},
		{"/example.com", "the page", "no-cache", 200},
		{"/example.com/history", "the page", "no-cache", 200},
		{"/index.html", "the page", "no-cache", 200},
		{"/assets/a.js", "script", "public, max-age=31536000, immutable", 200},
		{"/assets/old.js", `"error"`, "no-store", 404},
		{"/../../etc/passwd", "the page", "no-cache", 200},
		{"/api/openapi.yaml", "openapi: 3.1.0", "", 200},
	} {
		res, body := w.get("GET", base+row.path, "", "")
		if res.StatusCode != row.status || !strings.Contains(body, row.body) || res.Header.Get("Cache-Control") != row.cache {
			t.Errorf("%s: %d %q %s", row.path, res.StatusCode, res.Header.Get("Cache-Control"), body[:min(len(body), 80)])
		}
	}
	res, _ := w.get("GET", base+"/", "", "")
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'self'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Error(csp)
	}
	if res, _ := w.get("GET", base+"/x.example?embed=1", "", ""); res.Header.Get("X-Frame-Options") != "" {
		t.Error("an embed can't be framed")
	}
	if _, body := w.get("GET", w.streamer(Config{})+"/", "", ""); !strings.Contains(body, "make build") {
		t.Error(body)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{{PublicURL: "stats.example.com"}, {PublicURL: "ftp://x"}, {AdminKey: "short"}, {AdminKey: "nck_short"}} {
		if _, err := New(cfg, Deps{Metrics: prometheus.NewRegistry()}); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
