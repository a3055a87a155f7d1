package httpserver

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// startServe runs Serve on a TCP address. It returns the address, the server's stop, and its result.
func startServe(t *testing.T, h http.HandlerFunc, drain time.Duration) (
	addr string, stop context.CancelFunc, result <-chan error,
) {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, h, drain) }()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return l.Addr().String(), cancel, ended
}

// get sends a request and returns when the first byte of the body has arrived; rest then gets the other
// bytes, with "!" behind them if the body ended too early.
func get(t *testing.T, addr string) (rest chan string) {
	t.Helper()
	c := dial(t, addr)
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return readRest(t, c)
}

func readRest(t *testing.T, c net.Conn) (rest chan string) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	rest = make(chan string, 1)
	go func() {
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			b = append(b, "!"...)
		}
		rest <- string(b)
	}()
	return rest
}

func sendFirstByte(w http.ResponseWriter) {
	_, _ = w.Write([]byte("."))
	_ = http.NewResponseController(w).Flush()
}

func TestServeDrains(t *testing.T) {
	finish := make(chan struct{})
	addr, stop, result := startServe(t, func(w http.ResponseWriter, _ *http.Request) {
		sendFirstByte(w)
		<-finish
		_, _ = w.Write([]byte("done"))
	}, time.Minute)
	rest := get(t, addr)
	stop()
	eventually(t, "no new connections while draining", func() bool {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(finish)
	if s := <-rest; s != "done" {
		t.Errorf("the running request got %q", s)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestServeCancelsEndlessRequests(t *testing.T) {
	addr, stop, result := startServe(t, func(w http.ResponseWriter, r *http.Request) {
		sendFirstByte(w)
		<-r.Context().Done()
	}, time.Minute)
	rest := get(t, addr)
	stop()
	if s := <-rest; s != "" {
		t.Errorf("got %q", s)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// A request that ignores its context has its connection closed after the drain time.
func TestServeClosesConnectionsAfterDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const drain = 50 * time.Millisecond
		l, stop, result := servePipe(t, func(ctx context.Context, l net.Listener) error {
			return Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for sendFirstByte(w); ; time.Sleep(time.Millisecond) {
					if _, err := w.Write(make([]byte, 1<<10)); err != nil {
						return
					}
				}
			}), drain)
		})
		c := l.dial()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		rest := readRest(t, c)
		start := time.Now()
		stop()
		if err := <-result; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < drain || took > drain+closeGrace {
			t.Errorf("drained for %s, want %s", took, drain)
		}
		if s := <-rest; !strings.HasSuffix(s, "!") {
			t.Error("the response ended as if it were whole")
		}
	})
}

// A handler that runs on without its connection is reported.
func TestServeReportsStuckRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l, stop, result := servePipe(t, func(ctx context.Context, l net.Listener) error {
			return Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				sendFirstByte(w)
				<-release
			}), time.Second)
		})
		c := l.dial()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		rest := readRest(t, c)
		start := time.Now()
		stop()
		if err := <-result; err == nil || !strings.Contains(err.Error(), "requests still run 2s after") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != time.Second+closeGrace {
			t.Errorf("gave up after %s", took)
		}
		close(release)
		<-rest
	})
}

func TestServeReportsBrokenListener(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, fastPaths := range [][]string{nil, {"/q"}} {
		err := Serve(t.Context(), l, http.NotFoundHandler(), time.Second, fastPaths...)
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("with fast paths %v: %v", fastPaths, err)
		}
	}
}

func TestListen(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, row := range []struct{ addr, want string }{
		{l.Addr().String(), "is taken: stop the program"},
		{"198.51.100.7:1234", "isn't one of this machine's"},
		{"nonsense", "listen on nonsense"},
	} {
		l, err := Listen(row.addr)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.addr, err)
		}
	}
}

func TestLargeHeader(t *testing.T) {
	addr, stop, result := startServe(t, func(http.ResponseWriter, *http.Request) {}, time.Second)
	for size, want := range map[int]int{12 << 10: 200, 24 << 10: 431} {
		req, err := http.NewRequestWithContext(
			context.WithoutCancel(t.Context()), http.MethodGet, "http://"+addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", strings.Repeat("a", size))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != want {
			t.Errorf("header of %d bytes: %s", size, res.Status)
		}
	}
	stop()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// BenchmarkIdleConnections measures the memory of a connection that had one request, or half a body, and
// sends no more. The clients are in the same process and cost about 0.5 KB each.
func BenchmarkIdleConnections(b *testing.B) {
	for _, row := range []struct{ name, request string }{
		{"kept alive", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"},
		{"half a body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\nabc"},
	} {
		b.Run(row.name, func(b *testing.B) {
			const n = 5000
			l, err := Listen("127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			started := make(chan struct{}, n)
			go func() {
				ended <- Serve(ctx, l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					started <- struct{}{}
					_, _ = io.Copy(io.Discard, r.Body)
				}), time.Millisecond)
			}()
			for b.Loop() {
				before := settledMemory()
				conns := make([]net.Conn, n)
				for i := range conns {
					conns[i], err = (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.WriteString(conns[i], row.request); err != nil {
						b.Fatal(err)
					}
				}
				for range n {
					<-started
				}
				b.ReportMetric(float64(settledMemory()-before)/n, "B/conn")
				for _, c := range conns {
					c.Close()
				}
			}
			stop()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}

// settledMemory returns the bytes of heap and stacks in use, once two measurements differ by less than 1
// %.
func settledMemory() int64 {
	for last := int64(0); ; {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		now := int64(m.HeapAlloc + m.StackInuse)
		if d := now - last; max(d, -d) < now/100 {
			return now
		}
		last = now
	}
}
