package site

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

type world struct {
	t     testing.TB
	addrs []string
}

func newWorld(t testing.TB) *world {
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	w := &world{t, k.ListenAddrs()}
	c := broker.New(broker.Config{Addrs: w.addrs})
	defer c.Close()
	if err := c.Ensure(t.Context(), topic.Specs(1, 1), nil); err != nil {
		t.Fatal(err)
	}
	return w
}

// registry runs one until the test ends.
func (w *world) registry() *Registry {
	c := broker.New(broker.Config{Addrs: w.addrs})
	r := NewRegistry(c, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done; c.Close() })
	return r
}

func (w *world) ready(r *Registry) *Registry {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	if err := r.Wait(ctx); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) soon(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("not within 10 s: ", what)
		}
	}
}

func TestSites(t *testing.T) {
	w := newWorld(t)
	a, b := w.ready(w.registry()), w.ready(w.registry())
	ctx := t.Context()
	for _, d := range []string{"one.example.com", "two.example.com"} {
		if err := a.Put(ctx, Site{Domain: d}); err != nil {
			t.Fatal(err)
		}
		if s, ok := a.Lookup(d); !ok || s.Timezone != "UTC" || s.Created.IsZero() {
			t.Errorf("who makes a site sees it: %+v %v", s, ok)
		}
	}
	w.soon("the other sees both", func() bool { return len(b.Sites()) == 2 })
	if d, _ := b.Default(); d.Domain != "one.example.com" {
		t.Errorf("default %v", d)
	}
	if err := b.Delete(ctx, "one.example.com"); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(ctx, "one.example.com"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	c := w.ready(w.registry()) // a later start reads the same
	if _, ok := c.Lookup("one.example.com"); ok || len(c.Sites()) != 1 {
		t.Errorf("after a restart: %v", c.Sites())
	}
}

func TestKeys(t *testing.T) {
	w := newWorld(t)
	a, b := w.ready(w.registry()), w.ready(w.registry())
	if err := a.Put(t.Context(), Site{Domain: "x.example.com"}); err != nil {
		t.Fatal(err)
	}
	k, secret, err := a.NewKey(t.Context(), "reader", false, []string{"x.example.com"})
	if err != nil || !strings.HasPrefix(secret, "nck_") || strings.Contains(k.Hash, secret) {
		t.Fatal(k, err)
	}
	w.soon("the other knows it", func() bool { _, ok := b.Authenticate(secret); return ok })
	x, _ := a.Lookup("x.example.com")
	if !k.MayRead(x) || k.MayRead(Site{Domain: "y.example.com", Generation: x.Generation}) {
		t.Error("what it may read")
	}
	if _, ok := b.Authenticate(secret + "x"); ok {
		t.Error("a wrong secret opens")
	}
	if _, _, err := a.NewKey(
		t.Context(),
		"reader",
		false,
		[]string{"nobody.example"},
	); !errors.Is(
		err,
		ErrInvalid,
	) {
		t.Errorf("key for no site: %v", err)
	}
	if err := b.DeleteKey(t.Context(), k.ID); err != nil {
		t.Fatal(err)
	}
	w.soon("it opens nothing any more", func() bool { _, ok := a.Authenticate(secret); return !ok })
}

// What isn't ours in the topic harms nothing.
func TestGarbage(t *testing.T) {
	w := newWorld(t)
	c := broker.New(broker.Config{Addrs: w.addrs})
	defer c.Close()
	for _, r := range [][2]string{
		{"site/x", "{"}, {"site/x.example", `{"domain":"y.example"}`}, {"site/x.example", "null"},
		{"key/x", "[]"}, {"key/x", `{"id":"x","admin":true}`}, {"secret", "zz"}, {"what", "ever"},
	} {
		if _, err := c.ProduceKeyed(t.Context(), topic.Sites, []byte(r[0]), []byte(r[1])); err != nil {
			t.Fatal(err)
		}
	}
	r := w.ready(w.registry())
	if len(r.Sites())+len(r.Keys()) != 0 {
		t.Error(r.Sites(), r.Keys())
	}
}

func TestDomain(t *testing.T) {
	for _, row := range []struct{ in, want string }{
		{"Example.com", "example.com"},
		{" https://example.com/ ", "example.com"},
		{"localhost", "localhost"},
		{"localhost:3000", "localhost:3000"},
		{"127.0.0.1", "127.0.0.1"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"bücher.example", ""},
		{"example.com:65535", "example.com:65535"},
		{"example.com:0", ""},
		{"example.com:080", ""},
		{"example.com:65536", ""},
		{"example.com:99999", ""},
		{"example.com:+80", ""},
		{"favicon.ico", ""},
		{"robots.txt", ""},
		{"INDEX.HTML", ""},
		{"wp-login.php", ""},
		{"a.b.js:8080", ""},
		{"js.example.com", "js.example.com"},
		{"exa\u200bmple.com", ""},
		{"example", ""},
		{"", ""},
		{"a..b", ""},
		{"-a.example", ""},
		{"example.com/path", ""},
		{"example.com:", ""},
		{"example.com:123456", ""},
		{strings.Repeat("a.", 140) + "example", ""},
		{"exa mple.com", ""},
	} {
		got, err := Domain(row.in)
		if got != row.want || (err == nil) != (row.want != "") {
			t.Errorf("Domain(%q) = %q, %v", row.in, got, err)
		}
	}
}

func TestPutChecks(t *testing.T) {
	r := NewRegistry(nil, slog.New(slog.DiscardHandler))
	for _, s := range []Site{
		{Domain: "no domain"}, {Domain: "Example.com"},
		{Domain: "example.com", Timezone: "Nowhere"}, {Domain: "example.com", Timezone: "Local"},
	} {
		if err := r.Put(t.Context(), s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
