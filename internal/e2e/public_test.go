package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// publicAddress is the public address of a running nowcast, as a client of one kind reaches it.
type publicAddress struct {
	client *http.Client
	base   string
}

// address sends a beacon with headers in pairs of name and value, and returns the visitor's address as the
// server sees it.
func (p *publicAddress) address(ctx context.Context, header ...string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/api/event",
		strings.NewReader(`{"n":"pageview","d":"localhost","u":"http://localhost/a"}`))
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Debug-Request", "true")
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := p.client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1000))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, b)
	}
	return string(b), err
}

func (p *publicAddress) wantAddress(t *testing.T, want string, header ...string) {
	t.Helper()
	if got, err := p.address(t.Context(), header...); err != nil || got != want {
		t.Errorf("with %q the visitor is %s, %v; want %s", header, got, err, want)
	}
}

// firstFrame opens the live stream and returns the protocol and the name of the first event.
func (p *publicAddress) firstFrame(t *testing.T) (proto, event string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/api/events?site=localhost", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for in := bufio.NewScanner(res.Body); in.Scan(); {
		if name, ok := strings.CutPrefix(in.Text(), "event: "); ok {
			return res.Proto, name
		}
	}
	return res.Proto, ""
}

// Everything works on a unix socket: beacons, the live stream on the epoll engine, a proxy that is trusted
// because it may connect; and the socket of a process that was killed is replaced.
func TestUnixSocket(t *testing.T) {
	dir := t.TempDir()
	socket, ops := filepath.Join(dir, "http.sock"), port(t)
	args := []string{"all", "--listen", "unix:" + socket, "--listen-mode", "0600",
		"--trusted-proxies", "unix", "--ops-listen", ops, "--data-dir", filepath.Join(dir, "data")}
	p := start(t, args...)
	ready(t, p, ops)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	public := &publicAddress{&http.Client{Transport: transport}, "http://localhost"}
	public.wantAddress(t, "127.0.0.1")
	public.wantAddress(t, "203.0.113.9", "X-Forwarded-For", "198.51.100.7, 203.0.113.9")
	public.wantAddress(t, "127.0.0.1", "CF-Connecting-IP", "203.0.113.9")
	stream := &publicAddress{&http.Client{Transport: transport.Clone()}, public.base}
	if _, event := stream.firstFrame(t); event != "snapshot" {
		t.Errorf("the stream begins with %q", event)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ops+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := do(req)
	const viewers = `nowcast_streamer_viewers{rate="1s",transport="`
	if err != nil || strings.Contains(metrics.body, viewers+`handler"}`) ||
		!strings.Contains(metrics.body, viewers) {
		t.Errorf("the viewer has a goroutine of its own: %v", err)
	}
	if f, err := os.Stat(socket); err != nil || f.Mode().Perm() != 0o600 {
		t.Errorf("the socket's file: %v, %v", f, err)
	}
	second := exec.Command(binary(t), "ingest", "--kafka", "127.0.0.1:1", "--listen", "unix:"+socket,
		"--ops-listen", port(t))
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is taken: stop the program") {
		t.Errorf("a second process: %v, %s", err, out)
	}
	p.kill(syscall.SIGKILL)
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("the killed process removed its socket: %v", err)
	}
	p.end()
	p = start(t, args...)
	ready(t, p, ops)
	transport.CloseIdleConnections()
	public.wantAddress(t, "203.0.113.9", "X-Forwarded-For", "203.0.113.9")
	if code := p.stop(t); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket's file is left: %v", err)
	}
}

// writeCertificate writes a self-signed certificate for 127.0.0.1 and localhost into dir.
func writeCertificate(t *testing.T, dir string, serial int64) (
	certFile, keyFile string, pool *x509.CertPool,
) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string][]byte{
		certFile: cert, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return certFile, keyFile, pool
}

// checkOneHeader checks that X-Real-IP alone tells visitors and viewers apart, where it holds one address.
func checkOneHeader(t *testing.T, listen string, pool *x509.CertPool) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	public := &publicAddress{&http.Client{Transport: transport}, "https://" + listen}
	public.wantAddress(t, "203.0.113.9", "X-Real-IP", "203.0.113.9")
	public.wantAddress(t, "127.0.0.1", "X-Real-IP", "203.0.113.9", "X-Real-IP", "203.0.113.8")
	public.wantAddress(t, "127.0.0.1", "X-Real-IP", "203.0.113.9, 203.0.113.8")
	public.wantAddress(t, "127.0.0.1", "CF-Connecting-IP", "203.0.113.9", "X-Plausible-IP", "203.0.113.9")
	for _, row := range []struct {
		name, address string
		status        int
	}{
		{"X-Real-IP", "203.0.113.9", http.StatusOK},
		{"X-Real-IP", "203.0.113.9", http.StatusServiceUnavailable}, // --viewers-per-address is 1
		{"X-Real-IP", "203.0.113.8", http.StatusOK},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			public.base+"/api/events?site=localhost", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(row.name, row.address)
		req.Header.Set("X-Forwarded-For", "192.0.2.1")
		req.Header.Set("CF-Connecting-IP", "192.0.2.2")
		res, err := public.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != row.status {
			t.Errorf("a stream from %s: %s, want %d", row.address, res.Status, row.status)
		}
	}
}

// HTTPS with a certificate in files: HTTP/2, HTTP/1.1, the live stream on both, a redirect from plain HTTP,
// and a certificate that is replaced while the process runs.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, pool := writeCertificate(t, dir, 1)
	listen, redirect, ops := port(t), port(t), port(t)
	p := start(t, "all", "--listen", listen, "--ops-listen", ops, "--data-dir", filepath.Join(dir, "data"),
		"--tls-cert-file", certFile, "--tls-key-file", keyFile, "--redirect-listen", redirect,
		"--trusted-proxies", "127.0.0.1", "--client-address-header", "X-Real-IP",
		"--viewers-per-address", "1")
	ready(t, p, ops)
	checkOneHeader(t, listen, pool)
	for _, http2 := range []bool{true, false} {
		transport := &http.Transport{ForceAttemptHTTP2: http2, TLSClientConfig: &tls.Config{RootCAs: pool}}
		public := &publicAddress{&http.Client{Transport: transport}, "https://" + listen}
		public.wantAddress(t, "127.0.0.1", "X-Forwarded-For", "203.0.113.9")
		proto, event := public.firstFrame(t)
		want := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[http2]
		if proto != want || event != "snapshot" {
			t.Errorf("a stream over %s, want %s, begins with %q", proto, want, event)
		}
		transport.CloseIdleConnections()
	}
	eventually(t, 10*time.Second, "the greeting", func(context.Context) error {
		if !strings.Contains(p.out.String(), "https://"+listen) {
			return fmt.Errorf("it names no https address")
		}
		return nil
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+redirect+"/a?b=c", nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := do(req)
	if want := "https://" + listen + "/a?b=c"; err != nil || a.status != http.StatusPermanentRedirect ||
		a.header.Get("Location") != want {
		t.Errorf("plain HTTP: %d to %s, %v, want %s", a.status, a.header.Get("Location"), err, want)
	}
	_, _, pool = writeCertificate(t, dir, 2)
	eventually(t, 10*time.Second, "the new certificate", func(context.Context) error {
		c, err := tls.Dial("tcp", listen, &tls.Config{RootCAs: pool, ServerName: "localhost"})
		if err == nil {
			c.Close()
		}
		return err
	})
	bad := exec.Command(binary(t), "ingest", "--kafka", "127.0.0.1:1", "--listen", port(t),
		"--ops-listen", port(t), "--tls-cert-file", keyFile, "--tls-key-file", certFile)
	out, err := bad.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "give a chain of certificates") ||
		strings.Count(string(out), "\n") != 1 {
		t.Errorf("with the files exchanged: %v, %s", err, out)
	}
}
