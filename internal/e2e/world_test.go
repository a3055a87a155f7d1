package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// world is the addresses that the suite runs against.
type world struct {
	ingest    string   // URL of ingest
	streamers []string // URLs of one or more streamers
	key       string   // an admin key
}

// other is another streamer than the first, if there are two.
func (w *world) other() string { return w.streamers[len(w.streamers)-1] }

const (
	phones = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 " +
		"(KHTML, like Gecko) Version/18.%d Mobile/15E148 Safari/604.1"
	desktops = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) " +
		"Chrome/142.0.%d.0 Safari/537.36"
)

// agent is a User-Agent that differs with n, so that each n is another visitor.
func agent(n int) string { return fmt.Sprintf(desktops, n) }

type answer struct {
	status int
	header http.Header
	body   string
}

// call sends a request. A body that isn't a string is encoded as JSON.
func (w *world) call(ctx context.Context, method, url, key string, body any) (answer, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, r)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", agent(0))
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	return do(req)
}

func do(req *http.Request) (answer, error) {
	res, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(b)}, err
}

// must is call with the admin key. It fails the test if there is no answer.
func (w *world) must(t *testing.T, method, url string, body any) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, err := w.call(ctx, method, url, w.key, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// beacon is one page view as the tracker sends it.
func (w *world) beacon(ctx context.Context, site, page string, visitor int, more map[string]any) (
	answer, error) {
	b := map[string]any{"n": "pageview", "d": site, "u": "https://" + site + page}
	for k, v := range more {
		b[k] = v
	}
	j, err := json.Marshal(b)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.ingest+"/api/event", bytes.NewReader(j))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set("User-Agent", agent(visitor))
	return do(req)
}

// view sends a page view and fails the test unless it is counted.
func (w *world) view(t *testing.T, site, page string, visitor int) {
	t.Helper()
	a, err := w.beacon(t.Context(), site, page, visitor, nil)
	if err != nil || a.status != http.StatusAccepted || a.header.Get("x-plausible-dropped") != "" {
		t.Fatalf("beacon: %v %d %q dropped=%q", err, a.status, a.body, a.header.Get("x-plausible-dropped"))
	}
}

var siteNumber atomic.Int64

// site makes a site and waits until ingest and all streamers know it. The event that it sends for that is
// no page view.
func (w *world) site(t *testing.T, public bool) string {
	t.Helper()
	domain := fmt.Sprintf("s%d-%d.example.com", siteNumber.Add(1), time.Now().UnixNano()%1e6)
	a := w.must(t, http.MethodPost, w.streamers[0]+"/api/v1/sites", map[string]any{"domain": domain,
		"public": public})
	if a.status != http.StatusCreated {
		t.Fatalf("make site: %d %s", a.status, a.body)
	}
	eventually(t, 10*time.Second, "site known everywhere", func(ctx context.Context) error {
		a, err := w.beacon(ctx, domain, "/", 0, map[string]any{"n": "engagement", "e": 1})
		if err != nil || a.status != http.StatusAccepted || a.header.Get("x-plausible-dropped") != "" {
			return fmt.Errorf("%v %d %s %v", err, a.status, a.body, a.header)
		}
		for _, s := range w.streamers {
			a, err := w.call(ctx, http.MethodGet, s+"/api/v1/sites/"+domain, w.key, nil)
			if err != nil || a.status != http.StatusOK {
				return fmt.Errorf("%s: %v %d %s", s, err, a.status, a.body)
			}
		}
		return nil
	})
	return domain
}

type queryAnswer struct {
	Results []struct {
		Metrics    []float64 `json:"metrics"`
		Dimensions []string  `json:"dimensions"`
	} `json:"results"`
}

// query asks the first streamer for yesterday and today.
func (w *world) query(ctx context.Context, site string, metrics, dimensions []string) (queryAnswer, error) {
	now := time.Now().UTC()
	span := []string{now.Add(-24 * time.Hour).Format(time.DateOnly), now.Format(time.DateOnly)}
	return w.queryRange(ctx, site, span, metrics, dimensions)
}

func (w *world) queryRange(ctx context.Context, site string, span, metrics, dimensions []string) (
	q queryAnswer, err error) {
	a, err := w.call(ctx, http.MethodPost, w.streamers[0]+"/api/v2/query", w.key,
		map[string]any{"site_id": site, "metrics": metrics, "date_range": span, "dimensions": dimensions})
	if err != nil {
		return q, err
	}
	if a.status != http.StatusOK {
		return q, fmt.Errorf("query: %d %s", a.status, a.body)
	}
	return q, json.Unmarshal([]byte(a.body), &q)
}

// total waits until a metric of history is want.
func (w *world) total(t *testing.T, site, metric string, want int) {
	t.Helper()
	what := fmt.Sprintf("history has %d %s", want, metric)
	eventually(t, 30*time.Second, what, func(ctx context.Context) error {
		q, err := w.query(ctx, site, []string{metric}, nil)
		if err != nil {
			return err
		}
		if len(q.Results) != 1 || q.Results[0].Metrics[0] != float64(want) {
			return fmt.Errorf("it has %v", q.Results)
		}
		return nil
	})
}

// adminKey reads the key that the first start of `nowcast all` writes into its data directory.
func adminKey(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
