package warehouse_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nowcast/internal/credential"
	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/warehouse"
)

// secureServer takes connections of ClickHouse's protocols and records what clients send first.
type secureServer struct {
	native, http string // addresses
	files        map[string]string

	mu   sync.Mutex
	sent string
}

func (s *secureServer) record(b []byte) { s.mu.Lock(); defer s.mu.Unlock(); s.sent = string(b) }
func (s *secureServer) last() string    { s.mu.Lock(); defer s.mu.Unlock(); return s.sent }

// startSecure starts a server with a certificate for host that is valid for a time, and which asks for a
// client's certificate.
func startSecure(t *testing.T, host string, valid time.Duration) *secureServer {
	t.Helper()
	dir := t.TempDir()
	s := &secureServer{files: map[string]string{}}
	ca, err := kafkatest.NewAuthority("ClickHouse's")
	if err != nil {
		t.Fatal(err)
	}
	save := func(name, host string, valid time.Duration) tls.Certificate {
		p, err := ca.Issue(host, valid)
		if err == nil {
			s.files[name+".crt"], s.files[name+".key"], err = p.Save(dir, name)
		}
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(p.Cert, p.Key)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{save("server", host, valid)},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    x509.NewCertPool(),
	}
	config.ClientCAs.AppendCertsFromPEM(ca.PEM)
	save("client", "nowcast", time.Hour)
	s.files["ca"] = filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(s.files["ca"], ca.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.record([]byte(r.Header.Get("X-ClickHouse-User") + " " + r.Header.Get("X-ClickHouse-Key")))
		w.WriteHeader(http.StatusInternalServerError)
	}))
	h.TLS = config.Clone()
	h.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	h.StartTLS()
	t.Cleanup(h.Close)
	s.http = h.Listener.Addr().String()

	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.greet(c)
		}
	})
	t.Cleanup(func() { l.Close(); served.Wait() })
	s.native = l.Addr().String()
	return s
}

// greet reads a client's hello and closes the connection.
func (s *secureServer) greet(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 1024)
	if n, err := c.Read(b); err == nil {
		s.record(b[:n])
	}
}

func (s *secureServer) dsn(protocol, more string) string {
	if protocol == "native" {
		return "clickhouse://reader" + more + "@" + s.native + "/db?secure=true"
	}
	return "https://reader" + more + "@" + s.http + "/db"
}

func openTLS(t *testing.T, f credential.Files) *credential.TLS {
	t.Helper()
	c, err := credential.OpenTLS(f, func(err error) { t.Log(err) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The certificates are checked and shown, over both protocols; what is wrong is said in one sentence without
// the password.
func TestCertificates(t *testing.T) {
	good, expired := startSecure(t, "127.0.0.1", time.Hour), startSecure(t, "127.0.0.1", -time.Minute)
	elsewhere := startSecure(t, "clickhouse.example.com", time.Hour)
	for _, protocol := range []string{"native", "http"} {
		for _, row := range []struct {
			name   string
			server *secureServer
			files  func(s *secureServer) credential.Files
			want   string // of the error; "" when the server gets the hello
		}{
			{"good", good, mutual, ""},
			{"no authority", good, func(*secureServer) credential.Files { return credential.Files{} },
				"name the authority's certificate with --clickhouse-ca-file"},
			{"no certificate", good,
				func(s *secureServer) credential.Files { return credential.Files{CA: s.files["ca"]} },
				"refuses this client's certificate"},
			{"expired", expired, mutual, "expired on 20"},
			{"wrong host", elsewhere, mutual, "is for clickhouse.example.com and not for 127.0.0.1"},
		} {
			db, err := warehouse.OpenWith(row.server.dsn(protocol, ":pass%2Fword"),
				warehouse.Credentials{TLS: openTLS(t, row.files(row.server))})
			if err != nil {
				t.Fatal(err)
			}
			row.server.record(nil)
			err = db.Ping(t.Context())
			db.Close()
			sent := strings.Contains(row.server.last(), "reader") &&
				strings.Contains(row.server.last(), "pass/word")
			if err == nil || strings.Contains(err.Error(), "pass") && strings.Contains(err.Error(), "word") {
				t.Errorf("%s, %s: error %v", protocol, row.name, err)
			} else if row.want == "" != sent || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s, %s: server got %q; %v", protocol, row.name, row.server.last(), err)
			}
		}
	}
}

func mutual(s *secureServer) credential.Files {
	return credential.Files{CA: s.files["ca"], Cert: s.files["client.crt"], Key: s.files["client.key"]}
}

// A password is read again when its file changes.
func TestPasswordFile(t *testing.T) {
	s := startSecure(t, "127.0.0.1", time.Hour)
	file := filepath.Join(t.TempDir(), "password")
	for _, protocol := range []string{"native", "http"} {
		write(t, file, "first\n")
		secret, err := credential.OpenSecret(file, func(err error) { t.Log(err) })
		if err != nil {
			t.Fatal(err)
		}
		db, err := warehouse.OpenWith(s.dsn(protocol, ""),
			warehouse.Credentials{TLS: openTLS(t, mutual(s)), Password: secret})
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct{ content, want string }{{"first\n", "first"}, {"second", "second"},
			{"", "second"}} {
			write(t, file, step.content)
			s.record(nil)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_ = db.Ping(ctx) // fails: the server answers nothing
			cancel()
			if !strings.Contains(s.last(), step.want) {
				t.Errorf("%s: with %q in the file the server got %q", protocol, step.content, s.last())
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// No address, however it is mistyped, comes back in an error with its user or password.
func TestAddressErrorsKeepSecrets(t *testing.T) {
	for _, dsn := range []string{
		"clickhouse://user:hush@host:port/db", "clickhouse://user:hu/sh@host:9000/db",
		"hush@host", "user:hush@host://db",
		"clickhouse://user:hush%zz@host:9000/db", "clickhouse://user:hush@host:9000/db?dial_timeout=x",
		"clickhouse://host:9000/db?password=hush&dial_timeout=x", "http://user:hush@host:8123/db?secure=true",
		"unix://user:hush@relative", "clickhouse://user:hush#@host:9000",
		"clickhouse://user:hush @host:9000/%zz",
		"clickhouse://host:9000/db?secure=maybe&password=hush",
	} {
		db, err := warehouse.Open(dsn)
		if err == nil {
			_, err = db.ServerVersion()
			db.Close()
		}
		if err == nil || strings.Contains(err.Error(), "hu") || strings.Contains(err.Error(), "sh@") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
	var out bytes.Buffer
	db, err := warehouse.Open("clickhouse://user:hush@127.0.0.1:1/db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	err = db.Wait(ctx, slog.New(slog.NewTextHandler(&out, nil)))
	if err == nil || strings.Contains(err.Error()+out.String(), "hush") ||
		!strings.Contains(out.String(), "waiting") {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestConflictingCredentials(t *testing.T) {
	for _, row := range []struct {
		dsn, want string
		c         warehouse.Credentials
	}{
		{"clickhouse://user:hush@host:9000/db", "apart from it",
			warehouse.Credentials{Password: credential.Fixed("x")}},
		{"clickhouse://user@host:9000/db", "add ?secure=true", warehouse.Credentials{TLS: openTLS(t,
			credential.Files{})}},
	} {
		if _, err := warehouse.OpenWith(row.dsn, row.c); err == nil ||
			!strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.dsn, err)
		}
	}
}
