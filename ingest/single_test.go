package ingest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestSingle: a beacon read alone is the event that it is in the log.
func TestSingle(t *testing.T) {
	w := start(t, Config{})
	if a := w.post(t, page); a.status != http.StatusAccepted {
		t.Fatal(a.status)
	}
	want := w.events(t)[0]
	single := func(body string) (int, []byte, error) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/event", strings.NewReader(body))
		r.Header.Set("User-Agent", chrome)
		r.RemoteAddr = "127.0.0.1:1"
		return w.Single(r)
	}
	partition, b, err := single(page)
	if err != nil {
		t.Fatal(err)
	}
	r := decoded(t, partition, time.Now().UnixMilli(), b)
	if len(r.events) != 1 || partition != w.identity.Load().partitionOf(appendIdentity(nil, want.Site, parseAddr("127.0.0.1"), chrome)) {
		t.Fatalf("%d events for partition %d", len(r.events), partition)
	}
	got := r.events[0]
	if got.Visitor != want.Visitor || got.Path != want.Path || got.Browser != want.Browser || got.Site != want.Site {
		t.Errorf("%+v\nin the log %+v", got, want)
	}
	for _, body := range []string{"{", `{"n":"pageview"}`, `{"n":"pageview","u":"https://unknown.example/","d":"unknown.example"}`} {
		if _, _, err := single(body); !errors.Is(err, ErrNoEvent) {
			t.Errorf("%s: %v", body, err)
		}
	}
}
