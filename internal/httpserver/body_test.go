package httpserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// serveBodies serves h with a limit on the time of bodies.
func serveBodies(t *testing.T, h http.HandlerFunc, timeout time.Duration) (
	l *pipeListener, stop context.CancelFunc, result <-chan error,
) {
	return servePipe(t, func(ctx context.Context, l net.Listener) error {
		srv := &http.Server{Handler: limitBodyTime(h, timeout)}
		defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
		return srv.Serve(l)
	})
}

// A body that arrives byte by byte is cut off at the timeout, and its connection is closed, whether or
// not its handler reads it.
func TestSlowBody(t *testing.T) {
	const timeout = 100 * time.Millisecond
	for _, row := range []struct {
		name, length, part string
		reads              bool
	}{
		{"length, read", "Content-Length: 100000\r\n", "a", true},
		{"length, not read", "Content-Length: 100000\r\n", "a", false},
		{"chunks, read", "Transfer-Encoding: chunked\r\n", "1\r\na\r\n", true},
		{"chunks, not read", "Transfer-Encoding: chunked\r\n", "1\r\na\r\n", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := make(chan error, 1)
				l, stop, _ := serveBodies(t, func(w http.ResponseWriter, r *http.Request) {
					var err error
					if row.reads {
						_, err = io.Copy(io.Discard, r.Body)
					}
					got <- err
					w.WriteHeader(http.StatusBadRequest)
				}, timeout)
				defer stop()
				c := l.dial()
				defer c.Close()
				start := time.Now()
				var sending sync.WaitGroup
				sending.Go(func() {
					_, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n", row.length)
					for ; err == nil; time.Sleep(5 * time.Millisecond) {
						_, err = io.WriteString(c, row.part)
					}
				})
				b, _ := io.ReadAll(c) // ends when the server closes the connection
				if err := <-got; row.reads && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the handler's read ended with %v", err)
				}
				if took := time.Since(start); took < timeout/2 || took > 5*time.Second {
					t.Errorf("closed after %s", took)
				}
				if !strings.HasPrefix(string(b), "HTTP/1.1 400 ") && row.reads {
					t.Errorf("response %q", b)
				}
				sending.Wait()
			})
		})
	}
}

// A request that runs for longer than its body may take keeps its context, and its connection serves the
// next one.
func TestLongResponseAfterBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 30 * time.Millisecond
		l, stop, _ := serveBodies(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-r.Context().Done():
				_, _ = io.WriteString(w, "cut")
			case <-time.After(4 * timeout):
				_, _ = io.WriteString(w, "whole")
			}
		}, timeout)
		defer stop()
		c := l.dial()
		defer c.Close()
		in := bufio.NewReader(c)
		for _, request := range []string{
			"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
			"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			time.Sleep(2 * timeout) // the connection is idle for longer than a body may take
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			if res.Body.Close(); err != nil || string(b) != "whole" {
				t.Errorf("%.4s: %v %q", request, err, b)
			}
		}
	})
}
