package site

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

func TestLinks(t *testing.T) {
	w := newWorld(t)
	a, b := w.ready(w.registry()), w.ready(w.registry())
	ctx := t.Context()
	for _, d := range []string{"x.example.com", "y.example.com"} {
		if err := a.Put(ctx, Site{Domain: d}); err != nil {
			t.Fatal(err)
		}
	}
	l, secret, err := a.NewLink(ctx, "x.example.com", " press ")
	if err != nil || l.Name != "press" || l.Site != "x.example.com" || !strings.HasPrefix(secret, "ncl_") ||
		strings.Contains(l.Hash, secret) {
		t.Fatal(l, err)
	}
	w.soon("the other knows it", func() bool { got, ok := b.AuthenticateLink(secret); return ok && got == l })
	if _, ok := b.AuthenticateLink(secret + "x"); ok {
		t.Error("a wrong secret opens")
	}
	if _, ok := b.Authenticate(secret); ok {
		t.Error("a link is taken for a key")
	}
	if len(b.Links("x.example.com")) != 1 || len(b.Links("y.example.com")) != 0 {
		t.Error(b.Links("x.example.com"), b.Links("y.example.com"))
	}
	for _, row := range []struct {
		site, name string
		want       error
	}{
		{"nobody.example", "x", ErrNotFound},
		{"x.example.com", " ", ErrInvalid},
		{"x.example.com", strings.Repeat("n", 101), ErrInvalid},
	} {
		if _, _, err := a.NewLink(ctx, row.site, row.name); !errors.Is(err, row.want) {
			t.Errorf("%+v: %v", row, err)
		}
	}
	if err := b.DeleteLink(ctx, "y.example.com", l.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed by another site's name: %v", err)
	}
	if err := b.DeleteLink(ctx, "x.example.com", l.ID); err != nil {
		t.Fatal(err)
	}
	w.soon(
		"it opens nothing any more",
		func() bool { _, ok := a.AuthenticateLink(secret); _, byID := a.Link(l.ID); return !ok && !byID },
	)

	for i := range maxLinks {
		if _, secret, err = a.NewLink(ctx, "y.example.com", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := a.NewLink(ctx, "y.example.com", "one too many"); !errors.Is(err, ErrInvalid) {
		t.Errorf("more links than a site may have: %v", err)
	}
	if err := a.Delete(ctx, "y.example.com"); err != nil {
		t.Fatal(err)
	}
	if err := a.Put(ctx, Site{Domain: "y.example.com"}); err != nil {
		t.Fatal(err)
	}
	if _, ok := a.AuthenticateLink(secret); ok || len(a.Links("y.example.com")) != 0 {
		t.Error("a site that was made again has the links of the one before")
	}
}

// A link that somebody made while its site was removed isn't one of the next site of that name.
func TestLinkOfAnEarlierSite(t *testing.T) {
	w := newWorld(t)
	c := broker.New(broker.Config{Addrs: w.addrs})
	defer c.Close()
	secret := newSecret(linkSecretPrefix)
	for _, r := range [][2]string{
		{"link/l", `{"id":"l","site":"x.example.com","name":"n","hash":"` + hash(secret) +
			`","created":"2026-11-23T12:00:00Z"}`},
		{"link/bad", `{"id":"other","site":"x.example.com","hash":"` + hash("x") + `"}`},
		{"link/bad", `{"id":"bad","site":"x.example.com","hash":"short"}`},
		{"link/bad", `null`},
		{"site/x.example.com",
			`{"domain":"x.example.com","timezone":"UTC","created":"2026-11-23T12:00:01Z"}`},
	} {
		if _, err := c.ProduceKeyed(t.Context(), topic.Sites, []byte(r[0]), []byte(r[1])); err != nil {
			t.Fatal(err)
		}
	}
	r := w.ready(w.registry())
	if _, ok := r.AuthenticateLink(secret); ok || len(r.Links("x.example.com")) != 0 {
		t.Error("it opens the site")
	}
	if l, _, err := r.NewLink(
		t.Context(),
		"x.example.com",
		"n",
	); err != nil ||
		len(r.Links("x.example.com")) != 1 {
		t.Error(l, err)
	}
}

func TestReadableFrom(t *testing.T) {
	own, open := Site{Domain: "example.com"}, Site{Domain: "example.com", Public: true}
	listed := Site{
		Domain:  "example.com",
		Origins: []string{"https://app.example.net", "https://*.example.org", "http://localhost:3000"},
	}
	for _, row := range []struct {
		site   Site
		origin string
		want   bool
	}{
		{own, "https://example.com", true},
		{own, "http://example.com:8080", true},
		{own, "https://www.example.com", true},
		{own, "https://EXAMPLE.com", true},
		{own, "https://a.b.example.com:444", true},
		{own, "https://badexample.com", false},
		{own, "https://example.com.evil.example", false},
		{own, "https://com", false},
		{own, "ftp://example.com", false},
		{own, "https://example.com/", false},
		{own, "https://example.com@evil.example", false},
		{own, "https://evil.example#.example.com", false},
		{own, "https://evil.example?.example.com", false},
		{own, "https://*.example.com", false},
		{own, "null", false},
		{own, "", false},
		{open, "https://anywhere.example", true},
		{open, "null", true},
		{listed, "https://app.example.net", true},
		{listed, "https://app.example.net:443", true},
		{listed, "http://app.example.net", false},
		{listed, "https://app.example.net:444", false},
		{listed, "https://x.app.example.net", false},
		{listed, "https://x.y.example.org", true},
		{listed, "https://example.org", false},
		{listed, "http://localhost:3000", true},
		{listed, "http://localhost", false},
		{listed, "https://example.com", false}, // the list is instead of the default
		{Site{Domain: "localhost:3000"}, "http://localhost:5173", true},
		{Site{Domain: "127.0.0.1"}, "http://127.0.0.1:5173", true},
		{Site{Domain: "127.0.0.1"}, "http://a.127.0.0.1", false},
	} {
		if got := row.site.ReadableFrom(row.origin); got != row.want {
			t.Errorf("%s from %q: %t", row.site.Domain, row.origin, got)
		}
	}
}

func TestOriginsAreCleaned(t *testing.T) {
	for _, row := range []struct{ in, want string }{
		{"HTTPS://App.Example.com/", "https://app.example.com"},
		{" https://app.example.com:443 ", "https://app.example.com"},
		{"http://localhost:3000", "http://localhost:3000"},
		{"http://[::1]:3000", "http://[::1]:3000"},
		{"https://*.example.com", "https://*.example.com"},
		{"example.com", ""},
		{"https://example.com/path", ""},
		{"https://u@example.com", ""},
		{"https://a.*.example.com", ""},
		{"https://*", ""},
		{"*", ""},
		{"null", ""},
		{"https://example.com:", ""},
		{"https://example.com:123456", ""},
		{"https://example.com?", ""},
		{"", ""},
	} {
		got, err := cleanOrigins([]string{row.in, row.in})
		if (err == nil) != (row.want != "") || err == nil && !slices.Equal(got, []string{row.want}) ||
			err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %q %v", row.in, got, err)
		}
	}
	r := NewRegistry(nil, slog.New(slog.DiscardHandler))
	for _, list := range [][]string{{"evil"}, make([]string, maxOrigins+1)} {
		if err := r.Put(
			t.Context(),
			Site{Domain: "example.com", Origins: list},
		); !errors.Is(
			err,
			ErrInvalid,
		) {
			t.Errorf("%.20q: %v", list, err)
		}
	}
}

func FuzzReadableFrom(f *testing.F) {
	for _, s := range []string{"https://example.com", "null", "https://a.example.com:1",
		"https://*.example.com", "\x00://"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, origin string) {
		s := Site{Domain: "example.com"}
		if s.ReadableFrom(origin) {
			rest, ok := strings.CutPrefix(strings.ToLower(origin), "http")
			_, host, _ := strings.Cut(rest, "://")
			host, _, _ = strings.Cut(host, ":")
			if !ok || host != "example.com" && !strings.HasSuffix(host, ".example.com") ||
				strings.ContainsAny(origin, "/?#@") && strings.ContainsAny(host, "/?#@") {
				t.Errorf("%q may read", origin)
			}
		}
	})
}
