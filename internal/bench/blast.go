package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// blast posts beacons over connections that stay open, and does as little as possible itself: requests are written down beforehand, of an answer only
// status and length are read. net/http's client costs more than the server under test.
type blast struct {
	addr  string
	site  string
	conns int
	rate  float64 // beacons/s in all, by a clock that doesn't wait for answers; 0: each connection as fast as it is answered
	span  time.Duration
}

// answers are what came of a blast.
type answers struct {
	accepted, busy, unavailable, other, broken int64
	lat                                        []time.Duration // of those accepted; with a rate, from when the beacon was due
}

func (a *answers) rate(span time.Duration) float64 { return float64(a.accepted) / span.Seconds() }

func (b blast) run(ctx context.Context) (*answers, error) {
	ctx, cancel := context.WithTimeout(ctx, b.span)
	defer cancel()
	var all answers
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	begin := time.Now()
	var due atomic.Int64 // of beacons so far
	for n := range b.conns {
		wg.Go(func() {
			var mine answers
			err := b.connection(ctx, n, begin, &due, &mine)
			mu.Lock()
			defer mu.Unlock()
			all.add(&mine)
			if err != nil && ctx.Err() == nil {
				first = errors.Join(first, err)
			}
		})
	}
	wg.Wait()
	return &all, first
}

func (a *answers) add(b *answers) {
	a.accepted += b.accepted
	a.busy += b.busy
	a.unavailable += b.unavailable
	a.other += b.other
	a.broken += b.broken
	a.lat = append(a.lat, b.lat...)
}

func (b blast) connection(ctx context.Context, n int, begin time.Time, due *atomic.Int64, mine *answers) error {
	var c net.Conn
	var r *bufio.Reader
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	requests := make([][]byte, 64)
	for i := range requests {
		requests[i] = b.request(n*len(requests) + i)
	}
	for i := 0; ctx.Err() == nil; i++ {
		if c == nil {
			var err error
			if c, err = (&net.Dialer{}).DialContext(ctx, "tcp", b.addr); err != nil {
				mine.broken++
				pause(ctx, 50*time.Millisecond)
				continue
			}
			r = bufio.NewReaderSize(c, 1024)
		}
		from := time.Now()
		if b.rate > 0 {
			from = begin.Add(time.Duration(float64(due.Add(1)) / b.rate * float64(time.Second)))
			if pause(ctx, time.Until(from)); ctx.Err() != nil {
				return nil
			}
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		_, err := c.Write(requests[i%len(requests)])
		var status int
		if err == nil {
			status, err = answer(r)
		}
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err != nil:
			mine.broken++
			c.Close()
			c = nil
		case status == 202:
			mine.accepted++
			mine.lat = append(mine.lat, time.Since(from))
		case status == 429:
			mine.busy++
		case status == 503:
			mine.unavailable++
		default:
			mine.other++
		}
	}
	return nil
}

// request is a beacon of Plausible's script, as a browser sends it.
func (b blast) request(visitor int) []byte {
	body := fmt.Sprintf(`{"n":"pageview","v":36,"u":"https://%s/articles/%d?utm_source=news","d":"%[1]s","r":"https://www.google.com/"}`, b.site, visitor%50)
	return fmt.Appendf(nil, "POST /api/event HTTP/1.1\r\nHost: %s\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.%d.0 Safari/537.36\r\n"+
		"Accept-Language: de-DE,de;q=0.9\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", b.addr, visitor%5000, len(body), body)
}

// answer reads one.
func answer(r *bufio.Reader) (status int, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 {
		return 0, fmt.Errorf("no answer: %q", line)
	}
	status, err = strconv.Atoi(string(line[9:12]))
	length := 0
	for err == nil {
		if line, err = r.ReadSlice('\n'); err != nil || len(line) <= 2 {
			break
		}
		if key, v, _ := strings.Cut(string(line), ":"); strings.EqualFold(key, "Content-Length") {
			length, err = strconv.Atoi(strings.TrimSpace(v))
		}
	}
	if err == nil {
		_, err = io.CopyN(io.Discard, r, int64(length))
	}
	return status, err
}
