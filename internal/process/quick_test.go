package process

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// saw answers with what a handler is given, and whether by the quick way.
func saw(w http.ResponseWriter, r *http.Request) {
	_, quick := w.(*exchange)
	b, err := io.ReadAll(r.Body)
	w.Header().Set("X-Quick", fmt.Sprint(quick))
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
	_ = json.NewEncoder(w).Encode([]any{r.Method, r.URL, r.Host, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Header, r.ContentLength, string(b),
		fmt.Sprint(err), r.TransferEncoding, r.Close, r.Trailer, r.Form, r.TLS == nil, r.Context().Err() == nil, strings.HasPrefix(r.RemoteAddr, "127.0.0.1:")})
}

const plain = "POST /q HTTP/1.1\r\nHost: x.example:80\r\n"

var quickRows = []struct {
	name, request string
	quick         bool
}{
	{"plain", plain + "Content-Length: 3\r\n\r\nabc", true},
	{"as a browser sends it", plain + "Connection: keep-alive\r\nContent-Length: 2\r\nUser-Agent: Mozilla/5.0 (X11; Linux)\r\nAccept-Language: de,en;q=0.5\r\nSec-Fetch-Site: cross-site\r\n\r\n{}", true},
	{"names as proxies send them", "POST /q HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nx-forwarded-for: 1.1.1.1\r\nX-FORWARDED-FOR:2.2.2.2 \r\nuser-agent:\t a\tb \r\n\r\na", true},
	{"no body", plain + "Content-Length: 0\r\n\r\n", true},
	{"bytes", plain + "Content-Length: 4\r\nX-A: \xff\xc3\xa4\r\n\r\n\x00\r\n\xff", true},
	{"closes by the handler", plain + "X-Do: close\r\nContent-Length: 1\r\n\r\na", true},
	{"no content", plain + "X-Do: empty\r\nContent-Length: 1\r\n\r\na", true},
	{"nothing said", plain + "X-Do: nothing\r\nContent-Length: 1\r\n\r\na", true},
	{"type found", plain + "X-Do: sniff\r\nContent-Length: 1\r\n\r\na", true},
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
	{"chunks and a length", plain + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", false},
	{"unknown coding", plain + "Content-Length: 1\r\nTransfer-Encoding: zip\r\n\r\na", false},
	{"closes", plain + "Connection: close\r\nContent-Length: 1\r\n\r\na", false},
	{"upgrades", plain + "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na", false},
	{"expects", plain + "Expect: 100-continue\r\nContent-Length: 1\r\n\r\na", false},
	{"pragma", plain + "Pragma: no-cache\r\nContent-Length: 1\r\n\r\na", false},
	{"space before the colon", plain + "Content-Length : 1\r\n\r\na", false},
	{"folded", plain + "X-A: a\r\n b\r\nContent-Length: 1\r\n\r\na", false},
	{"no colon", plain + "X-A\r\nContent-Length: 1\r\n\r\na", false},
	{"no name", plain + ": a\r\nContent-Length: 1\r\n\r\na", false},
	{"line feeds alone", "POST /q HTTP/1.1\nHost: x\nContent-Length: 1\n\na", false},
	{"a line feed in a value", plain + "X-A: a\nContent-Length: 9\r\nContent-Length: 1\r\n\r\na", false},
	{"a return in a value", plain + "X-A: a\rb\r\nContent-Length: 1\r\n\r\na", false},
	{"a zero in a value", plain + "X-A: a\x00b\r\nContent-Length: 1\r\n\r\na", false},
	{"an underscore", plain + "X_A: a\r\nContent-Length: 1\r\n\r\na", false},
	{"many fields", plain + strings.Repeat("X-A: a\r\n", 60) + "Content-Length: 1\r\n\r\na", false},
	{"large", plain + "Content-Length: 9000\r\n\r\n" + strings.Repeat("a", 9000), false},
	{"two at once", plain + "Content-Length: 1\r\n\r\na" + plain + "Content-Length: 1\r\n\r\nb", false},
	{"a line end before", "\r\n" + plain + "Content-Length: 1\r\n\r\na", false},
	{"nonsense", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", false},
}

// both serves saw by the quick way and by net/http alone.
func both(t testing.TB) (quick, other string, stop func()) {
	t.Helper()
	var addrs []string
	var stops []func()
	for _, paths := range [][]string{{"/q"}, nil} {
		l, err := Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Serve(ctx, l, http.HandlerFunc(saw), 5*time.Second, paths...) }()
		addrs = append(addrs, l.Addr().String())
		stops = append(stops, func() {
			if cancel(); true {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
	}
	return addrs[0], addrs[1], func() { stops[0](); stops[1]() }
}

// said is an answer as a client sees it.
type said struct {
	status string
	header http.Header
	body   string
	length int64
	close  bool
	err    string // where there is no more of it
}

// ask sends bytes and reads answers until none comes: then the connection ended, or it is idle, which a further request shows.
func ask(t testing.TB, addr, request string) (all []said) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	last, left := false, max(1, strings.Count(request, plain)) // answers that come before the last request's
	for {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return append(all, said{err: "ended"})
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		s := said{status: res.Status, header: res.Header, body: string(b), length: res.ContentLength, close: res.Close}
		if err != nil {
			s.err = err.Error()
		}
		all = append(all, s)
		if last {
			return all
		}
		if res.StatusCode >= 200 {
			left--
		}
		if left <= 0 && in.Buffered() == 0 {
			if last = true; !res.Close {
				_, _ = io.WriteString(c, "GET /last HTTP/1.1\r\nHost: x\r\n\r\n")
			}
		}
	}
}

// way says by which way the first request was answered, and takes from answers what may differ.
func way(all []said) (quick bool) {
	for i, s := range all {
		if s.header != nil && (s.header.Get("Date") == "") != (s.status[0] == '4' && s.header.Get("X-Quick") == "") {
			all[i].err += " date" // net/http gives one to all but its own refusals
		}
		if i == 0 {
			quick = s.header.Get("X-Quick") == "true"
		}
		delete(s.header, "Date")
		delete(s.header, "X-Quick")
	}
	return quick
}

// TestQuickIsAsNetHTTP: whatever comes, handler and client can't tell the two ways apart, and only what is plain goes the quick one.
func TestQuickIsAsNetHTTP(t *testing.T) {
	defer log.SetOutput(log.Writer())
	log.SetOutput(io.Discard)
	quick, other, stop := both(t)
	defer stop()
	for _, row := range quickRows {
		got, want := ask(t, quick, row.request), ask(t, other, row.request)
		if q := way(got); q != row.quick && row.name != "panic" {
			t.Errorf("%s: quick is %t", row.name, q)
		}
		if way(want); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", row.name, got, want)
		}
	}
}

// TestQuickAndOthersInTurn: a connection that goes over to net/http loses nothing, also where a request comes in parts.
func TestQuickAndOthersInTurn(t *testing.T) {
	quick, _, stop := both(t)
	defer stop()
	c := dial(t, quick)
	in := bufio.NewReader(c)
	for i, row := range []struct {
		parts []string
		quick string
	}{
		{[]string{plain + "Content-Length: 1\r\n\r\na"}, "true"},
		{[]string{plain + "Content-Length: 1\r\n\r\nb"}, "true"},
		{[]string{plain + "Content-", "Length: 4\r\n\r\nab", "cd"}, "false"},
		{[]string{plain + "Content-Length: 1\r\n\r\nc"}, "false"},
	} {
		for _, part := range row.parts {
			if _, err := io.WriteString(c, part); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // so that it arrives alone
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		last := row.parts[len(row.parts)-1]
		if got := res.Header.Get("X-Quick"); got != row.quick || !strings.Contains(string(b), last[len(last)-1:]+`",`) {
			t.Errorf("%d: quick %s, %s", i, got, b)
		}
	}
}

// TestQuickDrains: a stop lets running requests end, closes what is idle at once, and cuts what doesn't end.
func TestQuickDrains(t *testing.T) {
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
			begun, finish, told := make(chan struct{}), make(chan struct{}), make(chan struct{})
			ctx, stop := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() {
				result <- Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, ok := w.(*exchange); !ok {
						t.Error("not by the quick way")
					}
					close(begun)
					<-r.Context().Done()
					close(told)
					<-finish
					_, _ = io.WriteString(w, "done")
				}), row.drain, "/q")
			}()
			idle, busy := dial(t, l.Addr().String()), dial(t, l.Addr().String())
			if _, err := io.WriteString(busy, plain+"Content-Length: 1\r\n\r\na"); err != nil {
				t.Fatal(err)
			}
			<-begun
			stop()
			<-told
			if b, err := io.ReadAll(idle); err != nil || len(b) > 0 {
				t.Errorf("idle: %q %v", b, err)
			}
			if row.ends {
				close(finish)
			}
			b, _ := io.ReadAll(busy)
			if s := string(b); row.ends && (!strings.HasPrefix(s, "HTTP/1.1 200 OK\r\n") || !strings.Contains(s, "Connection: close\r\n") || !strings.HasSuffix(s, "\r\n\r\ndone")) || !row.ends && s != "" {
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

// FuzzQuick: no bytes are taken for another request than net/http takes them for.
func FuzzQuick(f *testing.F) {
	for _, row := range quickRows {
		f.Add([]byte(row.request))
	}
	q := &quick{base: context.Background()}
	f.Fuzz(func(t *testing.T, b []byte) {
		x := newExchange(q)
		if len(b) > quickSize || !x.parse(b, []string{"/q"}) {
			t.Skip()
		}
		in := bufio.NewReader(strings.NewReader(string(b)))
		r, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("net/http says %v", err)
		}
		body, err := io.ReadAll(r.Body)
		mine, _ := io.ReadAll(x.request.Body)
		if err != nil || string(body) != string(mine) || in.Buffered() > 0 {
			t.Fatalf("body %q, net/http has %q and %d bytes more: %v", mine, body, in.Buffered(), err)
		}
		m := &x.request
		if m.Method != r.Method || m.Host != r.Host || m.RequestURI != r.RequestURI || !reflect.DeepEqual(m.URL, r.URL) || !reflect.DeepEqual(m.Header, r.Header) ||
			m.ContentLength != r.ContentLength || r.Close || m.Proto != r.Proto || len(r.TransferEncoding) > 0 || len(r.Trailer) > 0 {
			t.Fatalf("%+v\nnet/http has %+v", m, r)
		}
	})
}
