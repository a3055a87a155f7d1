package deployments

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nowcast/internal/httpserver"
)

// seen is a request as it arrives behind the proxies.
type seen struct {
	Address string // of the client, as nowcast with the proxy's address in --trusted-proxies finds it
	Host    string
	Header  http.Header
}

// backend is a server in nowcast's place, which answers with what it sees.
func backend(t *testing.T) string {
	t.Helper()
	proxies := httpserver.Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxies.SetClientAddress(r)
		addr := netip.MustParseAddrPort(r.RemoteAddr).Addr()
		_ = json.NewEncoder(w).Encode(seen{addr.String(), r.Host, r.Header})
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// output is what a program prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) { o.mu.Lock(); defer o.mu.Unlock(); return o.b.Write(p) }
func (o *output) String() string              { o.mu.Lock(); defer o.mu.Unlock(); return o.b.String() }

// program finds a program that the tests need; in CI it has to be there.
func program(t *testing.T, name, install string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("no %s here: %s", name, install)
	}
	t.Skipf("no %s here: %s", name, install)
	return ""
}

// startProxy starts a program until the end of the test and waits until it listens at addr.
func startProxy(t *testing.T, addr string, env []string, args ...string) *output {
	t.Helper()
	out := &output{}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s printed:\n%s", args[0], out)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return out
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s doesn't listen at %s: %s", args[0], addr, out)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// startNginx starts nginx with a configuration of a server.
func startNginx(t *testing.T, addr, server string) *output {
	t.Helper()
	bin := program(t, "nginx", "apt-get install nginx-light")
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // nginx's workers are another user
		t.Fatal(err)
	}
	conf := fmt.Sprintf("daemon off; pid %s/pid; error_log stderr; events {} http { access_log off; ", dir)
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		conf += fmt.Sprintf("%s_temp_path %s/%[1]s; ", name, dir)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf+server+"\n}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return startProxy(t, addr, nil, bin, "-e", "stderr", "-p", dir, "-c", file)
}

// startShippedNginx starts nginx with the shipped configuration, in front of a backend.
func startShippedNginx(t *testing.T, backend string) (addr string, out *output) {
	t.Helper()
	b, err := os.ReadFile("nginx/nowcast.conf")
	if err != nil {
		t.Fatal(err)
	}
	addr = freeAddress(t)
	conf := string(b)
	for _, pair := range [][2]string{{"ingest:8080", backend}, {"streamer-1:8080", backend},
		{"streamer-2:8080", backend}, {"listen 8080;", "listen " + addr + ";"}} {
		if !strings.Contains(conf, pair[0]) {
			t.Fatalf("nowcast.conf has no %s: update this test", pair[0])
		}
		conf = strings.Replace(conf, pair[0], pair[1], 1)
	}
	return addr, startNginx(t, addr, conf)
}

// visitor sends requests from an address of loopback.
func visitor(from string) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a test's own certificate
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(ctx, "tcp", addr)
		}}}
}

// spoofed are headers by which a visitor may try to be another one.
var spoofed = []string{"X-Forwarded-For", "X-Real-Ip", "X-Plausible-Ip", "Cf-Connecting-Ip",
	"Cf-Connecting-Ipv6", "B-Forwarded-For", "True-Client-Ip", "Fly-Client-Ip", "Fastly-Client-Ip",
	"X-Client-Ip", "X-Cluster-Client-Ip", "Forwarded"}

// ask sends a visitor's request with all spoofed headers, and returns what arrives.
func ask(t *testing.T, from, url string) (s seen) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range spoofed {
		req.Header.Set(name, "6.6.6.6")
	}
	req.Header.Set("Forwarded", "for=6.6.6.6")
	req.Header.Set("X-Forwarded-Proto", "gopher")
	res, err := visitor(from).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
		t.Fatalf("%s: %s: %v", url, res.Status, err)
	}
	return s
}

func (s seen) check(t *testing.T, what, address, host, proto string) {
	t.Helper()
	if s.Address != address || s.Host != host || s.Header.Get("X-Forwarded-Proto") != proto {
		t.Errorf("%s: visitor %s, host %s, proto %s; want %s, %s, %s", what, s.Address, s.Host,
			s.Header.Get("X-Forwarded-Proto"), address, host, proto)
	}
	for name, values := range s.Header {
		if strings.Contains(strings.Join(values, ","), "6.6.6.6") {
			t.Errorf("%s: %s: %v is passed on", what, name, values)
		}
		if name != "X-Forwarded-For" && slices.Contains(spoofed, name) {
			t.Errorf("%s: %s arrives", what, name)
		}
	}
}

var paths = []string{"/api/event", "/api/send", "/pixel.gif", "/api/events?site=a", "/api/v2/query", "/"}

// Visitors are told apart behind the shipped nginx, and behind it with another proxy in front, whose address
// it knows; and none can be another one by a header.
func TestNginx(t *testing.T) {
	inner, _ := startShippedNginx(t, backend(t))
	outer := freeAddress(t)
	startNginx(t, outer, fmt.Sprintf(`server { listen %s; location / { proxy_pass http://%s;
		proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto https;
		proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } }`, outer, inner))
	for _, path := range paths {
		for _, from := range []string{"127.0.0.51", "127.0.0.52"} {
			ask(t, from, "http://"+inner+path).check(t, "one proxy, "+path, from, inner, "http")
			s := ask(t, from, "http://"+outer+path)
			s.check(t, "two proxies, "+path, from, outer, "https")
		}
	}
}

// The shipped Caddyfile, alone and in front of nginx as in the Compose file's profile tls.
func TestCaddy(t *testing.T) {
	bin := program(t, "caddy", "apt-get install caddy")
	server := backend(t)
	inner, _ := startShippedNginx(t, server)
	for what, upstream := range map[string]string{"Caddy": server, "Caddy and nginx": inner} {
		t.Run(what, func(t *testing.T) {
			front, dir := freeAddress(t), t.TempDir()
			_, port, _ := net.SplitHostPort(front)
			b, err := os.ReadFile("caddy/Caddyfile")
			if err != nil {
				t.Fatal(err)
			}
			// Not on ports 80 and 443, and without asking for rights to install a root certificate.
			conf := strings.Replace(string(b), "admin off", "admin off\n\tauto_https disable_redirects\n"+
				"\tskip_install_trust\n\thttps_port "+port+"\n\tdefault_bind 127.0.0.1", 1)
			file := filepath.Join(dir, "Caddyfile")
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			out := startProxy(t, front, []string{"NOWCAST_DOMAIN=localhost", "NOWCAST_UPSTREAM=" + upstream,
				"XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "HOME=" + dir},
				bin, "run", "--config", file, "--adapter", "caddyfile")
			client := visitor("127.0.0.51")
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				res, err := client.Get("https://localhost:" + port + "/") // until there is a certificate
				if err == nil {
					res.Body.Close()
					break
				}
				if time.Now().After(deadline) {
					t.Fatal(err)
				}
			}
			for _, path := range paths {
				ask(t, "127.0.0.51", "https://localhost:"+port+path+secretQuery).
					check(t, what+" "+path, "127.0.0.51", "localhost:"+port, "https")
			}
			noSecrets(t, out)
		})
	}
}

const secretQuery = "&key=SECRETkey&ticket=SECRETticket&share=SECRETshare&code=SECRETcode"

func noSecrets(t *testing.T, out *output) {
	t.Helper()
	if s := out.String(); strings.Contains(s, "SECRET") || strings.Contains(s, "127.0.0.51") {
		t.Errorf("the log has a secret or an address:\n%s", s)
	}
}

// The logs of the shipped nginx have no keys, tickets, codes, share links or addresses, also when what is
// behind it is away.
func TestNginxLogsNoSecrets(t *testing.T) {
	for what, upstream := range map[string]string{"up": backend(t), "away": freeAddress(t)} {
		addr, out := startShippedNginx(t, upstream)
		asked := []string{"/share/SECRETlink", "/share/SECRETlink/", "//share/SECRETlink",
			"/stats/share/SECRETlink", "/%73hare/SECRETlink", "/api/events?key=SECRET&ticket=SECRET",
			"/login?code=SECRET", "/login?key=SECRET", "/example.com?share=SECRET",
			"/pixel.gif?site=a&x=SECRET"}
		for _, path := range asked {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Referer", "https://example.com/?share=SECRET")
			req.Header.Set("Cookie", "nowcast=SECRET")
			res, err := visitor("127.0.0.51").Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		lines := 0
		for deadline := time.Now().Add(5 * time.Second); lines < len(asked) && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
			lines = strings.Count(out.String(), `"status":`)
		}
		if lines != len(asked) {
			t.Errorf("%s: %d lines in the access log, want %d:\n%s", what, lines, len(asked), out)
		}
		noSecrets(t, out)
	}
}
