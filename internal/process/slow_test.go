package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A body that comes byte by byte is cut off in time, and its connection closed, whether its handler reads it or not.
func TestSlowBody(t *testing.T) {
	const within = 100 * time.Millisecond
	for _, row := range []struct{ name, length string }{
		{"length", "Content-Length: 100000\r\n"},
		{"chunks", "Transfer-Encoding: chunked\r\n"},
	} {
		for _, reads := range []bool{true, false} {
			got := make(chan error, 1)
			srv := httptest.NewServer(hurry(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var err error
				if reads {
					_, err = io.Copy(io.Discard, r.Body)
				}
				got <- err
				w.WriteHeader(http.StatusBadRequest)
			}), within))
			c := dial(t, srv.Listener.Addr().String())
			start := time.Now()
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n", row.length)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for part := "a"; ; time.Sleep(5 * time.Millisecond) {
					if row.name == "chunks" {
						part = "1\r\na\r\n"
					}
					if _, err := io.WriteString(c, part); err != nil {
						return
					}
				}
			}()
			if err := <-got; reads && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: the handler read to %v", row.name, err)
			}
			b, _ := io.ReadAll(c) // ends when the server closes; by a reset, since we go on sending
			if took := time.Since(start); took < within/2 || took > 5*time.Second {
				t.Errorf("%s, read %t: closed after %s", row.name, reads, took)
			}
			if !strings.HasPrefix(string(b), "HTTP/1.1 400 ") && reads {
				t.Errorf("%s: %q", row.name, b)
			}
			<-ended
			srv.Close()
		}
	}
}

// A request that runs longer than a body may take keeps its context, and its connection serves the next one.
func TestLongAnswerAfterABody(t *testing.T) {
	const within = 30 * time.Millisecond
	srv := httptest.NewServer(hurry(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
			_, _ = io.WriteString(w, "cut")
		case <-time.After(4 * within):
			_, _ = io.WriteString(w, "whole")
		}
	}), within))
	defer srv.Close()
	c := dial(t, srv.Listener.Addr().String())
	in := bufio.NewReader(c)
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		time.Sleep(2 * within) // idle for longer than a body may take
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
}

func TestLargeHeader(t *testing.T) {
	addr, stop, result := serving(t, func(http.ResponseWriter, *http.Request) {}, time.Second)
	for size, want := range map[int]int{12 << 10: 200, 24 << 10: 431} {
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, "http://"+addr, nil)
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
