package e2e

import (
	"bufio"
	"context"
	"encoding/json"
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
)

// viewer is a dashboard that comes and goes. Only its own goroutine touches it.
type viewer struct {
	w         *streams
	random    *rand.Rand
	sites     []string
	accounts  map[string]*account
	rate      string
	top       int
	pace      int           // bytes/s that it reads; 0: all there is
	stays     time.Duration // on average, until it drops the connection by itself
	browser   bool
	key       string
	filter    filter            // of its only site
	elsewhere func() int        // which replica it takes next; nil: any
	came      func(replica int) // a stream was opened there; may be nil

	id      string // of the last event that came whole
	replica int    // that it is connected to, or was last
	moved   int    // resumes at another one
	opened  int
	refused int // 503, or 200 with nothing but when to come again
	strange []string
	counts  *tally
}

// tally is what all viewers have in common.
type tally struct{ frames, opened, dropped atomic.Int64 }

// follow comes back until ctx ends.
func (v *viewer) follow(ctx context.Context) {
	for ctx.Err() == nil {
		life := time.Duration(v.random.ExpFloat64() * float64(v.stays))
		mine, cancel := context.WithTimeout(ctx, life)
		began := time.Now()
		opened := v.opened
		retry, err := v.connect(mine)
		if mine.Err() == nil && v.opened > opened { // it was open, and ended by the other side
			v.counts.dropped.Add(1)
		}
		cancel()
		if retry == 0 {
			retry = time.Duration(v.random.Int64N(int64(time.Second)))
		}
		if err != nil && time.Since(began) < time.Second {
			retry = max(retry, 200*time.Millisecond)
		}
		select {
		case <-time.After(min(retry, 5*time.Second)):
		case <-ctx.Done():
		}
		if before := v.replica; len(v.w.replicas) > 1 {
			if v.elsewhere != nil {
				v.replica = v.elsewhere()
			} else {
				v.replica = v.random.IntN(len(v.w.replicas))
			}
			if v.replica != before && v.id != "" {
				v.moved++
			}
		}
	}
}

// connect follows one connection to its end. It returns when to come again, if the server said so.
func (v *viewer) connect(ctx context.Context) (retry time.Duration, err error) {
	addr := v.w.replicas[v.replica].listen
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	var in io.Reader = &waiting{c}
	if v.pace > 0 {
		_ = c.(*net.TCPConn).SetReadBuffer(2048)
		in = &slow{ctx, in, v.pace}
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
			v.odd("503 without Retry-After")
		}
		return 0, errors.New(res.Status)
	}
	if res.StatusCode != http.StatusOK {
		v.odd("%s", res.Status)
		return 0, errors.New(res.Status)
	}
	v.opened++
	v.counts.opened.Add(1)
	if v.came != nil {
		v.came(v.replica)
	}
	return v.read(res.Body)
}

func (v *viewer) odd(format string, args ...any) {
	if len(v.strange) < 5 {
		v.strange = append(v.strange, fmt.Sprintf(format, args...))
	}
}

// request asks for the stream, after the last id by header or by query.
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
	return "GET /api/events?" + q.Encode() + " HTTP/1.1\r\nHost: " + addr + "\r\nAuthorization: Bearer " + v.key + "\r\n" + header + "\r\n"
}

// read books every event that comes whole.
func (v *viewer) read(body io.Reader) (time.Duration, error) {
	events := 0
	text, err := readEvents(body, func(f frame, data string) {
		events++
		v.take(f, data)
	})
	ms, fault := strconv.Atoi(text)
	if text != "" && fault != nil {
		v.odd("retry: %s", text)
	}
	if !errors.Is(err, io.EOF) {
		return 0, err
	}
	if events == 0 {
		v.refused++
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func (v *viewer) take(f frame, data string) {
	if err := json.Unmarshal([]byte(data), &f); err != nil {
		v.odd("data that is no JSON: %v", err)
		return
	}
	v.counts.frames.Add(1)
	if f.id != "" {
		v.id = f.id
	}
	if f.event == "reset" { // it is of no site
		for _, a := range v.accounts {
			a.take(f)
		}
		return
	}
	a, ok := v.accounts[f.Site]
	if !ok {
		v.odd("a frame of %q, which was not asked for", f.Site)
		return
	}
	a.take(f)
}

// waiting reads until nothing has come for a minute, which is four heartbeats.
type waiting struct{ net.Conn }

func (w *waiting) Read(b []byte) (int, error) {
	_ = w.SetReadDeadline(time.Now().Add(time.Minute))
	return w.Conn.Read(b)
}

// slow reads so many bytes a second.
type slow struct {
	ctx  context.Context
	from io.Reader
	pace int
}

func (s *slow) Read(b []byte) (int, error) {
	const beat = 100 * time.Millisecond
	select {
	case <-time.After(beat):
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
	return s.from.Read(b[:min(len(b), max(1, s.pace/10))])
}
