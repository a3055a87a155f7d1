package httpserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// serveShort serves h with short time-outs.
func serveShort(t *testing.T, h http.HandlerFunc, limits timeouts, paths ...string) (s *server, addr string) {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s = newServer(ctx, l, h, limits, paths)
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, time.Second) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

// exchange sends a request and reads its response.
func exchange(t *testing.T, c net.Conn, in *bufio.Reader, request string) *http.Response {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res
}

// After a request a silent connection stays open for the idle time, however soon the request came, and for
// no longer.
func TestIdleConnection(t *testing.T) {
	limits := timeouts{header: 100 * time.Millisecond, body: 100 * time.Millisecond, idle: time.Second,
		write: time.Second}
	const post = plain + "Content-Length: 1\r\n\r\na"
	for _, row := range []struct {
		name, first string
		fast        string
	}{
		{"fast path", post, "true"},
		{"handed over", "GET /q HTTP/1.1\r\nHost: x\r\n\r\n", "false"},
		{"body in chunks", plain + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "false"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, addr := serveShort(t, echo, limits, "/q")
			c := dial(t, addr)
			in := bufio.NewReader(c)
			for i, request := range []string{row.first, post} {
				if res := exchange(t, c, in, request); res.Header.Get("X-Fast") != row.fast {
					t.Errorf("request %d: fast is %s", i, res.Header.Get("X-Fast"))
				}
				_ = c.SetReadDeadline(time.Now().Add(4 * limits.header))
				if _, err := in.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("silent for %s after request %d: %v", 4*limits.header, i, err)
				}
			}
			exchange(t, c, in, post)
			since := time.Now()
			_ = c.SetReadDeadline(since.Add(5 * time.Second))
			if _, err := in.ReadByte(); err != io.EOF {
				t.Errorf("silent for longer: %v", err)
			}
			if took := time.Since(since); took < limits.idle*9/10 || took > 3*limits.idle {
				t.Errorf("closed after %s", took)
			}
		})
	}
}

// A connection without a request, and one with half a header, whole or byte by byte, are closed after the
// header's time.
func TestSlowHeader(t *testing.T) {
	limits := timeouts{header: 200 * time.Millisecond, body: time.Second, idle: time.Minute,
		write: time.Second}
	for _, row := range []struct{ name, first, trickle string }{
		{"nothing", "", ""},
		{"half a header", "POST /q HTTP/1.1\r\nHost", ""},
		{"half a header, then bytes", "POST /q HTTP/1.1\r\nX-A: ", "a"},
		{"half a plain request", plain + "Content-Length: 10", "0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, addr := serveShort(t, echo, limits, "/q")
			c := dial(t, addr)
			start := time.Now()
			_, _ = io.WriteString(c, row.first)
			for deadline := start.Add(5 * time.Second); time.Now().Before(deadline); {
				if row.trickle != "" {
					_, _ = io.WriteString(c, row.trickle)
				}
				_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				if _, err := io.ReadAll(c); !errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
			}
			if took := time.Since(start); took < limits.header/2 || took > 4*limits.header {
				t.Errorf("closed after %s", took)
			}
		})
	}
}

// A client that takes no byte of a response is disconnected after the time-out, and its handler's write
// fails. One that takes a byte now and then gets the whole response.
func TestSlowReader(t *testing.T) {
	const size, timeout = 30, 30 * time.Second
	for _, row := range []struct {
		name  string
		every time.Duration // between two bytes; 0: reads nothing
	}{
		{"reads nothing", 0},
		{"a byte every 25 s", 25 * time.Second},
		{"a byte every 70 s", 70 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				written := make(chan error, 1)
				l, stop, result := servePipe(t, func(ctx context.Context, l net.Listener) error {
					return Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
						_, err := w.Write(make([]byte, 100<<10)) // larger than net/http's buffer
						written <- err
					}), time.Second)
				})
				c := l.dial()
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				for range size {
					if row.every == 0 {
						break
					}
					time.Sleep(row.every)
					if _, err := c.Read(make([]byte, 1)); err != nil {
						break
					}
				}
				whole := row.every > 0 && row.every < timeout
				if whole {
					go func() { _, _ = io.Copy(io.Discard, c) }()
				}
				err := <-written
				if whole != (err == nil) || !whole && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the handler's write: %v", err)
				}
				took := time.Since(start)
				if row.every == 0 && (took < timeout*9/10 || took > timeout*11/10) {
					t.Errorf("disconnected after %s", took)
				}
				stop()
				c.Close()
				if err := <-result; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// The same on sockets: responses on the fast path and on net/http's, whose client never reads.
func TestStalledReader(t *testing.T) {
	limits := timeouts{header: time.Minute, body: time.Minute, idle: time.Minute,
		write: 300 * time.Millisecond}
	body := make([]byte, 1<<20)
	for _, row := range []struct{ name, request string }{
		{"fast path", plain + "Content-Length: 1\r\n\r\na"},
		{"net/http", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			answered := make(chan bool, 100)
			_, addr := serveShort(t, func(w http.ResponseWriter, r *http.Request) {
				_, fast := w.(*fastResponse)
				_, _ = w.Write(body)
				answered <- fast == (r.Method == http.MethodPost)
			}, limits, "/q")
			c := dial(t, addr)
			_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
			closed := make(chan struct{})
			go func() { // until the server is stuck in a write
				defer close(closed)
				for range 50 {
					if _, err := io.WriteString(c, row.request); err != nil {
						return
					}
					select {
					case ok := <-answered:
						if !ok {
							t.Error("the request took the other way")
						}
					case <-time.After(5 * limits.write):
						return
					}
				}
			}()
			<-closed
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, err := io.Copy(io.Discard, c)
			if errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n%(1<<20) == 0 {
				t.Errorf("not disconnected within a response: %d bytes, %v", n, err)
			}
		})
	}
}

// The kernel's buffers hide a slow reader's progress from a write; the connection sees it all the same.
func TestProgressBehindBuffers(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client := dial(t, l.Addr().String())
	_ = client.(*net.TCPConn).SetReadBuffer(64 << 10)
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	_ = server.(*net.TCPConn).SetWriteBuffer(4 << 20)
	const timeout = 300 * time.Millisecond
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MB
	result := make(chan error, 1)
	go func() {
		_, err := (&progressConn{Conn: server, timeout: timeout}).Write(sent)
		result <- err
	}()
	pace := time.NewTicker(timeout / 10)
	defer pace.Stop()
	var got bytes.Buffer
	for range 30 { // for three time-outs, 32 KB at a time
		<-pace.C
		if _, err := io.CopyN(&got, client, 32<<10); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-result:
		t.Fatalf("ended while the client reads: %v", err)
	default:
	}
	if _, err := io.CopyN(&got, client, int64(len(sent)-got.Len())); err != nil || <-result != nil ||
		!bytes.Equal(got.Bytes(), sent) {
		t.Errorf("the rest: %v, %d bytes", err, got.Len())
	}
}

// A deadline that the handler sets counts instead of the time-out, as streams need it.
func TestWriteDeadlineOfHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := make(chan error, 1)
		start := time.Now()
		l, stop, result := servePipe(t, func(ctx context.Context, l net.Listener) error {
			return Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).SetWriteDeadline(start.Add(2 * time.Minute))
				_, err := fmt.Fprint(w, strings.Repeat("a", 100<<10))
				written <- err
			}), time.Second)
		})
		c := l.dial()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if err := <-written; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 2*time.Minute {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		stop()
		c.Close()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}
