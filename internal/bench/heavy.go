package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"nowcast/internal/warehouse"
)

const (
	heavySite = "history.example.com"
	heavyRows = 2_000_000
	// Seven days of a busy site, four events a visitor.
	heavyEvents = `INSERT INTO events (site, ts, visitor, id, kpart, koff, kind, name, hostname, path, source, country, device, browser, interactive, fresh)
SELECT '` + heavySite + `', now64(3, 'UTC') - toIntervalMillisecond(1000 + sipHash64(intDiv(number, 4)) %% 560000000 + number %% 4 * 40000),
    sipHash64(intDiv(number, 4)), unhex(hex(sipHash128(number))), 0, number, 'pageview', 'pageview', '` + heavySite + `',
    concat('/section-', toString(number %% 37), '/article-', toString(sipHash64(number) %% 5000)), ['', 'Google', 'Bing', 'Hacker News'][number %% 4 + 1],
    ['DE', 'FR', 'US', 'GB', 'IN'][number %% 5 + 1], ['Desktop', 'Mobile'][number %% 2 + 1], ['Chrome', 'Safari', 'Firefox'][number %% 3 + 1], 1, 1
FROM numbers(%d, %d)`
)

// heavyQueries are what a history page asks, only more of it: visits of a week by what differs most.
var heavyQueries = []string{
	`"metrics":["visitors","visits","bounce_rate","visit_duration"],"dimensions":["visit:entry_page"]`,
	`"metrics":["visitors","pageviews","views_per_visit"],"dimensions":["event:page","visit:country"]`,
	`"metrics":["visitors","visits"],"dimensions":["time:hour","visit:source"]`,
	`"metrics":["visitors","events"],"dimensions":["event:page"],"filters":[["matches","event:page",["article-[0-9]*7$","section-1[0-9]"]]]`,
}

// fill gives heavySite its history.
func fill(ctx context.Context, s *server) error {
	if err := s.site(ctx, heavySite); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "endpoints.json"))
	if err != nil {
		return err
	}
	var ends struct{ Clickhouse string }
	if err := json.Unmarshal(b, &ends); err != nil {
		return err
	}
	db, err := warehouse.Open(ends.Clickhouse)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // all inserts were acknowledged
	const step = 200_000
	for i := 0; i < heavyRows; i += step {
		if err := db.Exec(ctx, fmt.Sprintf(heavyEvents, i, step)); err != nil {
			return fmt.Errorf("fill history: %w", err)
		}
	}
	return nil
}

// strain has clients ask heavy queries, one after the other, until ctx ends: every other one with a key, so that they may have all places. It
// returns the number of answers by status.
func strain(ctx context.Context, s *server, clients int) map[int]int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := map[int]int{}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	for c := range clients {
		wg.Go(func() {
			for i := c; ctx.Err() == nil; i++ {
				status, err := askHeavy(ctx, client, s, c%2 == 0, heavyQueries[i%len(heavyQueries)])
				if errors.Is(err, context.Canceled) {
					return
				}
				mu.Lock()
				answers[status]++ // 0: none
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return answers
}

func askHeavy(ctx context.Context, client *http.Client, s *server, key bool, query string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/api/v2/query", strings.NewReader(`{"site_id":"`+heavySite+`","date_range":"7d",`+query+`}`))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key {
		req.Header.Set("Authorization", "Bearer "+s.key)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}
