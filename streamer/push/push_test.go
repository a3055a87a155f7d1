package push

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"nowcast/internal/window"
	"nowcast/streamer/board"
	"nowcast/streamer/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	T        = 1_795_435_200
	patience = 20 * time.Second // for what should happen at once
)

// eachTransport runs a test with each way of serving viewers.
func eachTransport(t *testing.T, test func(t *testing.T, transport string, cfg Config)) {
	for _, row := range []struct {
		transport string
		cfg       Config
		available bool
	}{
		{"io_uring", Config{}, hasIOURing()},
		{"epoll", Config{DisableIOURing: true}, runtime.GOOS == "linux"},
		{"handler", Config{HandlersOnly: true}, true},
	} {
		t.Run(row.transport, func(t *testing.T) {
			if !row.available {
				t.Skipf("LEFT OUT: this system has no %s", row.transport)
			}
			test(t, row.transport, row.cfg)
		})
	}
}

// world is an engine behind an HTTP server, with a hub whose board the test moves.
type world struct {
	t      *testing.T
	board  *board.Board
	hub    *hub.Hub
	engine *Engine
	reg    *prometheus.Registry
	server *httptest.Server
	skew   atomic.Int64 // added to the engine's clock, ns
	at     int64        // newest final second

	stopHub, stop func()     // each returns when Run has
	result        chan error // of Engine.Run

	mu       sync.Mutex
	released []Slot
}

// newWorld makes a world whose engine doesn't run yet.
func newWorld(t *testing.T, cfg Config) *world {
	t.Helper()
	w := &world{t: t, board: board.New(1), reg: prometheus.NewRegistry(), at: T - 1}
	w.result = make(chan error, 1)
	w.hub = hub.New(w.board)
	w.finalize()
	cfg.Release = func(s Slot) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.released = append(w.released, s)
	}
	var err error
	if w.engine, err = New(cfg, w.reg); err != nil {
		t.Fatal(err)
	}
	w.engine.now = func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }
	w.stopHub = goRun(w.hub.Run)
	w.server = httptest.NewUnstartedServer(w)
	w.server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if tcp, ok := c.(*net.TCPConn); ok { // so that a handler's write blocks soon
			_ = tcp.SetWriteBuffer(16 << 10)
		}
		return ctx
	}
	t.Cleanup(func() {
		w.stop()
		w.stopHub()
		w.server.CloseClientConnections()
		w.server.Close()
	})
	w.stop = func() {}
	return w
}

// start makes a world whose engine runs.
func start(t *testing.T, cfg Config) *world {
	t.Helper()
	w := newWorld(t, cfg)
	w.run()
	w.server.Start()
	return w
}

func (w *world) run() { w.stop = goRun(func(ctx context.Context) { w.result <- w.engine.Run(ctx) }) }

// goRun runs a function until the returned one is called.
func goRun(run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	return func() { cancel(); <-done }
}

// ServeHTTP streams to a viewer that the query describes.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	rate, _ := hub.ParseRate("1s")
	v := Viewer{Feed: hub.FeedKey{Sites: "x", Rate: rate}, Authorization: q.Get("authorization")}
	v.Feed.Top, _ = strconv.Atoi(q.Get("top"))
	v.Slot.Key, _ = strconv.ParseUint(q.Get("slot"), 10, 64)
	lifetime, err := time.ParseDuration(q.Get("lifetime"))
	if err != nil {
		lifetime = time.Hour
	}
	v.Deadline = time.Now().Add(lifetime)
	rw.Header().Set("Content-Type", "text/event-stream")
	if err := w.engine.Serve(rw, r, w.hub, v); err != nil {
		http.Error(rw, err.Error(), http.StatusServiceUnavailable)
	}
}

// finalize makes the next second final, with two page views. It sets the lists when there are pages.
func (w *world) finalize(pages ...window.Count) {
	w.at++
	end := (w.at + 1) * 1000
	version := window.RowVersion(window.Epoch, true, w.at)
	e := &window.Emission{Version: 1, Epoch: window.Epoch, Offset: w.at, Watermark: end, Now: end}
	row := window.Second{Site: "x", At: w.at, Pageviews: 2, Visitors: 1, Events: 2, Final: true}
	row.Version = version
	e.Seconds = []window.Second{row}
	if len(pages) > 0 {
		e.Nows = []window.Now{{Site: "x", At: w.at, Version: version, Pages: pages}}
	}
	w.board.Apply(0, w.at, e)
}

// makeFramesLarge makes the frames of feeds with Top 100 about 90 KB long.
func (w *world) makeFramesLarge() {
	var pages []window.Count
	for i := range 100 {
		name := fmt.Sprintf("/%d/%s", i, strings.Repeat("x", 900))
		pages = append(pages, window.Count{Name: name, Active: 1})
	}
	w.finalize(pages...)
}

// eventually polls until a condition holds.
func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not after %s", what, patience)
		}
	}
}

// metric sums the series of a metric whose labels have the given values: name, value, name, value …
func (w *world) metric(name string, labels ...string) (sum float64) {
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "nowcast_streamer_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasLabels(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				sum += float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool {
			return l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}) {
			return false
		}
	}
	return true
}

// slots returns the keys of the slots that were released, in order.
func (w *world) slots() (keys []uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.released {
		keys = append(keys, s.Key)
	}
	slices.Sort(keys)
	return keys
}

// client is a viewer's end of a stream.
type client struct {
	t    *testing.T
	conn net.Conn
	body *bufio.Reader
}

// message is one message of a stream.
type message struct {
	event, id, retry string
	size             int // bytes
	Visitors         int
	Skipped          int
	Second           *struct {
		At, From  time.Time
		Pageviews int
	}
	Seconds *[]struct{ At time.Time }
}

// connect sends a request; open reads the head of its response.
func (w *world) connect(query string) *client {
	w.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(w.t.Context(), "tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /?%s HTTP/1.1\r\nHost: x\r\n\r\n", query)
	return &client{t: w.t, conn: conn}
}

// open opens a stream and reads up to its snapshot.
func (w *world) open(query string) (*client, message) {
	w.t.Helper()
	c := w.connect(query)
	c.readHead(http.StatusOK)
	if m := c.next(); m.retry != "1000" {
		w.t.Fatalf("the stream begins with %+v", m)
	}
	m := c.next()
	if m.event != "snapshot" || m.Seconds == nil {
		w.t.Fatalf("%+v is no snapshot", m)
	}
	return c, m
}

func (c *client) readHead(status int) {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	res, err := http.ReadResponse(bufio.NewReader(c.conn), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode != status {
		c.t.Fatalf("status %s, want %d", res.Status, status)
	}
	c.body = bufio.NewReader(res.Body)
}

// next reads a message.
func (c *client) next() message {
	c.t.Helper()
	m, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *client) read() (m message, err error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		line, err := c.body.ReadString('\n')
		if err != nil {
			return m, err
		}
		m.size += len(line)
		switch field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); field {
		case "event":
			m.event = value
		case "id":
			m.id = value
		case "retry":
			m.retry = value
		case "data":
			if err := json.Unmarshal([]byte(value), &m); err != nil {
				return m, fmt.Errorf("%q: %w", value, err)
			}
		case "":
			return m, nil
		default:
			return m, fmt.Errorf("unexpected line %q", line)
		}
	}
}

// nextAt reads frames up to the one of a second, and fails when one was skipped.
func (c *client) nextAt(at int64) {
	c.t.Helper()
	for {
		m := c.next()
		if m.Second == nil || m.Skipped > 0 || !m.Second.From.IsZero() {
			c.t.Fatalf("%+v", m)
		}
		if m.Second.At.Unix() == at {
			return
		}
	}
}
