package httpserver

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// BenchmarkRequest measures a small POST request and its response on a kept-alive connection.
func BenchmarkRequest(b *testing.B) {
	for _, row := range []struct {
		name  string
		paths []string
	}{{"fast path", []string{"/q"}}, {"net-http", nil}} {
		b.Run(row.name, func(b *testing.B) {
			l, err := Listen("127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(http.StatusAccepted)
					_, _ = io.WriteString(w, "ok")
				}), time.Second, row.paths...)
			}()
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			in := bufio.NewReader(c)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.WriteString(c, plain+"Content-Length: 3\r\n\r\nabc"); err != nil {
					b.Fatal(err)
				}
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			c.Close()
			stop()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}
