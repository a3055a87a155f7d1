package ingest

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"nowcast/ingest/publisher/logtest"
)

// open sends the beginning of a request and leaves the connection open.
func (w *world) open(t testing.TB, start string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, start); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLargeBodies begins large bodies and doesn't end them: at most maxLargeBodies are read, and small
// ones are taken.
func TestLargeBodies(t *testing.T) {
	w := start(t, Config{})
	wide := `{"n":"pageview","u":"https://example.com/a","zzz":"` + strings.Repeat("a", smallBody) + `"}`
	var held []net.Conn
	for i := range maxLargeBodies {
		length := "Content-Length: 900000"
		if i%2 == 0 {
			length = "Transfer-Encoding: chunked"
		}
		held = append(held, w.open(t, "POST /api/event HTTP/1.1\r\nHost: x\r\n"+length+"\r\n\r\n"))
	}
	logtest.Until(t, "full", func() bool { return len(w.limiter.largeBodies) == maxLargeBodies })
	if a := w.post(t, wide); a.status != 503 || a.header.Get("Retry-After") != "1" ||
		a.header.Get("Access-Control-Allow-Origin") != "*" ||
		!strings.HasPrefix(a.body, `{"error":"too many large requests`) {
		t.Errorf("one more: %+v", a)
	}
	if a := w.post(t, page); a.status != 202 {
		t.Errorf("an ordinary one: %+v", a)
	}
	held[0].Close()
	logtest.Until(t, "free again", func() bool { return len(w.limiter.largeBodies) < maxLargeBodies })
	if a := w.post(t, wide); a.status != 202 {
		t.Errorf("after one has ended: %+v", a)
	}
}

// BenchmarkSlowBody measures the memory of a sender that begins a small body and doesn't end it.
func BenchmarkSlowBody(b *testing.B) {
	w := start(b, Config{})
	const n = 2000
	inUse := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	for b.Loop() {
		before := inUse()
		for range n {
			w.open(b, fmt.Sprintf("POST /api/event HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s",
				smallBody, page[:40]))
		}
		b.ReportMetric(float64(inUse()-before)/n, "B/conn")
	}
}
