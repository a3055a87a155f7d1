package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"nowcast/internal/retry"
	"nowcast/internal/sse"
)

// viewer is a dashboard that connects again and again. Only its own goroutine uses it.
type viewer struct {
	w        *streams
	random   *rand.Rand
	sites    []string
	accounts map[string]*account
	rate     string
	top      int
	readRate int           // bytes/s; 0: unlimited
	stay     time.Duration // mean time until it closes a connection itself
	browser  bool
	key      string
	filter   filter            // of its only site
	choose   func() int        // the replica of its next connection; nil: a random one
	onOpen   func(replica int) // called when a stream is open; may be nil

	id      string // of the last event
	replica int    // of the current connection, or of the last one
	moved   int    // resumes at another replica
	opened  int
	refused int // 503, or 200 with only a retry field
	faults  []string
	counts  *viewerCounts
}

// viewerCounts count for all viewers of a test.
type viewerCounts struct{ frames, opened, dropped atomic.Int64 }

// follow connects until ctx ends.
func (v *viewer) follow(ctx context.Context) {
	for ctx.Err() == nil {
		life := time.Duration(v.random.ExpFloat64() * float64(v.stay))
		connection, cancel := context.WithTimeout(ctx, life)
		began := time.Now()
		opened := v.opened
		wait, err := v.connect(connection)
		if connection.Err() == nil && v.opened > opened { // ended by the streamer
			v.counts.dropped.Add(1)
		}
		cancel()
		if wait == 0 {
			wait = time.Duration(v.random.Int64N(int64(time.Second)))
		}
		if err != nil && time.Since(began) < time.Second {
			wait = max(wait, 200*time.Millisecond)
		}
		_ = retry.Sleep(ctx, min(wait, 5*time.Second))
		if before := v.replica; len(v.w.replicas) > 1 {
			if v.choose != nil {
				v.replica = v.choose()
			} else {
				v.replica = v.random.IntN(len(v.w.replicas))
			}
			if v.replica != before && v.id != "" {
				v.moved++
			}
		}
	}
}

// connect follows a stream to its end. It returns the reconnection time that the streamer sent; 0: none.
func (v *viewer) connect(ctx context.Context) (wait time.Duration, err error) {
	addr := v.w.replicas[v.replica].listen
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	var in io.Reader = &deadlineReader{c}
	if v.readRate > 0 {
		_ = c.(*net.TCPConn).SetReadBuffer(2048)
		in = &slowReader{ctx, in, v.readRate}
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, v.request(addr)); err != nil {
		return 0, err
	}
	r := bufio.NewReader(in)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusServiceUnavailable {
		v.refused++
		if res.Header.Get("Retry-After") == "" {
			v.fault("503 without Retry-After")
		}
		return 0, errors.New(res.Status)
	}
	if res.StatusCode != http.StatusOK {
		v.fault("%s", res.Status)
		return 0, errors.New(res.Status)
	}
	v.opened++
	v.counts.opened.Add(1)
	if v.onOpen != nil {
		v.onOpen(v.replica)
	}
	return v.read(res.Body)
}

func (v *viewer) fault(format string, args ...any) {
	if len(v.faults) < 5 {
		v.faults = append(v.faults, fmt.Sprintf(format, args...))
	}
}

// request is the request for the stream. It has the last id in a header or in the query.
func (v *viewer) request(addr string) string {
	q := url.Values{"site": v.sites, "rate": {v.rate}, "top": {strconv.Itoa(v.top)}}
	if v.filter.dimension != "" {
		q.Set(v.filter.dimension, v.filter.value)
	}
	header := ""
	if v.id != "" && v.random.IntN(2) == 0 {
		q.Set("lastEventId", v.id)
	} else if v.id != "" {
		header = "Last-Event-ID: " + v.id + "\r\n"
	}
	if v.browser {
		header += "User-Agent: " + agent(1) + "\r\nSec-Fetch-Mode: cors\r\n"
	}
	return "GET /api/events?" + q.Encode() + " HTTP/1.1\r\nHost: " + addr + "\r\nAuthorization: Bearer " +
		v.key + "\r\n" + header + "\r\n"
}

// read handles every event until the stream ends. It returns the stream's reconnection time.
func (v *viewer) read(body io.Reader) (time.Duration, error) {
	r := sse.NewReader(body)
	events := 0
	e, err := r.Next()
	for ; err == nil; e, err = r.Next() {
		events++
		v.handle(e)
	}
	wait, fault := r.Retry()
	if fault != nil {
		v.fault("%v", fault)
	}
	if !errors.Is(err, io.EOF) {
		return 0, err
	}
	if events == 0 {
		v.refused++
	}
	return wait, nil
}

func (v *viewer) handle(e sse.Event) {
	f, err := parseFrame(e)
	if err != nil {
		v.fault("data that is no JSON: %v", err)
		return
	}
	v.counts.frames.Add(1)
	if f.id != "" {
		v.id = f.id
	}
	if f.event == "reset" { // applies to all sites of the connection
		for _, a := range v.accounts {
			a.add(f)
		}
		return
	}
	a, ok := v.accounts[f.Site]
	if !ok {
		v.fault("a frame of site %q, which was not requested", f.Site)
		return
	}
	a.add(f)
}

// deadlineReader fails when nothing arrives for a minute, which is four heartbeats.
type deadlineReader struct{ net.Conn }

func (r *deadlineReader) Read(b []byte) (int, error) {
	_ = r.SetReadDeadline(time.Now().Add(time.Minute))
	return r.Conn.Read(b)
}

// slowReader reads at most rate bytes a second.
type slowReader struct {
	ctx  context.Context
	from io.Reader
	rate int
}

func (s *slowReader) Read(b []byte) (int, error) {
	if err := retry.Sleep(s.ctx, 100*time.Millisecond); err != nil {
		return 0, err
	}
	return s.from.Read(b[:min(len(b), max(1, s.rate/10))])
}
