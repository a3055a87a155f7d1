package process

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"
)

// BenchmarkIdleConnections is what a connection costs that has had one request, or half a body, and says nothing more. The clients are in the
// same process and cost about 0.5 KB each.
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
			begun := make(chan struct{}, n)
			go func() {
				ended <- Serve(ctx, l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					begun <- struct{}{}
					_, _ = io.Copy(io.Discard, r.Body)
				}), time.Millisecond)
			}()
			for b.Loop() {
				before := inUse()
				conns := make([]net.Conn, n)
				for i := range conns {
					if conns[i], err = (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String()); err != nil {
						b.Fatal(err)
					}
					if _, err := io.WriteString(conns[i], row.request); err != nil {
						b.Fatal(err)
					}
				}
				for range n {
					<-begun
				}
				time.Sleep(100 * time.Millisecond) // until the last ones are idle
				b.ReportMetric(float64(inUse()-before)/n, "B/conn")
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

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
