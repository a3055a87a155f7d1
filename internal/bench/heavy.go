package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/site"
	"nowcast/internal/warehouse"
)

const (
	heavySite = "history.example.com"
	heavyRows = 2_000_000
	// Seven days of a busy site, four events a visitor.
	heavyEvents = `INSERT INTO events (site, ts, visitor, id, kpart, koff, kind, name, hostname,
    path, source, country, device, browser, interactive, fresh, utc_offset)
SELECT '` + heavySite + `',
    now64(3, 'UTC')
        - toIntervalMillisecond(1000 + sipHash64(intDiv(number, 4)) %% 560000000 + number %% 4 * 40000),
    sipHash64(intDiv(number, 4)), unhex(hex(sipHash128(number))), 0, number, 'pageview', 'pageview',
    '` + heavySite + `',
    concat('/section-', toString(number %% 37), '/article-', toString(sipHash64(number) %% 5000)),
    ['', 'Google', 'Bing', 'Hacker News'][number %% 4 + 1], ['DE', 'FR', 'US', 'GB', 'IN'][number %% 5 + 1],
    ['Desktop', 'Mobile'][number %% 2 + 1], ['Chrome', 'Safari', 'Firefox'][number %% 3 + 1], 1, 1, 0
FROM numbers(%d, %d)`
)

// heavyQueries ask for what a history page shows, without its limits: a week's visits by dimensions of many
// values.
var heavyQueries = []string{
	`"metrics":["visitors","visits","bounce_rate","visit_duration"],"dimensions":["visit:entry_page"]`,
	`"metrics":["visitors","pageviews","views_per_visit"],"dimensions":["event:page","visit:country"]`,
	`"metrics":["visitors","visits"],"dimensions":["time:hour","visit:source"]`,
	`"metrics":["visitors","events"],"dimensions":["event:page"],
	 "filters":[["matches","event:page",["article-[0-9]*7$","section-1[0-9]"]]]`,
}

// fillHistory writes heavySite's history into ClickHouse.
func fillHistory(ctx context.Context, s *server) error {
	ends, err := s.endpoints()
	if err != nil {
		return err
	}
	if err := addOldSite(ctx, ends.Kafka, heavySite, time.Now().AddDate(0, 0, -8)); err != nil {
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

// addOldSite makes a public site that was created in the past: no query reaches before the creation.
func addOldSite(ctx context.Context, kafka, domain string, created time.Time) error {
	c := broker.New(broker.Config{Addrs: strings.Split(kafka, ",")})
	defer c.Close()
	sites := site.NewRegistry(c, slog.New(slog.DiscardHandler))
	running, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = sites.Run(running) }) // ends with stop
	if err := sites.Wait(ctx); err != nil {
		return fmt.Errorf("read sites: %w", err)
	}
	return sites.Put(ctx, site.Site{Domain: domain, Public: true, Created: created})
}

// queryHeavily has clients ask heavy queries, one after the other, until ctx ends. Every other client has a
// key, so that together they may hold every slot of the streamer's admission. It returns the number of
// answers by status; 0 stands for none.
func queryHeavily(ctx context.Context, s *server, clients int) map[int]int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := map[int]int{}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	for c := range clients {
		key := ""
		if c%2 == 0 {
			key = s.key
		}
		wg.Go(func() {
			for i := c; ctx.Err() == nil; i++ {
				body := `{"site_id":"` + heavySite + `","date_range":"7d",` +
					heavyQueries[i%len(heavyQueries)] + `}`
				status, err := s.post(ctx, client, "/api/v2/query", body, key)
				if errors.Is(err, context.Canceled) {
					return
				}
				mu.Lock()
				answers[status]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return answers
}
