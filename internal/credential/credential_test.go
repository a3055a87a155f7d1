package credential_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nowcast/internal/credential"
	"nowcast/internal/e2e/kafkatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	for _, row := range []struct{ content, want, err string }{
		{"s3cret", "s3cret", ""}, {"s3cret\n", "s3cret", ""}, {"s3cret\r\n", "s3cret", ""},
		{" with spaces \n", " with spaces ", ""}, {"", "", "is empty"}, {"\n", "", "is empty"},
		{"one\ntwo\n", "", "more than one line"}, {"one\n\n", "", "more than one line"}, {"a\x00b", "",
			"more than one"},
		{strings.Repeat("x", 4<<20+1), "", "is larger"},
	} {
		write(t, file, row.content)
		got, err := credential.ReadSecret(file)
		if got != row.want || (err == nil) != (row.err == "") ||
			err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%.20q: %q, %v", row.content, got, err)
		}
	}
	if _, err := credential.ReadSecret(file + ".missing"); err == nil {
		t.Error("no error for a file that doesn't exist")
	}
}

// A secret that can't be read keeps its last value, and that is reported once.
func TestSecretChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, "first\n")
	var reported []error
	s, err := credential.OpenSecret(file, func(err error) { reported = append(reported, err) })
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		content, want string
		reported      int
	}{{"first\n", "first", 0}, {"second", "second", 0}, {"", "second", 1}, {"", "second", 1}, {"third",
		"third", 1},
		{"", "third", 2}} {
		write(t, file, step.content)
		if got := s.Value(); got != step.want || len(reported) != step.reported {
			t.Errorf("with %q: %q, reported %v", step.content, got, reported)
		}
	}
	for _, err := range reported {
		if strings.Contains(err.Error(), "second") || strings.Contains(err.Error(), "third") {
			t.Errorf("an error with a secret: %v", err)
		}
	}
}

func pair(t *testing.T, a *kafkatest.Authority, name string) kafkatest.Pair {
	t.Helper()
	p, err := a.Issue(name, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Each configuration has the certificates that are in the files at that time.
func TestTLSChanges(t *testing.T) {
	dir := t.TempDir()
	a, err := kafkatest.NewAuthority("a")
	if err != nil {
		t.Fatal(err)
	}
	first, second := pair(t, a, "first"), pair(t, a, "second")
	f := credential.Files{
		CA:   filepath.Join(dir, "ca"),
		Cert: filepath.Join(dir, "cert"),
		Key:  filepath.Join(dir, "key"),
	}
	write(t, f.CA, string(a.PEM))
	write(t, f.Cert, string(first.Cert))
	write(t, f.Key, string(first.Key))
	var reported []error
	c, err := credential.OpenTLS(f, func(err error) { reported = append(reported, err) })
	if err != nil {
		t.Fatal(err)
	}
	subject := func() string {
		config := c.Config("host.example.com")
		if config.ServerName != "host.example.com" || config.InsecureSkipVerify || config.RootCAs == nil ||
			config.MinVersion < tls.VersionTLS12 {
			t.Errorf("config %+v", config)
		}
		return config.Certificates[0].Leaf.Subject.CommonName
	}
	if s := subject(); s != "first" {
		t.Error(s)
	}
	write(t, f.Cert, string(second.Cert)) // the key comes later
	if s := subject() + subject(); s != "firstfirst" || len(reported) != 1 {
		t.Error(s, reported)
	}
	write(t, f.Key, string(second.Key))
	if s := subject(); s != "second" {
		t.Error(s)
	}
	write(t, f.CA, "garbage")
	if s := subject(); s != "second" || len(reported) != 2 ||
		!strings.Contains(reported[1].Error(), "no certificate") {
		t.Error(s, reported)
	}
	for _, wrong := range []credential.Files{{Cert: f.Cert}, {Key: f.Key}, {CA: f.CA},
		{CA: f.CA + ".missing"},
		{Cert: f.Key, Key: f.Cert}} {
		if _, err := credential.OpenTLS(wrong, nil); err == nil {
			t.Errorf("%+v: no error", wrong)
		}
	}
}
