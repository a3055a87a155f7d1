package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/internal/retry"
)

// blast posts beacons over kept-alive connections at little cost: requests are prepared beforehand, and of
// an answer only status and length are parsed. net/http's client costs more than the server under test.
type blast struct {
	addr  string
	site  string
	conns int
	rate  float64 // beacons/s over all connections, whatever the answers; 0: as fast as each is answered
	span  time.Duration
}

// answers counts the answers to a blast by status, and broken connections.
type answers struct {
	accepted, tooMany, unavailable, other, broken int64

	latencies []time.Duration // of accepted beacons; with a rate they count from when the beacon was due
}

func (a *answers) rate(span time.Duration) float64 { return float64(a.accepted) / span.Seconds() }

// run posts for the blast's span, or until ctx ends.
func (b blast) run(ctx context.Context) *answers {
	ctx, cancel := context.WithTimeout(ctx, b.span)
	defer cancel()
	var all answers
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := time.Now()
	var scheduled atomic.Int64 // beacons that are due so far
	for n := range b.conns {
		wg.Go(func() {
			var own answers
			b.connection(ctx, n, begin, &scheduled, &own)
			mu.Lock()
			defer mu.Unlock()
			all.add(&own)
		})
	}
	wg.Wait()
	return &all
}

func (a *answers) add(b *answers) {
	a.accepted += b.accepted
	a.tooMany += b.tooMany
	a.unavailable += b.unavailable
	a.other += b.other
	a.broken += b.broken
	a.latencies = append(a.latencies, b.latencies...)
}

// connection posts beacons one after the other, and connects again when its connection breaks.
func (b blast) connection(ctx context.Context, n int, begin time.Time, scheduled *atomic.Int64,
	own *answers) {
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
				own.broken++
				_ = retry.Sleep(ctx, 50*time.Millisecond)
				continue
			}
			r = bufio.NewReaderSize(c, 1024)
		}
		due := time.Now()
		if b.rate > 0 {
			due = begin.Add(time.Duration(float64(scheduled.Add(1)) / b.rate * float64(time.Second)))
			if retry.Sleep(ctx, time.Until(due)) != nil {
				return
			}
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		_, err := c.Write(requests[i%len(requests)])
		var status int
		if err == nil {
			status, err = readAnswer(r)
		}
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil:
			own.broken++
			c.Close()
			c = nil
		case status == 202:
			own.accepted++
			own.latencies = append(own.latencies, time.Since(due))
		case status == 429:
			own.tooMany++
		case status == 503:
			own.unavailable++
		default:
			own.other++
		}
	}
}

// request is a beacon as Plausible's script sends it.
func (b blast) request(visitor int) []byte {
	body := fmt.Sprintf(`{"n":"pageview","v":36,"u":"https://%s/articles/%d?utm_source=news","d":"%[1]s",`+
		`"r":"https://www.google.com/"}`, b.site, visitor%50)
	return fmt.Appendf(nil, "POST /api/event HTTP/1.1\r\nHost: %s\r\n"+
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "+
		"Chrome/142.0.%d.0 Safari/537.36\r\nAccept-Language: de-DE,de;q=0.9\r\nContent-Type: text/plain\r\n"+
		"Content-Length: %d\r\n\r\n%s", b.addr, visitor%5000, len(body), body)
}

// readAnswer reads an HTTP/1.1 response with a Content-Length.
func readAnswer(r *bufio.Reader) (status int, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 {
		return 0, fmt.Errorf("parse status line %q: too short", line)
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
