package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"nowcast/streamer/api/apitest"
)

// suite holds in every world.
func suite(t *testing.T, w *world) {
	t.Run("beacon to glass", w.beaconToGlass)
	t.Run("live and history agree", w.liveAndHistoryAgree)
	t.Run("resume on another instance", w.resumeElsewhere)
	t.Run("merged seconds add up", w.mergedSecondsAddUp)
	t.Run("a duplicate counts once", w.duplicateCountsOnce)
	t.Run("bad input", w.badInput)
	t.Run("access", w.access)
	t.Run("breakdowns", w.breakdowns)
	t.Run("stalled viewer", w.stalledViewer)
	t.Run("tracker", w.tracker)
	t.Run("answers follow the contract", w.contract)
}

// A viewer sees a page view within a second, first in a provisional second, then in the final one.
func (w *world) beaconToGlass(t *testing.T) {
	site := w.site(t, true)
	s := w.follow(t, w.streamers[0], site, "rate", "100ms")
	s.waitFor(t, 5*time.Second, "snapshot", func(f frame) bool { return f.event == "snapshot" })
	if h := s.header; h.Get("Cache-Control") != "no-cache, no-transform" ||
		h.Get("X-Accel-Buffering") != "no" {
		t.Errorf("headers of the stream: %v", h)
	}
	// At the beginning of a second, so that a provisional frame is due well before the second can be final.
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	sent := time.Now()
	w.view(t, site, "/hello", 1)
	f := s.waitFor(t, 5*time.Second, "the visitor is seen", func(f frame) bool { return f.Visitors == 1 })
	// The frame of the final second before may already count the visitor.
	if f.Second == nil || f.Second.Pageviews == 0 {
		f = s.waitFor(t, 5*time.Second, "the view is seen", func(f frame) bool {
			return f.Second != nil &&
				f.Second.Pageviews == 1
		})
	}
	if d := f.arrived.Sub(sent); d > time.Second {
		t.Errorf("it took %v from the beacon to the frame", d)
	}
	if f.Second.Final || f.Second.Pageviews != 1 {
		t.Errorf("the first frame with the view should have a provisional second: %+v", f.Second)
	}
	f = s.waitFor(t, 10*time.Second, "the second is final", func(f frame) bool {
		return f.Second != nil && f.Second.Final && f.Second.Pageviews == 1
	})
	if f.Second.Visitors != 1 || f.Second.Events != 1 {
		t.Errorf("final second %+v", *f.Second)
	}
	f = s.waitFor(t, 5*time.Second, "the page is in the list",
		func(f frame) bool { return len(f.Now.Pages) > 0 })
	if fmt.Sprint(f.Now.Pages[0]) != "[/hello 1]" {
		t.Errorf("pages now: %v", f.Now.Pages)
	}
	a := w.must(t, http.MethodGet, w.streamers[0]+"/api/v1/stats/realtime/visitors?site_id="+site, nil)
	if strings.TrimSpace(a.body) != "1" {
		t.Errorf("realtime visitors: %d %s", a.status, a.body)
	}
	w.total(t, site, "pageviews", 1)
}

// drip sends n page views of 23 visitors, evenly over d.
func (w *world) drip(t *testing.T, site string, n int, d time.Duration) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		time.Sleep(d / time.Duration(n))
		wg.Go(func() {
			a, err := w.beacon(t.Context(), site, fmt.Sprintf("/p%d", i%7), i%23, nil)
			if err != nil || a.status != http.StatusAccepted {
				t.Errorf("beacon %d: %v %d %s", i, err, a.status, a.body)
			}
		})
	}
	wg.Wait()
}

func (w *world) liveAndHistoryAgree(t *testing.T) {
	site := w.site(t, true)
	s := w.follow(t, w.streamers[0], site)
	const sent = 300
	w.drip(t, site, sent, 4*time.Second)
	got := newReceived()
	got.collect(t, s, "all is final", sent)
	if len(got.faults) > 0 || got.pageviews() != sent {
		t.Errorf("live counted %d of %d; %v", got.pageviews(), sent, got.faults)
	}
	w.total(t, site, "pageviews", sent)
	w.total(t, site, "visitors", 23)
	from := time.Now().UTC().Add(-5 * time.Minute)
	span := []string{from.Format(time.RFC3339), from.Add(10 * time.Minute).Format(time.RFC3339)}
	q, err := w.queryRange(t.Context(), site, span, []string{"pageviews", "visitors"},
		[]string{"time:second"})
	if err != nil {
		t.Fatal(err)
	}
	history := map[int64][2]int{}
	for _, r := range q.Results {
		at, err := time.Parse(time.DateTime, r.Dimensions[0])
		if err != nil {
			t.Fatal(err)
		}
		history[at.Unix()] = [2]int{int(r.Metrics[0]), int(r.Metrics[1])}
	}
	for at, x := range got.seconds {
		if x.Events == 0 {
			continue
		}
		if h := history[at]; h != [2]int{x.Pageviews, x.Visitors} {
			t.Errorf("%s: live showed %d views by %d visitors, history says %v", x.At.Format(time.TimeOnly),
				x.Pageviews, x.Visitors, h)
		}
		delete(history, at)
	}
	if len(history) > 0 {
		t.Errorf("history has seconds that were never live: %v", history)
	}
}

// A viewer whose connection breaks resumes after the last second received, on any instance.
func (w *world) resumeElsewhere(t *testing.T) {
	site := w.site(t, true)
	const sent = 240
	done := make(chan struct{})
	go func() { defer close(done); w.drip(t, site, sent, 8*time.Second) }()
	got := newReceived()
	end := time.Now().Add(40 * time.Second)
	for i := 0; got.pageviews() < sent && time.Now().Before(end); i++ {
		var q []string
		if got.id != "" {
			q = []string{"lastEventId", got.id}
		}
		s := w.follow(t, w.streamers[i%len(w.streamers)], site, q...)
		cut := time.After(time.Duration(700+300*(i%4)) * time.Millisecond)
	reading:
		for {
			select {
			case f := <-s.frames:
				got.add(f)
			case <-cut:
				s.cancel()
				break reading
			}
		}
	}
	<-done
	if len(got.faults) > 0 || got.pageviews() != sent {
		t.Errorf("over all connections %d of %d; %v", got.pageviews(), sent, got.faults)
	}
}

func (w *world) mergedSecondsAddUp(t *testing.T) {
	site := w.site(t, true)
	s := w.follow(t, w.other(), site, "rate", "5s")
	s.waitFor(t, 5*time.Second, "snapshot", func(f frame) bool { return f.event == "snapshot" })
	w.drip(t, site, 60, 3*time.Second)
	sum, merged := 0, false
	s.waitFor(t, 25*time.Second, "all in merged seconds", func(f frame) bool {
		if f.Second != nil && f.event == "" {
			sum += f.Second.Pageviews
			merged = merged || f.Second.To.Sub(f.Second.From) >= 3*time.Second
		}
		return sum >= 60
	})
	if sum != 60 || !merged {
		t.Errorf("got %d of 60, merged=%v", sum, merged)
	}
}

func (w *world) duplicateCountsOnce(t *testing.T) {
	site := w.site(t, true)
	for range 3 {
		if a, err := w.beacon(t.Context(), site, "/once", 1,
			map[string]any{"id": "the-same-event"}); err != nil || a.status != http.StatusAccepted {
			t.Fatal(a, err)
		}
	}
	w.view(t, site, "/twice", 1)
	w.total(t, site, "pageviews", 2)
}

// Any input is answered as Plausible answers it, and only the valid beacon at the end is counted.
func (w *world) badInput(t *testing.T) {
	site := w.site(t, true)
	u := `"u":"https://` + site + `/"`
	d := `"d":"` + site + `"`
	props := strings.TrimSuffix(strings.Repeat(`"k%":"v",`, 200_000), ",")
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	a10k, mega := strings.Repeat("a", 10_000), strings.Repeat("a", 1<<20)
	for _, row := range []struct {
		name, body, agent string
		status            int
		dropped           bool
	}{
		{"malformed", `{"n":`, agent(0), 400, false},
		{"no object", `[]`, agent(0), 400, false},
		{"empty", ``, agent(0), 400, false},
		{"wrong type", `{"n":{},` + u + `,` + d + `}`, agent(0), 400, false},
		{"no url", `{"n":"pageview",` + d + `}`, agent(0), 400, false},
		{"data url", `{"n":"pageview","u":"data:text/html,x",` + d + `}`, agent(0), 400, false},
		{"long url", `{"n":"pageview","u":"https://` + site + `/` + a10k + `",` + d + `}`, agent(0), 400,
			false},
		{"long name", `{"n":"` + a10k[:121] + `",` + u + `,` + d + `}`, agent(0), 400, false},
		{"huge body", `{"n":"pageview",` + u + `,` + d + `,"p":{"a":"` + mega + `"}}`, agent(0), 400, false},
		{"props beyond the body's limit", `{"n":"pageview",` + u + `,` + d + `,"p":{` + props + `}}`,
			agent(0), 400, false},
		{"deep", `{"n":"pageview",` + u + `,` + d + `,"p":` + deep + `}`, agent(0), 400, false},
		{"empty engagement", `{"n":"engagement",` + u + `,` + d + `}`, agent(0), 400, false},
		{"unknown site", `{"n":"pageview","u":"https://nobody.example/","d":"nobody.example"}`, agent(0),
			202, true},
		{"bot", `{"n":"pageview",` + u + `,` + d + `}`, "Googlebot/2.1 (+http://www.google.com/bot.html)",
			202, true},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.ingest+"/api/event",
			strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", row.agent)
		a, err := do(req)
		dropped := a.header.Get("x-plausible-dropped")
		if err != nil || a.status != row.status || (dropped != "") != row.dropped {
			t.Errorf("%s: %v %d (want %d) dropped=%q %.200s", row.name, err, a.status, row.status, dropped,
				a.body)
		}
	}
	a, err := w.beacon(t.Context(), site, "/\xff\xfe", 1, nil) // encoding/json makes it U+FFFD
	if err != nil || a.status >= 500 {
		t.Errorf("invalid UTF-8: %v %d", err, a.status)
	}
	body := strings.NewReader("{\"n\":\"page\xffview\"," + u + "," + d + "}")
	raw, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.ingest+"/api/event", body)
	if err != nil {
		t.Fatal(err)
	}
	raw.Header.Set("User-Agent", agent(2))
	if a, err := do(raw); err != nil || a.status >= 500 {
		t.Errorf("invalid UTF-8 in the body: %v %d", err, a.status)
	}
	good := w.site(t, true)
	w.view(t, good, "/", 1)
	w.total(t, good, "pageviews", 1)
	q, err := w.query(t.Context(), site, []string{"pageviews"}, []string{"event:page"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range q.Results {
		if !strings.Contains(r.Dimensions[0], "\uFFFD") && !strings.Contains(r.Dimensions[0], "%") {
			t.Errorf("a refused beacon was counted: %v", r)
		}
	}
}

func (w *world) access(t *testing.T) {
	private, public := w.site(t, false), w.site(t, true)
	a := w.must(t, http.MethodPost, w.streamers[0]+"/api/v1/keys", map[string]any{"name": "reader",
		"sites": []string{public}})
	var key struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(a.body), &key); err != nil || a.status != http.StatusCreated {
		t.Fatalf("make key: %d %s", a.status, a.body)
	}
	eventually(t, 5*time.Second, "key known everywhere", func(ctx context.Context) error {
		a, err := w.call(ctx, http.MethodGet, w.other()+"/api/v1/session", key.Secret, nil)
		if err == nil && !strings.Contains(a.body, `"authenticated":true`) {
			err = errors.New(a.body)
		}
		return err
	})
	for _, row := range []struct {
		method, path, key string
		status            int
	}{
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + public, "", 200},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + private, "", 401},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + private, "nck_wrong", 401},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + private, key.Secret, 403},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + private, w.key, 200},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=nobody.example", w.key, 404},
		{"GET", "/api/events?site=" + private, "", 401},
		{"GET", "/api/events?site=" + public + "&rate=7s", "", 400},
		{"POST", "/api/v1/sites", key.Secret, 403},
		{"GET", "/api/v1/keys", "", 401},
		{"GET", "/api/v1/keys", key.Secret, 403},
		{"DELETE", "/api/v1/sites/nobody.example", w.key, 404},
	} {
		a, err := w.call(t.Context(), row.method, w.other()+row.path, row.key,
			map[string]any{"domain": "x.example.com"})
		if err != nil || a.status != row.status {
			t.Errorf("%s %s: %v %d, want %d: %.200s", row.method, row.path, err, a.status, row.status, a.body)
		}
		if a.status >= 400 && !strings.Contains(a.body, `"error"`) {
			t.Errorf("%s %s: an error without a sentence: %.200s", row.method, row.path, a.body)
		}
	}
	login, err := w.call(t.Context(), http.MethodGet, w.streamers[0]+"/login?key="+url.QueryEscape(w.key),
		"", nil)
	setCookie := login.header.Get("Set-Cookie")
	if err != nil || login.status/100 != 3 || !strings.Contains(setCookie, "HttpOnly") ||
		!strings.Contains(setCookie, "SameSite=Lax") {
		t.Fatalf("login: %v %d %v", err, login.status, login.header)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		w.other()+"/api/v1/stats/realtime/visitors?site_id="+private, nil)
	if err != nil {
		t.Fatal(err)
	}
	cookie, _, _ := strings.Cut(setCookie, ";")
	req.Header.Set("Cookie", cookie)
	if a, err := do(req); err != nil || a.status != http.StatusOK {
		t.Errorf("with the session's cookie, on another instance: %v %d %s", err, a.status, a.body)
	}
	if a := w.must(t, http.MethodDelete, w.streamers[0]+"/api/v1/keys/"+key.ID,
		nil); a.status != http.StatusNoContent {
		t.Errorf("delete key: %d %s", a.status, a.body)
	}
	eventually(t, 5*time.Second, "a deleted key is refused", func(ctx context.Context) error {
		a, err := w.call(ctx, http.MethodGet, w.other()+"/api/v1/keys", key.Secret, nil)
		if err == nil && a.status != http.StatusUnauthorized {
			err = errors.New(a.body)
		}
		return err
	})
}

func (w *world) breakdowns(t *testing.T) {
	site := w.site(t, true)
	send := func(visitor int, page, referrer, agentFormat string, more map[string]any) {
		b := map[string]any{"n": "pageview", "d": site, "u": "https://" + site + page, "r": referrer}
		for k, v := range more {
			b[k] = v
		}
		j, _ := json.Marshal(b)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.ingest+"/api/event",
			bytes.NewReader(j))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", fmt.Sprintf(agentFormat, visitor))
		if a, err := do(req); err != nil || a.status != http.StatusAccepted ||
			a.header.Get("x-plausible-dropped") != "" {
			t.Fatalf("beacon: %v %+v", err, a)
		}
	}
	send(1, "/", "https://www.google.com/", desktops, nil)
	send(1, "/pricing", "", desktops, nil)
	send(1, "/pricing", "", desktops, map[string]any{"n": "Signup", "p": map[string]any{"plan": "pro"}})
	send(2, "/blog?utm_source=spring-letter&utm_campaign=may", "", phones, nil)
	send(3, "/", "https://news.ycombinator.com/item?id=1", desktops, nil)
	w.total(t, site, "events", 5)
	for _, row := range []struct{ dimension, want string }{
		{"event:page", "/ 2 2|/blog 1 1|/pricing 1 1"},
		{"visit:entry_page", "/ 2 3|/blog 1 1"},
		{"visit:exit_page", "/ 1 1|/blog 1 1|/pricing 1 2"},
		{"visit:source", "Google 1 2|Hacker News 1 1|spring-letter 1 1"},
		{"visit:device", "Desktop 2 3|Mobile 1 1"},
		{"visit:browser", "Chrome 2 3|Safari 1 1"},
		{"event:name", "Signup 1 0|pageview 3 4"},
	} {
		q, err := w.query(t.Context(), site, []string{"visitors", "pageviews"}, []string{row.dimension})
		if err != nil {
			t.Errorf("%s: %v", row.dimension, err)
			continue
		}
		var got []string
		for _, r := range q.Results {
			got = append(got, fmt.Sprintf("%s %v %v", r.Dimensions[0], r.Metrics[0], r.Metrics[1]))
		}
		sort.Strings(got)
		if s := strings.Join(got, "|"); s != row.want {
			t.Errorf("%s: %s, want %s", row.dimension, s, row.want)
		}
	}
	q, err := w.query(t.Context(), site, []string{"visits", "bounce_rate", "views_per_visit"}, nil)
	if err != nil || len(q.Results) != 1 || q.Results[0].Metrics[0] != 3 {
		t.Errorf("visits: %v %v", q, err)
	}
}

// Viewers that never read don't delay the others.
func (w *world) stalledViewer(t *testing.T) {
	site := w.site(t, true)
	host := strings.TrimPrefix(w.streamers[0], "http://")
	for range 20 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.(*net.TCPConn).SetReadBuffer(1024)
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n",
			path(site, "100ms"), host, w.key)
	}
	s := w.follow(t, w.streamers[0], site)
	go w.drip(t, site, 100, 4*time.Second)
	got := newReceived()
	got.collect(t, s, "the other viewer sees all", 100)
	if len(got.faults) > 0 {
		t.Error(got.faults)
	}
}

func (w *world) tracker(t *testing.T) {
	a := w.must(t, http.MethodGet, w.ingest+"/js/script.js", nil)
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write([]byte(a.body))
	_ = z.Close()
	if a.status != http.StatusOK || b.Len() >= 1024 || a.header.Get("ETag") == "" ||
		!strings.Contains(a.header.Get("Cache-Control"), "max-age") {
		t.Errorf("tracker: %d, %d bytes gzipped, %v", a.status, b.Len(), a.header)
	}
}

// Each JSON answer matches streamer/openapi.yaml.
func (w *world) contract(t *testing.T) {
	site := w.site(t, true)
	w.view(t, site, "/", 1)
	check, err := apitest.New()
	if err != nil {
		t.Fatal(err)
	}
	query := `{"site_id":"` + site + `","metrics":["visitors"],"date_range":"day"`
	for _, row := range []struct{ method, path, body string }{
		{"GET", "/api/v1/session", ""},
		{"GET", "/api/v1/sites", ""},
		{"GET", "/api/v1/sites/" + site, ""},
		{"GET", "/api/v1/sites/nobody.example", ""},
		{"GET", "/api/v1/sites/" + site + "/ledger", ""},
		{"GET", "/api/v1/sites/" + site + "/ledger?from=2026-01-01&to=2026-12-31&by=total", ""},
		{"GET", "/api/v1/sites/" + site + "/ledger?from=2026-01-01&to=2026-12-31", ""},
		{"PATCH", "/api/v1/sites/" + site, `{"timezone":"Europe/Berlin"}`},
		{"PATCH", "/api/v1/sites/" + site, `{"timezone":"Nowhere"}`},
		{"POST", "/api/v1/sites", `{"domain":"` + site + `"}`},
		{"POST", "/api/v1/sites", `{"domain":"not a domain"}`},
		{"GET", "/api/v1/keys", ""},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + site, ""},
		{"POST", "/api/v2/query", query + `}`},
		{"POST", "/api/v2/query", query +
			`,"dimensions":["time:hour"],"include":{"time_labels":true,"total_rows":true}}`},
		{"POST", "/api/v2/query", query + `,"dimensions":["nonsense"]}`},
		{"POST", "/api/v2/query", query},
	} {
		req, err := http.NewRequestWithContext(t.Context(), row.method, w.streamers[0]+row.path,
			strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.key)
		if row.body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		a, err := do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := check.Response(req, a.status, a.header, []byte(a.body)); err != nil {
			t.Errorf("%s %s: %d %s: %v", row.method, row.path, a.status, a.body, err)
		}
		if a.status >= 500 {
			t.Errorf("%s %s: %d %s", row.method, row.path, a.status, a.body)
		}
	}
}
