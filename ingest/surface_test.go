package ingest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"nowcast/ingest/dialect/dialecttest"
	"nowcast/ingest/publisher"
	"nowcast/ingest/publisher/logtest"
	"nowcast/internal/broker"
	"nowcast/internal/event"
)

// memoryLog acknowledges at once. It keeps the events that come between watch and take.
type memoryLog struct {
	mu     sync.Mutex
	t      *testing.T
	events []event.Event
}

func (l *memoryLog) Refresh() {}

// Bounds says that there is nothing to compare the clock with.
func (l *memoryLog) Bounds(context.Context, string, int) (first, end int64, err error) {
	return 0, 0, nil
}

func (l *memoryLog) Follow(ctx context.Context, _ broker.Follower) error {
	<-ctx.Done()
	return ctx.Err()
}

func (l *memoryLog) Produce(_ context.Context, _ string, partition int, at time.Time,
	values ...[]byte) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range values {
		if l.t != nil {
			l.events = append(l.events, logtest.Decode(l.t, partition, at.UnixMilli(), v).Events...)
		}
	}
	return 0, nil
}

// watch starts to keep events.
func (l *memoryLog) watch(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t, l.events = t, nil
}

// take returns the events since watch.
func (l *memoryLog) take() []event.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t = nil
	return l.events
}

// surface returns all routes of a service with a log in memory.
func surface(f *testing.F) (http.Handler, *memoryLog) {
	s, log := service(f), &memoryLog{}
	replacePublisher(f, s, log, s.salts.stamp)
	s.publisher.Open(logtest.Partitions)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.publisher.Run(ctx) }()
	f.Cleanup(func() { cancel(); <-done })
	engine := gin.New()
	s.Routes(engine)
	return engine, log
}

// replacePublisher gives a service that isn't run a publisher with another log and another stamp.
func replacePublisher(t testing.TB, s *Service, log publisherLog, stamp publisher.Stamp) {
	t.Helper()
	var err error
	s.publisher, err = publisher.New(stamp, publisher.Deps{
		Broker: log, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.intake.publisher = s.publisher
}

// publisherLog is the log of publisher.Deps.
type publisherLog interface {
	Produce(ctx context.Context, topic string, partition int, at time.Time, values ...[]byte) (int64, error)
	Refresh()
	Bounds(ctx context.Context, topic string, partition int) (first, end int64, err error)
	Follow(ctx context.Context, f broker.Follower) error
}

// FuzzHTTP sends any request: no handler panics or answers 5xx, and the log has the accepted beacons and
// no others.
func FuzzHTTP(f *testing.F) {
	for _, s := range dialecttest.Plausible() {
		f.Add("POST /api/event", "User-Agent: "+chrome, s)
		f.Add("POST /api/event", "X-Debug-Request: true\r\nX-Forwarded-For: 1.1.1.1", s)
	}
	for _, s := range dialecttest.Umami() {
		f.Add("POST /api/send", "User-Agent: "+chrome+"\r\nX-Umami-Cache: x", s)
		f.Add("POST /api/batch", "User-Agent: "+chrome+"\r\nAccept-Language: de", "["+s+","+s+"]")
	}
	f.Add("GET /pixel.gif?site=example.com&url=https://example.com/%zz",
		"User-Agent: curl/8\r\nReferer: https://x.com/\xff", "")
	f.Add("HEAD /pixel.gif", "", "")
	f.Add("OPTIONS /api/send", "Origin: null", "")
	f.Add("GET /js/script.js", "Range: bytes=1-\r\nAccept-Encoding: gzip;q=", "")
	f.Add("DELETE /../api//event", "User-Agent: Googlebot", "")
	engine, log := surface(f)
	f.Fuzz(func(t *testing.T, line, header, body string) {
		head := strings.TrimRight(line, "\r\n") + " HTTP/1.1\r\nHost: localhost\r\n" + strings.Trim(header,
			"\r\n")
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\n\r\n")))
		if err != nil {
			t.Skip() // net/http answers that itself
		}
		r.RemoteAddr = "8.8.8.8:4711"
		r.Body = http.NoBody
		if body != "" {
			r.Body = &stringBody{Reader: *strings.NewReader(body)}
		}
		log.watch(t)
		w := httptest.NewRecorder()
		engine.ServeHTTP(w, r)
		events := log.take()
		if w.Code >= 500 {
			t.Fatalf("%s: %d %s", line, w.Code, w.Body)
		}
		counted := w.Code == http.StatusAccepted || w.Code == http.StatusOK &&
			(r.Method == http.MethodGet || r.Method == http.MethodPost)
		if len(events) > 0 && !counted {
			t.Fatalf("%s: %d and %d events", line, w.Code, len(events))
		}
		if r.URL.Path == "/api/event" && w.Code == http.StatusAccepted {
			checkAccepted(t, body, w.Header().Get("x-plausible-dropped"), events)
		}
		for _, e := range events {
			if e.Visitor == 0 || e.Time == 0 || !strings.Contains("example.com other.example localhost "+
				"www.third.example", e.Site) {
				t.Fatalf("%s: %+v", line, e)
			}
		}
	})
}

type stringBody struct{ strings.Reader }

func (*stringBody) Close() error { return nil }

// checkAccepted compares events with what encoding/json reads in the body.
func checkAccepted(t *testing.T, body, dropped string, events []event.Event) {
	t.Helper()
	var sent map[string]any
	if err := json.Unmarshal([]byte(body), &sent); err != nil {
		t.Fatalf("accepted what is no JSON: %q: %v", body, err)
	}
	if dropped == "" && len(events) == 0 {
		t.Fatalf("accepted and not in the log: %q", body)
	}
	for _, e := range events {
		name, ok := sent["n"].(string)
		if short := sent["n"]; short == nil || short == false {
			name, ok = sent["name"].(string)
		}
		if ok && e.Name != name && e.Name != otherValue {
			t.Fatalf("%q: name %q", body, e.Name)
		}
		if passive := sent["i"] == false || sent["interactive"] == false; e.Interactive == passive &&
			strings.Count(body, `"i`) == 1 {
			t.Fatalf("%q: interactive %v", body, e.Interactive)
		}
	}
}

// TestAccepted sends random beacons to each route, and compares them with the events in the log.
func TestAccepted(t *testing.T) {
	w := start(t, Config{})
	r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	text := func(n int) string {
		var b strings.Builder
		for range 1 + r.IntN(n) {
			b.WriteRune([]rune(`aZ09 "\/<>&=;é世😀` + "\u2028\x01")[r.IntN(18)])
		}
		return "x" + b.String()
	}
	quoted := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	var keys [50]string // fewer than the cardinality limit of properties
	for i := range keys {
		keys[i] = text(10)
	}
	want := map[string]int{}
	for i := range 300 {
		path := fmt.Sprintf("/%d/%s", i, strings.NewReplacer("%", "", "#", "", "?", "").Replace(text(8)))
		path = strings.TrimRight(path, " ")
		name, key, value, eid := text(20), keys[r.IntN(len(keys))], text(40), fmt.Sprint("id", i)
		address := "https://example.com" + path
		custom := event.Event{Kind: event.Custom, Name: name, Site: "example.com", Hostname: "example.com",
			Path: path, Interactive: true, Props: event.AppendProp(nil, key, value)}
		view := event.Event{Kind: event.Pageview, Name: "pageview", Site: "example.com",
			Hostname: "example.com", Path: path, Interactive: true}
		var a answer
		switch r.IntN(4) {
		case 0:
			a = w.post(t, fmt.Sprintf(`{"n":%s,"u":%s,"p":{%s:%s},"id":%q}`, quoted(name), quoted(address),
				quoted(key), quoted(value), eid))
			want[show(custom)]++
		case 1:
			a = w.request(t, "POST /api/send", fmt.Sprintf(`{"type":"event",`+
				`"payload":{"website":"example.com","url":%s,"name":%s,"data":{%s:%s},"eid":%q}}`,
				quoted(address), quoted(name), quoted(key), quoted(value), eid))
			want[show(custom)]++
		case 2:
			one := fmt.Sprintf(`{"type":"event","payload":{"website":"example.com",`+
				`"hostname":"example.com","url":%s}}`, quoted(path))
			a = w.request(t, "POST /api/batch", "["+one+","+one+"]")
			want[show(view)] += 2
		default:
			a = w.request(t, "GET /pixel.gif?url="+url.QueryEscape(address), "")
			want[show(view)]++
		}
		if a.status > 202 || a.header.Get("x-plausible-dropped") != "" {
			t.Fatalf("%+v", a)
		}
	}
	for _, e := range w.events(t) {
		want[show(e)]--
	}
	for s, n := range want {
		if n != 0 {
			t.Errorf("%d more sent than in the log: %s", n, s)
		}
	}
}
