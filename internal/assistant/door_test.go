package assistant

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"nowcast/internal/httpserver"
)

// open serves assistants over HTTP.
func open(t *testing.T, api string) string {
	t.Helper()
	hosts, err := httpserver.NewHosts("mcp.example.com")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Server: api, Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.Handler()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close(); s.api.http.CloseIdleConnections() })
	return srv.URL
}

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",` +
	`"capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`

// Only a request that names this host, is no page's of another origin and has a key gets in.
func TestDoor(t *testing.T) {
	url := open(t, newFake(t).serve().URL)
	good := func(r *http.Request) {}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, row := range []struct {
		name   string
		change func(*http.Request)
		status int
		want   string
	}{
		{"with a key", good, http.StatusOK, `"serverInfo"`},
		{"by the proxy's name", func(r *http.Request) { r.Host = "mcp.example.com" }, http.StatusOK,
			`"serverInfo"`},
		{"without a key", func(r *http.Request) { r.Header.Del("Authorization") }, http.StatusUnauthorized,
			"a key is needed"},
		{"with an empty key", header("Authorization", "Bearer "), http.StatusUnauthorized, "a key is needed"},
		{"with a password", header("Authorization", "Basic YTpi"), http.StatusUnauthorized,
			"a key is needed"},
		{"by another name", func(r *http.Request) { r.Host = "evil.example" }, http.StatusMisdirectedRequest,
			"evil.example"},
		{"by a page", header("Origin", "https://evil.example"), http.StatusForbidden, "another origin"},
		{"by a page that hides its origin", header("Origin", "null"), http.StatusForbidden, "another origin"},
		{"by a page of another port", header("Sec-Fetch-Site", "same-site"), http.StatusForbidden,
			"another origin"},
		{"elsewhere", func(r *http.Request) { r.URL.Path = "/" }, http.StatusNotFound, "/mcp"},
		{"a stream", func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed,
			"POST"},
		{"too much", func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat(" ", maxRequest+1))), -1
		}, http.StatusRequestEntityTooLarge, "exceeds"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+Path,
			strings.NewReader(initialize))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer nck_a")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		row.change(r)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != row.status || !strings.Contains(string(b), row.want) ||
			(row.status == http.StatusUnauthorized) != (res.Header.Get("WWW-Authenticate") == "Bearer") {
			t.Errorf("%s: %d %v %s, want %d with %s", row.name, res.StatusCode, res.Header, b, row.status,
				row.want)
		}
	}
}

// authorized sends a key with each request.
type authorized string

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(a))
	return http.DefaultTransport.RoundTrip(r)
}

// Each caller reads with the own key, whatever others do at the same time.
func TestEachCallerHasItsOwnKey(t *testing.T) {
	url := open(t, newFake(t).serve().URL)
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "a", "b"} {
		c := session(t, &mcp.StreamableClientTransport{Endpoint: url + Path, DisableStandaloneSSE: true,
			HTTPClient: &http.Client{Transport: authorized("nck_" + name)}})
		t.Cleanup(func() { c.Close() })
		wg.Go(func() {
			for range 25 {
				text, failed := use(t, c, "sites", `{}`)
				if failed || strings.Count(text, ".example.com") != 1 ||
					!strings.Contains(text, fmt.Sprintf(`"%s.example.com"`, name)) {
					t.Errorf("%s: %s", name, text)
				}
			}
		})
	}
	wg.Wait()
	c := session(t, &mcp.StreamableClientTransport{Endpoint: url + Path, DisableStandaloneSSE: true,
		HTTPClient: &http.Client{Transport: authorized("nck_wrong")}})
	defer c.Close()
	if text, failed := use(t, c, "sites", `{}`); !failed || text != "this key isn't valid" {
		t.Errorf("%v %s", failed, text)
	}
}

// A server with a key of its own answers nobody over HTTP, and one without it nobody on stdin.
func TestKeysBelongToOneDoor(t *testing.T) {
	withKey, err := New(Config{Server: "http://127.0.0.1:1", Key: "nck_a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := withKey.Handler(); err == nil {
		t.Error("a server with a key is open to every caller")
	}
	without, err := New(Config{Server: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := without.ServeStream(t.Context(), strings.NewReader(""), io.Discard); err == nil {
		t.Error("a server without a key serves stdin")
	}
}

// On stdin and stdout the server answers until its input ends, or its context.
func TestServeStream(t *testing.T) {
	s, err := New(Config{Server: newFake(t).serve().URL, Key: "nck_b"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.api.http.CloseIdleConnections)
	for _, end := range []string{"input", "context"} {
		ctx, cancel := context.WithCancel(context.Background())
		in, toServer := io.Pipe()
		fromServer, out := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- s.ServeStream(ctx, in, out) }()
		c := session(t, &mcp.IOTransport{Reader: fromServer, Writer: toServer})
		if text, failed := use(t, c, "sites", `{}`); failed || !strings.Contains(text, "b.example.com") {
			t.Errorf("%s", text)
		}
		if end == "input" {
			c.Close() // closes both pipes
		} else {
			cancel()
		}
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("end of %s: %v", end, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("the server doesn't end with its %s", end)
		}
		in.Close()
		out.Close()
		c.Close()
		cancel()
	}
}

// Above the bound a request is told to try again, and the next one is answered once another has ended.
func TestRequestsAreBounded(t *testing.T) {
	begun, end := make(chan struct{}, 1), make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		<-end
		fmt.Fprint(w, `{"sites":[]}`)
	}))
	defer api.Close()
	url := open(t, api.URL)
	send := func() (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+Path, strings.NewReader(
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"sites","arguments":{}}}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer nck_a")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer res.Body.Close()
		return res.StatusCode, res.Header.Get("Retry-After")
	}
	var wg sync.WaitGroup
	refused := make(chan int, maxRequests+1)
	for range maxRequests + 1 {
		wg.Go(func() {
			if status, after := send(); status != http.StatusOK {
				if after != "2" {
					t.Errorf("%d, try again after %q", status, after)
				}
				refused <- status
			}
		})
	}
	for range maxCalls { // as many as may ask the API at a time
		<-begun
	}
	if status := <-refused; status != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d", status)
	}
	go func() {
		for range begun { // the others
		}
	}()
	close(end)
	wg.Wait()
	if n := len(refused); n > 0 {
		t.Errorf("%d more were refused", n)
	}
	if status, _ := send(); status != http.StatusOK {
		t.Errorf("afterwards: %d", status)
	}
	close(begun)
}
