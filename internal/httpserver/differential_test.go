package httpserver

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	differentialRequests = flag.Int("requests", 4000, "of TestFastPathDifferential, in each of its runs")
	differentialSeed     = flag.Uint64("seed", 0, "seed of TestFastPathDifferential; 0: at random")
)

// pause is how long a client waits for a response before it sends the next part of a connection's bytes.
const pause = 15 * time.Millisecond

// converse sends the parts of a connection, each after a response to the part before or a pause, then a
// request whose response shows whether the connection still serves, and ends its side. It returns all
// responses, and "ended" for the end of the connection.
func converse(addr string, parts []string) (all []response, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for _, part := range append(parts, "GET /last HTTP/1.1\r\nHost: x\r\n\r\n") {
		if _, err := io.WriteString(c, part); err != nil {
			break // the server closed; its responses can still be there
		}
		_ = c.SetReadDeadline(time.Now().Add(pause))
		for first := true; first || in.Buffered() > 0; first = false {
			if _, err := in.Peek(1); err != nil {
				break
			}
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			r, ok := readResponse(in)
			if all = append(all, r); !ok {
				return all, nil
			}
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		r, ok := readResponse(in)
		if all = append(all, r); !ok {
			return all, nil
		}
	}
}

// readResponse returns false if the connection ended instead.
func readResponse(in *bufio.Reader) (response, bool) {
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return response{err: "no response within 10 s"}, false
		}
		return response{err: "ended"}, false
	}
	b, err := io.ReadAll(res.Body)
	res.Body.Close()
	r := response{res.Status, res.Header, string(b), res.ContentLength, res.Close, ""}
	if err != nil {
		r.err = err.Error()
	}
	return r, true
}

// differential compares two servers. A connection whose ends cross on their way can lose a response at
// either server, so connections that differ are tried again.
type differential struct {
	fastAddr, netAddr         string
	requests, fast, refused   atomic.Int64
	connections, again, wrong atomic.Int64
}

func (d *differential) compare(parts []string) (problem string) {
	for try := range 6 {
		got, err := converse(d.fastAddr, parts)
		want, wantErr := converse(d.netAddr, parts)
		if err != nil || wantErr != nil {
			return fmt.Sprint(err, wantErr)
		}
		for i := range got {
			if got[i].header.Get("X-Fast") == "true" {
				d.fast.Add(1)
			} else if got[i].status != "" && got[i].status[0] == '4' {
				d.refused.Add(1)
			}
		}
		comparable(got)
		comparable(want)
		if reflect.DeepEqual(got, want) {
			return ""
		}
		d.again.Add(1)
		if try == 5 {
			i := 0
			for i < min(len(got), len(want)) && reflect.DeepEqual(got[i], want[i]) {
				i++
			}
			problem = fmt.Sprintf("%.3000q: response %d\n got %.1500v\nwant %.1500v", parts, i,
				fmt.Sprint(got[i:]), fmt.Sprint(want[i:]))
		}
	}
	return problem
}

// comparable removes from responses what may differ: net/http sends a body of over 2 KB in chunks, and the
// end of a connection may cross a response.
func comparable(all []response) {
	normalize(all)
	for i := range all {
		delete(all[i].header, "Content-Length")
		all[i].length = 0
		if strings.Contains(all[i].err, "reset by peer") {
			all[i].err = "ended"
		}
	}
}

// run compares connections made from the seed until there were n requests.
func (d *differential) run(t *testing.T, seed uint64, n int64) {
	const workers = 8
	start := time.Now()
	var wg sync.WaitGroup
	for w := range uint64(workers) {
		wg.Go(func() {
			m := requestMaker{rand.New(rand.NewPCG(seed, w))}
			for d.requests.Load() < n && d.wrong.Load() < 5 {
				parts, requests := m.parts()
				d.connections.Add(1)
				d.requests.Add(int64(requests))
				if problem := d.compare(parts); problem != "" {
					d.wrong.Add(1)
					t.Error(problem)
				}
			}
		})
	}
	wg.Wait()
	if d.fast.Load() < d.requests.Load()/50 || d.refused.Load() == 0 {
		t.Errorf("of %d requests %d took the fast path and %d were refused", d.requests.Load(), d.fast.Load(),
			d.refused.Load())
	}
	t.Logf("%d requests on %d connections in %s: %d took the fast path, %d refused, %d tries again, "+
		"%d differences", d.requests.Load(), d.connections.Load(), time.Since(start).Round(time.Second),
		d.fast.Load(), d.refused.Load(), d.again.Load(), d.wrong.Load())
}

// The fast path and net/http give the same answers to the same bytes, and the connection has the same fate,
// directly and behind nginx. The handler answers with all that it sees of the request, so the same answer is
// the same beacon.
func TestFastPathDifferential(t *testing.T) {
	defer log.SetOutput(log.Writer())
	log.SetOutput(io.Discard)
	seed := *differentialSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d", seed)
	_, fastAddr, stopFast := serveEcho(t, "/q")
	defer stopFast()
	_, netAddr, stopNet := serveEcho(t)
	defer stopNet()
	t.Run("direct", func(t *testing.T) {
		(&differential{fastAddr: fastAddr, netAddr: netAddr}).run(t, seed, int64(*differentialRequests))
	})
	t.Run("behind nginx", func(t *testing.T) {
		front := startNginx(t, fastAddr, netAddr)
		(&differential{fastAddr: front[0], netAddr: front[1]}).run(t, seed, int64(*differentialRequests))
	})
}

// startNginx starts nginx with a server in front of each address, and connections that are kept.
func startNginx(t *testing.T, backends ...string) (fronts []string) {
	t.Helper()
	bin, err := exec.LookPath("nginx")
	if err != nil {
		bin = "/usr/sbin/nginx"
	}
	if _, err := os.Stat(bin); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("no nginx here: apt-get install nginx-light")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // nginx's workers are another user
		t.Fatal(err)
	}
	conf := "daemon off; worker_processes 1; pid " + dir + "/pid; error_log /dev/null; events {} " +
		"http { access_log off; "
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		conf += name + "_temp_path " + dir + "/" + name + "; "
	}
	for i, backend := range backends {
		l, err := Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		front := l.Addr().String()
		l.Close()
		fronts = append(fronts, front)
		conf += fmt.Sprintf(`upstream b%d { server %s; keepalive 16; }
			upstream q%[1]d { server %[2]s; keepalive 16; }
			server { listen %s; proxy_http_version 1.1; proxy_set_header Connection "";
			proxy_set_header Host $http_host; proxy_next_upstream off; proxy_ignore_client_abort on;
			location = /q { proxy_pass http://q%[1]d; }
			location / { proxy_pass http://b%[1]d; } }`, i, backend, front)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf+"}"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-e", "/dev/null", "-p", dir, "-c", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	for _, front := range fronts {
		eventually(t, "nginx answers", func() bool {
			c, err := net.Dial("tcp", front)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
	return fronts
}

// Line ends before a request are ignored after a beacon, up to four bytes of them, and refused before the
// first request; also where they come by themselves.
func TestLineEndsBetweenRequests(t *testing.T) {
	_, fastAddr, stopFast := serveEcho(t, "/q")
	defer stopFast()
	_, netAddr, stopNet := serveEcho(t)
	defer stopNet()
	const post, query = plain + "Content-Length: 1\r\n\r\na", "GET /q HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, row := range []struct {
		parts []string
		fast  int // requests that take the fast path
		want  string
	}{
		{[]string{post, "\r\n" + post, "\r\n" + post, "\r\n" + post}, 4, "200 200 200 200 200"},
		{[]string{post, "\r\n", post}, 2, "200 200 200"},
		{[]string{post + "\r\n", post}, 0, "200 200 200"},
		{[]string{post, "\r", "\n", "\r", "\n", post}, 2, "200 200 200"},
		{[]string{post, "\r\n\r\n" + post}, 2, "200 200 200"},
		{[]string{post, "\n" + query, "\r\n" + post}, 1, "200 200 400"},
		{[]string{post, "\r\n\r\n\r\n" + post}, 1, "200 400"},
		{[]string{post, "\r\n\r\n\r", post}, 1, "200 400"},
		{[]string{"\r\n" + post}, 0, "400"},
		{[]string{post, "\r\n"}, 1, "200 200"},
	} {
		got, err := converse(fastAddr, row.parts)
		want, wantErr := converse(netAddr, row.parts)
		if err != nil || wantErr != nil {
			t.Fatal(err, wantErr)
		}
		fast, statuses := 0, ""
		for _, r := range got {
			if r.header.Get("X-Fast") == "true" {
				fast++
			}
			if r.status != "" {
				statuses += r.status[:3] + " "
			}
		}
		if fast != row.fast || statuses != row.want+" " {
			t.Errorf("%q: %s, %d fast; want %s, %d", row.parts, statuses, fast, row.want, row.fast)
		}
		comparable(got)
		if comparable(want); !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n got %+v\nwant %+v", row.parts, got, want)
		}
	}
}
