package httpserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCertificate writes a self-signed certificate for 127.0.0.1 and its key into files.
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
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return certFile, keyFile, pool
}

// serveTLS serves h with a certificate in files of dir.
func serveTLS(t *testing.T, dir string, h http.Handler, limits timeouts) (addr string, pool *x509.CertPool) {
	t.Helper()
	certFile, keyFile, pool := writeCertificate(t, dir, 1)
	cfg, err := TLSFromFiles(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	s := newServer(ctx, &TLSListener{Listener: l, Config: cfg}, h, limits, []string{"/q"})
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, time.Second) }()
	t.Cleanup(func() {
		if stop(); <-ended != nil {
			t.Error("serve ended with an error")
		}
	})
	return l.Addr().String(), pool
}

func TestTLS(t *testing.T) {
	addr, pool := serveTLS(t, t.TempDir(), http.HandlerFunc(echo), defaultTimeouts)
	for _, http2 := range []bool{true, false} {
		transport := &http.Transport{ForceAttemptHTTP2: http2, TLSClientConfig: &tls.Config{RootCAs: pool}}
		res, err := (&http.Client{Transport: transport}).Post("https://"+addr+"/q", "text/plain",
			strings.NewReader("abc"))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		transport.CloseIdleConnections()
		if want := map[bool]int{true: 2, false: 1}[http2]; res.ProtoMajor != want || res.StatusCode != 200 ||
			!strings.Contains(string(b), `"abc"`) {
			t.Errorf("HTTP/2 is %t: %s %s %s", http2, res.Proto, res.Status, b)
		}
	}
	if _, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 works")
	}
	res, err := http.Get("http://" + addr + "/") // a browser that was given the wrong scheme
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP: %s", res.Status)
	}
}

// A certificate that is replaced is used within seconds, and one that can't be read leaves the old one.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, _ := writeCertificate(t, dir, 1)
	cfg, err := TLSFromFiles(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		c, err := cfg.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Errorf("serial %d", n)
	}
	if err := os.WriteFile(certFile, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n := serial(); n != 1 {
			t.Errorf("serial %d while the file can't be read", n)
		}
	}
	writeCertificate(t, dir, 2)
	eventually(t, "the new certificate is served", func() bool { return serial() == 2 })

	os.Remove(keyFile)
	if _, err := TLSFromFiles(certFile, keyFile, slog.New(slog.DiscardHandler)); err == nil ||
		!strings.Contains(err.Error(), "give a chain of certificates") {
		t.Errorf("without a key: %v", err)
	}
}

// An HTTP/2 client that opens no window loses its stream after the time-out; its connection serves others.
func TestStalledHTTP2Reader(t *testing.T) {
	limits := defaultTimeouts
	limits.write = 200 * time.Millisecond
	written := make(chan error, 1)
	addr, pool := serveTLS(t, t.TempDir(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, err := w.Write(make([]byte, 8<<20))
			written <- err
		}
	}), limits)
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	res, err := client.Get("https://" + addr + "/large") // the client reads 4 MB ahead, and no more
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := receive(t, written); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the handler's write: %v", err)
	}
	other, err := client.Get("https://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	other.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Error("the response ended as if it were whole")
	}
}

func TestRedirectTo(t *testing.T) {
	addr, stop, result := startServe(t, RedirectTo("https://stats.example.com").ServeHTTP, time.Second)
	for path, want := range map[string]string{
		"/": "/", "/a%20b?c=d%26": "/a%20b?c=d%26", "//evil.example/": "/", "/%0d%0aX:%20y": "/%0d%0aX:%20y",
	} {
		c := dial(t, addr)
		_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: evil.example\r\n\r\n")
		b, _ := io.ReadAll(c)
		if s := string(b); !strings.HasPrefix(s, "HTTP/1.1 308 ") ||
			!strings.Contains(s, "\r\nLocation: https://stats.example.com"+want+"\r\n") {
			t.Errorf("%s: %s", path, s)
		}
	}
	if stop(); <-result != nil {
		t.Error("serve ended with an error")
	}
}
