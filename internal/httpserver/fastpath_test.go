package httpserver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// echo responds with the request as its handler sees it, and with whether it took the fast path. X-Do
// asks for other responses.
func echo(w http.ResponseWriter, r *http.Request) {
	_, fast := w.(*fastResponse)
	b, err := io.ReadAll(r.Body)
	w.Header().Set("X-Fast", fmt.Sprint(fast))
	switch r.Header.Get("X-Do") {
	case "panic":
		panic(http.ErrAbortHandler)
	case "close":
		w.Header().Set("Connection", "close")
	case "empty":
		w.WriteHeader(http.StatusNoContent)
		return
	case "split":
		w.Header()["X-Split"] = []string{"a\r\nX-More: b", "c"}
	case "nothing":
		return
	case "sniff":
		_, _ = io.WriteString(w, "<html>")
		return
	case "interim":
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode([]any{r.Method, r.URL, r.Host, r.RequestURI, r.Proto, r.ProtoMajor,
		r.ProtoMinor, r.Header, r.ContentLength, string(b), fmt.Sprint(err), r.TransferEncoding, r.Close,
		r.Trailer, r.Form, r.TLS == nil, r.Context().Err() == nil,
		strings.HasPrefix(r.RemoteAddr, "127.0.0.1:")})
}

const plain = "POST /q HTTP/1.1\r\nHost: x.example:80\r\n"

var fastPathRows = []struct {
	name, request string
	fast          bool
}{
	{"plain", plain + "Content-Length: 3\r\n\r\nabc", true},
	{"as a browser sends it", plain + "Connection: keep-alive\r\nContent-Length: 2\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux)\r\nAccept-Language: de,en;q=0.5\r\n" +
		"Sec-Fetch-Site: cross-site\r\n\r\n{}", true},
	{"names as proxies send them", "POST /q HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n" +
		"x-forwarded-for: 1.1.1.1\r\nX-FORWARDED-FOR:2.2.2.2 \r\nuser-agent:\t a\tb \r\n\r\na", true},
	{"no body", plain + "Content-Length: 0\r\n\r\n", true},
	{"bytes", plain + "Content-Length: 4\r\nX-A: \xff\xc3\xa4\r\n\r\n\x00\r\n\xff", true},
	{"handler closes", plain + "X-Do: close\r\nContent-Length: 1\r\n\r\na", true},
	{"no content", plain + "X-Do: empty\r\nContent-Length: 1\r\n\r\na", true},
	{"empty response", plain + "X-Do: nothing\r\nContent-Length: 1\r\n\r\na", true},
	{"detected content type", plain + "X-Do: sniff\r\nContent-Length: 1\r\n\r\na", true},
	{"line ends in values", plain + "X-Do: split\r\nContent-Length: 1\r\n\r\na", true},
	{"panic", plain + "X-Do: panic\r\nContent-Length: 1\r\n\r\na", true},

	{"another path", "POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", false},
	{"a longer path", "POST /q/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", false},
	{"a query", "POST /q?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", false},
	{"another method", "GET /q HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"an old version", "POST /q HTTP/1.0\r\nHost: x\r\nContent-Length: 1\r\n\r\na", false},
	{"absolute", "POST http://x/q HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", false},
	{"no host", "POST /q HTTP/1.1\r\nContent-Length: 1\r\n\r\na", false},
	{"two hosts", plain + "Host: y\r\nContent-Length: 1\r\n\r\na", false},
	{"strange host", "POST /q HTTP/1.1\r\nHost: x/y\r\nContent-Length: 1\r\n\r\na", false},
	{"no length", plain + "\r\n", false},
	{"two lengths", plain + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", false},
	{"lengths that differ", plain + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", false},
	{"signed length", plain + "Content-Length: +1\r\n\r\na", false},
	{"empty length", plain + "Content-Length:\r\n\r\n", false},
	{"list of lengths", plain + "Content-Length: 1, 1\r\n\r\na", false},
	{"chunks", plain + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", false},
	{"chunks and a length", plain + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"1\r\na\r\n0\r\n\r\n", false},
	{"unknown coding", plain + "Content-Length: 1\r\nTransfer-Encoding: zip\r\n\r\na", false},
	{"client closes", plain + "Connection: close\r\nContent-Length: 1\r\n\r\na", false},
	{"upgrades", plain + "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na", false},
	{"expects", plain + "Expect: 100-continue\r\nContent-Length: 1\r\n\r\na", false},
	{"pragma", plain + "Pragma: no-cache\r\nContent-Length: 1\r\n\r\na", false},
	{"space before the colon", plain + "Content-Length : 1\r\n\r\na", false},
	{"folded", plain + "X-A: a\r\n b\r\nContent-Length: 1\r\n\r\na", false},
	{"no colon", plain + "X-A\r\nContent-Length: 1\r\n\r\na", false},
	{"no name", plain + ": a\r\nContent-Length: 1\r\n\r\na", false},
	{"line feeds alone", "POST /q HTTP/1.1\nHost: x\nContent-Length: 1\n\na", false},
	{"a line feed in a value", plain + "X-A: a\nContent-Length: 9\r\nContent-Length: 1\r\n\r\na", false},
	{"a carriage return in a value", plain + "X-A: a\rb\r\nContent-Length: 1\r\n\r\na", false},
	{"a zero in a value", plain + "X-A: a\x00b\r\nContent-Length: 1\r\n\r\na", false},
	{"an underscore", plain + "X_A: a\r\nContent-Length: 1\r\n\r\na", false},
	{"many fields", plain + strings.Repeat("X-A: a\r\n", 60) + "Content-Length: 1\r\n\r\na", false},
	{"large", plain + "Content-Length: 9000\r\n\r\n" + strings.Repeat("a", 9000), false},
	{"two at once", plain + "Content-Length: 1\r\n\r\na" + plain + "Content-Length: 1\r\n\r\nb", false},
	{"a line end before", "\r\n" + plain + "Content-Length: 1\r\n\r\na", false},
	{"nonsense", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", false},
}

// serveEcho serves echo, with paths on the fast path.
func serveEcho(t *testing.T, paths ...string) (s *server, addr string, stop func()) {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s = newServer(ctx, l, http.HandlerFunc(echo), defaultTimeouts, paths)
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, 5*time.Second) }()
	return s, l.Addr().String(), func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// response is a response as a client sees it.
type response struct {
	status string
	header http.Header
	body   string
	length int64
	close  bool
	err    string // "ended": the connection ended instead of a response
}

// ask sends bytes and reads all responses to them, and the response to a further GET request if the
// connection is still open, or "ended" if it isn't.
func ask(t *testing.T, addr, request string) (all []response) {
	t.Helper()
	c := dial(t, addr)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	last := false                                     // the further request was sent
	expected := max(1, strings.Count(request, plain)) // responses before the further request's
	for {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return append(all, response{err: "ended"})
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		r := response{res.Status, res.Header, string(b), res.ContentLength, res.Close, ""}
		if err != nil {
			r.err = err.Error()
		}
		all = append(all, r)
		if last {
			return all
		}
		if res.StatusCode >= 200 {
			expected--
		}
		if expected <= 0 && in.Buffered() == 0 {
			if last = true; !res.Close {
				_, _ = io.WriteString(c, "GET /last HTTP/1.1\r\nHost: x\r\n\r\n")
			}
		}
	}
}

// normalize removes from responses what may differ between the two ways. It reports whether the first
// request took the fast path.
func normalize(all []response) (fast bool) {
	for i, r := range all {
		refusal := r.header != nil && r.status[0] == '4' && r.header.Get("X-Fast") == ""
		if r.header != nil && (r.header.Get("Date") == "") != refusal {
			all[i].err += " date" // net/http sets Date on every response but its own refusals
		}
		if i == 0 {
			fast = r.header.Get("X-Fast") == "true"
		}
		delete(r.header, "Date")
		delete(r.header, "X-Fast")
	}
	return fast
}

// Handler and client can't tell the fast path from net/http, and only plain requests take it.
func TestFastPathMatchesNetHTTP(t *testing.T) {
	defer log.SetOutput(log.Writer())
	log.SetOutput(io.Discard)
	_, fastAddr, stopFast := serveEcho(t, "/q")
	defer stopFast()
	_, netAddr, stopNet := serveEcho(t)
	defer stopNet()
	for _, row := range fastPathRows {
		got, want := ask(t, fastAddr, row.request), ask(t, netAddr, row.request)
		if fast := normalize(got); fast != row.fast && row.name != "panic" {
			t.Errorf("%s: fast is %t", row.name, fast)
		}
		if normalize(want); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", row.name, got, want)
		}
	}
}

// A connection that leaves the fast path loses no bytes, also if a request arrives in parts.
func TestFastPathHandsOver(t *testing.T) {
	s, addr, stop := serveEcho(t, "/q")
	defer stop()
	c := dial(t, addr)
	in := bufio.NewReader(c)
	handedOver := func() bool {
		s.fast.mu.Lock()
		defer s.fast.mu.Unlock()
		return len(s.fast.conns) == 0
	}
	for i, row := range []struct {
		parts []string
		fast  string
	}{
		{[]string{plain + "Content-Length: 1\r\n\r\na"}, "true"},
		{[]string{plain + "Content-Length: 1\r\n\r\nb"}, "true"},
		{[]string{plain + "Content-", "Length: 4\r\n\r\nab", "cd"}, "false"},
		{[]string{plain + "Content-Length: 1\r\n\r\nc"}, "false"},
	} {
		for n, part := range row.parts {
			if n > 0 { // the server has seen the parts before this one
				eventually(t, "the connection leaves the fast path", handedOver)
			}
			if _, err := io.WriteString(c, part); err != nil {
				t.Fatal(err)
			}
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		last := row.parts[len(row.parts)-1]
		fast := res.Header.Get("X-Fast")
		if fast != row.fast || !strings.Contains(string(b), last[len(last)-1:]+`",`) {
			t.Errorf("%d: fast %s, %s", i, fast, b)
		}
	}
}

// A stop lets running requests end, closes idle connections at once, and closes the others after the
// drain time.
func TestFastPathDrains(t *testing.T) {
	for _, row := range []struct {
		name  string
		drain time.Duration
		ends  bool
	}{{"ends", time.Minute, true}, {"doesn't end", 50 * time.Millisecond, false}} {
		t.Run(row.name, func(t *testing.T) {
			l, err := Listen("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			started, cancelled, finish := make(chan struct{}), make(chan struct{}), make(chan struct{})
			ctx, stop := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() {
				result <- Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, ok := w.(*fastResponse); !ok {
						t.Error("the request didn't take the fast path")
					}
					close(started)
					<-r.Context().Done()
					close(cancelled)
					<-finish
					_, _ = io.WriteString(w, "done")
				}), row.drain, "/q")
			}()
			idle, busy := dial(t, l.Addr().String()), dial(t, l.Addr().String())
			if _, err := io.WriteString(busy, plain+"Content-Length: 1\r\n\r\na"); err != nil {
				t.Fatal(err)
			}
			<-started
			stop()
			<-cancelled
			if b, err := io.ReadAll(idle); err != nil || len(b) > 0 {
				t.Errorf("idle: %q %v", b, err)
			}
			if row.ends {
				close(finish)
			}
			b, _ := io.ReadAll(busy)
			whole := strings.HasPrefix(string(b), "HTTP/1.1 200 OK\r\n") &&
				strings.Contains(string(b), "Connection: close\r\n") &&
				strings.HasSuffix(string(b), "\r\n\r\ndone")
			if row.ends && !whole || !row.ends && len(b) > 0 {
				t.Errorf("busy: %q", b)
			}
			if !row.ends {
				close(finish)
			}
			if err := <-result; err != nil {
				t.Error(err)
			}
		})
	}
}

// parse reads no bytes as another request than net/http does.
func FuzzFastPath(f *testing.F) {
	for _, row := range fastPathRows {
		f.Add([]byte(row.request))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var fast fastRequest
		fast.init(context.Background())
		if len(b) > maxFastRequest || !fast.parse(b, []string{"/q"}) {
			t.Skip()
		}
		in := bufio.NewReader(strings.NewReader(string(b)))
		want, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		wantBody, err := io.ReadAll(want.Body)
		body, _ := io.ReadAll(fast.http.Body)
		if err != nil || string(wantBody) != string(body) || in.Buffered() > 0 {
			t.Fatalf("body %q; net/http has %q and %d bytes more: %v", body, wantBody, in.Buffered(), err)
		}
		got := &fast.http
		if got.Method != want.Method || got.Host != want.Host || got.RequestURI != want.RequestURI ||
			!reflect.DeepEqual(got.URL, want.URL) || !reflect.DeepEqual(got.Header, want.Header) ||
			got.ContentLength != want.ContentLength || want.Close || got.Proto != want.Proto ||
			len(want.TransferEncoding) > 0 || len(want.Trailer) > 0 {
			t.Fatalf("got %+v\nnet/http has %+v", got, want)
		}
	})
}
