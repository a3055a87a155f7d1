package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// serveNames answers every DNS question for an IPv4 address with 127.0.0.1, over TCP.
func serveNames(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				var length [2]byte
				for {
					if _, err := io.ReadFull(c, length[:]); err != nil {
						return
					}
					q := make([]byte, int(length[0])<<8|int(length[1]))
					if _, err := io.ReadFull(c, q); err != nil {
						return
					}
					reply := answerName(q)
					_, _ = c.Write(append([]byte{byte(len(reply) >> 8), byte(len(reply))}, reply...))
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String()
}

// answerName answers one question (RFC 1035, section 4).
func answerName(q []byte) []byte {
	end := 12
	for end < len(q) && q[end] != 0 {
		end += 1 + int(q[end])
	}
	if end += 5; end > len(q) { // behind the root label, type and class
		return nil
	}
	reply := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end]...)
	if q[end-4] == 0 && q[end-3] == 1 { // type A
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
	}
	return reply
}

// authority is a running Pebble, Let's Encrypt's certificate authority for tests. `make pebble` builds it.
type authority struct {
	directory, management string
	caFile                string // of the API's own certificate
	pool                  *x509.CertPool
}

// startAuthority starts a certificate authority that checks names at httpPort and tlsPort of 127.0.0.1.
func startAuthority(t *testing.T, tlsPort, httpPort int) *authority {
	t.Helper()
	bin, err := filepath.Abs("../../bin/pebble")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("find pebble: run `make pebble` first (%v)", err)
	}
	dir := t.TempDir()
	api, management := port(t), port(t)
	certFile, keyFile, pool := writeCertificate(t, dir, 1)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": api, "managementListenAddress": management, "certificate": certFile,
		"privateKey": keyFile, "httpPort": httpPort, "tlsPort": tlsPort,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	var out output
	cmd := exec.Command(bin, "-config", file, "-dnsserver", serveNames(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0")
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			s := out.String()
			t.Logf("pebble printed:\n%s", s[max(0, len(s)-9000):])
		}
	})
	a := &authority{"https://" + api + "/dir", "https://" + management, certFile, pool}
	eventually(t, 10*time.Second, "pebble answers", func(ctx context.Context) error {
		_, err := a.get(ctx, a.directory)
		return err
	})
	return a
}

func (a *authority) get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pool}, DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

// roots are the certificates that sign what the authority issues.
func (a *authority) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	text, err := a.get(t.Context(), a.management+"/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(text)) {
		t.Fatalf("no root certificate in %q", text)
	}
	return pool
}

func numberOf(t *testing.T, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// With --acme the process gets a certificate by itself, serves HTTPS with it, keeps it over a restart, and
// says why where it can't get one.
func TestACME(t *testing.T) {
	const domain = "stats.nowcast.example"
	listen, redirect, ops, dir := port(t), port(t), port(t), t.TempDir()
	ca := startAuthority(t, numberOf(t, listen), numberOf(t, redirect))
	t.Setenv("SSL_CERT_FILE", ca.caFile)
	args := []string{"all", "--listen", listen, "--ops-listen", ops, "--data-dir", filepath.Join(dir, "data"),
		"--acme", domain, "--acme-directory", ca.directory, "--redirect-listen", redirect}
	p := start(t, args...)
	ready(t, p, ops)
	transport := func() *http.Transport {
		return &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: ca.roots(t)},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", listen)
			}}
	}
	first := transport()
	defer first.CloseIdleConnections()
	public := &publicAddress{&http.Client{Transport: first}, "https://" + domain}
	public.wantAddress(t, "127.0.0.1")
	if proto, event := public.firstFrame(t); proto != "HTTP/2.0" || event != "snapshot" {
		t.Errorf("a stream over %s begins with %q", proto, event)
	}
	eventually(t, 10*time.Second, "the greeting", func(context.Context) error {
		if !strings.Contains(p.out.String(), "https://"+domain+"/") {
			return errors.New("it doesn't name the domain")
		}
		return nil
	})
	serial := certificateOf(t, listen, domain)
	for _, name := range []string{"other.example", ""} {
		any := &tls.Config{ServerName: name, InsecureSkipVerify: true} //nolint:gosec // a test
		c, err := tls.Dial("tcp", listen, any)
		if err == nil {
			c.Close()
			t.Errorf("a certificate for %q", name)
		}
	}
	if code := p.stop(t); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
	p = start(t, args...)
	ready(t, p, ops)
	if again := certificateOf(t, listen, domain); again != serial {
		t.Errorf("certificate %s after the restart, %s before", again, serial)
	}
	for _, f := range []string{"data/acme", "data/acme/" + domain, "data/acme/acme_account+key"} {
		if s, err := os.Stat(filepath.Join(dir, f)); err != nil || s.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", f, s, err)
		}
	}
}

// certificateOf returns the serial number of the certificate that a server has for a name.
func certificateOf(t *testing.T, addr, name string) string {
	t.Helper()
	any := &tls.Config{ServerName: name, InsecureSkipVerify: true} //nolint:gosec // a test
	c, err := tls.Dial("tcp", addr, any)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// A name that doesn't lead here is said, in /readyz and the log, without a try a second.
func TestACMERefused(t *testing.T) {
	listen, ops := port(t), port(t)
	ca := startAuthority(t, numberOf(t, port(t)), numberOf(t, port(t))) // it looks at ports where nobody is
	t.Setenv("SSL_CERT_FILE", ca.caFile)
	p := start(t, "all", "--listen", listen, "--ops-listen", ops, "--data-dir", t.TempDir(),
		"--acme", "stats.nowcast.example", "--acme-directory", ca.directory)
	eventually(t, 30*time.Second, "the reason in /readyz", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/readyz", nil)
		if err != nil {
			return err
		}
		a, err := do(req)
		if err == nil && !strings.Contains(a.body, "its port 443 to this process") {
			err = errors.New(a.body)
		}
		return err
	})
	for range 20 { // visitors don't make it ask more often
		c, err := tls.Dial("tcp", listen, &tls.Config{ServerName: "stats.nowcast.example"})
		if err == nil {
			c.Close()
			t.Fatal("there is a certificate")
		}
	}
	if n := strings.Count(p.out.String(), "no certificate"); n != 1 {
		t.Errorf("%d tries", n)
	}
}
