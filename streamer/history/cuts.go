package history

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// cut is a span in which the log has lost events, with a loss of power. Its seconds may lack some.
type cut struct{ from, at time.Time }

const (
	// cutLag is how long before the newest record that is left an event may have come that is lost: the
	// embedded broker syncs each partition once a second.
	cutLag = 2 * time.Second
	// maxCuts bounds the cuts that are known: the newest ones.
	maxCuts = 1000
	// cutsMaxAge is how long the list of cuts is kept: they are few, and queries are many.
	cutsMaxAge = 5 * time.Second
)

// cutCache keeps the list of all cuts, the newest first.
type cutCache struct {
	mu     sync.Mutex
	list   []cut
	readAt time.Time // zero: never
}

// knownCuts returns all cuts of the log, the newest first. The list may be cutsMaxAge old.
func (e *Engine) knownCuts(ctx context.Context) ([]cut, error) {
	now := time.Now()
	e.cuts.mu.Lock()
	list, age := e.cuts.list, now.Sub(e.cuts.readAt)
	e.cuts.mu.Unlock()
	if age < cutsMaxAge {
		return list, nil
	}
	stmt, err := execute("cuts.sql", nil)
	if err != nil {
		return nil, err
	}
	stmt.bind("limit", maxCuts)
	list = nil
	err = e.db.run(ctx, stmt, func(rows driver.Rows) error {
		var after, at int64
		if err := rows.Scan(&after, &at); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		if after <= 0 || after > at { // no partition has a record left
			after = at
		}
		list = append(list, cut{time.UnixMilli(after).Add(-cutLag), time.UnixMilli(at)})
		return nil
	})
	var x *clickhouse.Exception
	if err != nil && (!errors.As(err, &x) || x.Code != codeUnknownTable) {
		return nil, err
	} // An aggregator of an older version has made no such table.
	e.cuts.mu.Lock()
	defer e.cuts.mu.Unlock()
	e.cuts.list, e.cuts.readAt = list, now
	return list, nil
}

// warnings returns what to know about the rows of a plan.
func (e *Engine) warnings(ctx context.Context, p plan) ([]Warning, error) {
	all, err := e.knownCuts(ctx)
	if err != nil {
		return nil, err
	}
	from := time.UnixMilli(p.notBefore(p.span.From))
	var last cut
	n := 0
	for _, c := range all {
		if c.at.Before(from) || !c.from.Before(p.span.To) {
			continue
		}
		if n++; n == 1 {
			last = c
		}
	}
	if n == 0 {
		return nil, nil
	}
	return []Warning{{Code: "log_cut", Warning: last.sentence(n, p.span.Zone)}}, nil
}

// sentence says in which seconds of a zone's clock views may be missing. The cut is the last one of n.
func (c cut) sentence(n int, zone *time.Location) string {
	from, to := c.from.In(zone), c.at.In(zone)
	layout := time.TimeOnly
	if from.Format(time.DateOnly) != to.Format(time.DateOnly) {
		layout = time.DateTime
	}
	between := from.Format(time.DateTime) + " and " + to.Format(layout)
	if n == 1 {
		return "The server lost its power: some views between " + between + " may be missing."
	}
	return fmt.Sprintf("The server lost its power %d times: some views may be missing, "+
		"the last ones between %s.", n, between)
}
