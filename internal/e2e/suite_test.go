package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
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
	for _, x := range got.seconds {
		h := [2]int{}
		for at, to := x.span(); at <= to; at++ {
			h[0], h[1] = h[0]+history[at][0], h[1]+history[at][1]
			delete(history, at)
		}
		if h != [2]int{x.Pageviews, x.Visitors} {
			t.Errorf("%s: live showed %d views by %d visitors, history says %v", x.At.Format(time.TimeOnly),
				x.Pageviews, x.Visitors, h)
		}
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
