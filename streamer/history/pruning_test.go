package history

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// explain returns the plan of a statement with what its indexes leave.
func explain(t *testing.T, e *Engine, s statement) (lines []string) {
	t.Helper()
	s.sql = "EXPLAIN indexes = 1 " + s.sql
	err := e.db.run(t.Context(), s, func(r driver.Rows) error {
		var line string
		err := r.Scan(&line)
		lines = append(lines, strings.TrimSpace(line))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// A question about sealed days reads the partitions of their seals alone, and nothing of the events.
func TestSealedPartitions(t *testing.T) {
	domain := strings.ToLower(t.Name())
	var events []event
	for i := range 40 {
		events = append(events, event{at: time.Date(2026, 9, 1+i/4, i%24, 0, 0, 0, time.UTC),
			visitor: uint64(i), offset: uint64(i), kind: "pageview", name: "pageview", path: "/a",
			fresh: true, interactive: true})
	}
	putIn(t, domain, time.UTC, events, nil)
	for _, d := range daysOf(events, time.UTC) {
		sealing{site: domain, days: []localDate{d}, rolled: true}.put(t)
	}
	e := newEngine(t, database(t), Config{})
	of := func(name string, values ...string) []Filter {
		return []Filter{{Op: Is, Dimension: name, Values: values}}
	}
	for table, q := range map[string]Query{
		"rollups": {Metrics: []Metric{Visitors, BounceRate}},
		"visits":  {Metrics: []Metric{Visitors, BounceRate}, Filters: of("visit:country", notSet)},
		"hits":    {Metrics: []Metric{Visitors, Pageviews}, Filters: of(page, "/a")},
	} {
		q.DateRange = DateRange{From: "2026-09-03", To: "2026-09-05"}
		p, err := e.plan(t.Context(), Site{Domain: domain}, q)
		if err == nil {
			p.calendar, err = e.sealed(t.Context(), p)
		}
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.build()
		if err != nil {
			t.Fatal(err)
		}
		lines := explain(t, e, s)
		text, parts := strings.Join(lines, "\n"), ""
		for i, l := range lines {
			if l == "Min-Max" {
				for _, l := range lines[i:] {
					if strings.HasPrefix(l, "Parts: ") {
						parts = l
						break
					}
				}
			}
		}
		var read, all int
		if _, err := fmt.Sscanf(parts, "Parts: %d/%d", &read, &all); err != nil || read > 9 || read < 3 ||
			all < 3*read || strings.Contains(text, ".events)") || !strings.Contains(text, "."+table+")") {
			t.Errorf("%s: %d of %d parts: %s", table, read, all, text)
		}
		r, err := e.Run(t.Context(), public, Site{Domain: domain}, q)
		if err != nil || *r.Results[0].Metrics[0] != 12 {
			t.Errorf("%s: %v %v", table, r.Results, err)
		}
	}
}
