// Package query answers questions about the history of a site, in the dialect of the Plausible Stats API v2, from the table
// `events`.
//
// It promises that what it says is what was shown live: an event counts in the second in which it was received, once, and
// rows that were written twice count once (FINAL). It keeps nothing: every answer is computed from single events when it
// is asked for. An answer that would cost more than Config allows is refused (*TooBig), and so is a question when too many are
// being answered (*Busy); while ClickHouse is away, questions fail at once or after Config.Timeout (*Unavailable). Whoever stops waiting for
// an answer stops the work for it. So questions, however many and heavy, leave most of the machine to what is live.
//
// What counts as a visit: a visitor's events less than 30 minutes apart. It begins with its first page view or custom event
// and counts at that time; engagement prolongs it. It bounced when it has at most one page view and no interactive custom
// event. What is asked of a visit by an event's dimension or filter (event:page, …) is about the visits that have such an event.
package query

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
)

// querier is the part of warehouse.DB that is needed here.
type querier interface {
	Query(ctx context.Context, query string, args ...any) (driver.Rows, error)
}

// Config bounds what questions may cost. Zero values are the defaults.
type Config struct {
	Timeout time.Duration // of one question, once it has a place; 20 s
	Memory  int64         // bytes that ClickHouse may use for one statement; 1 GiB
	Rows    int64         // that ClickHouse may read for one statement; 500 million
	Threads int           // of ClickHouse for one statement; half of those that it would take
	Most    int           // questions at a time; 8
	Each    int           // of them, of one Asker; 4
	Wait    time.Duration // for a place; 1 s
	Now     func() time.Time
	Metrics prometheus.Registerer // nil for none
}

func (c *Config) defaults() {
	set(&c.Timeout, 20*time.Second)
	set(&c.Memory, 1<<30)
	set(&c.Rows, 500_000_000)
	set(&c.Most, 8)
	set(&c.Each, 4)
	set(&c.Wait, time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
}

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Engine answers questions. It is safe for concurrent use.
type Engine struct {
	db       querier
	cfg      Config
	gate     gate
	settings atomic.Pointer[clickhouse.Settings] // nil until the server has been asked for its cores
	took     *prometheus.HistogramVec
}

// New makes an engine that asks db. Nothing is dialled.
func New(db querier, cfg Config) *Engine {
	cfg.defaults()
	e := &Engine{db: db, cfg: cfg, gate: gate{most: cfg.Most, each: cfg.Each, wait: cfg.Wait}}
	if cfg.Threads > 0 {
		e.limit(cfg.Threads, false)
	}
	e.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "nowcast_query_seconds",
		Help:    "Time that questions about history took, by outcome; those that found no place are busy.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
	}, []string{"outcome"})
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(e.took)
	}
	return e
}

// Site is whose history is asked for.
type Site struct {
	Domain   string
	Timezone string // IANA; "" is UTC
}

// Run answers q for s; q.SiteID is only echoed. Errors are *Invalid, *TooBig, *Busy, *Unavailable, ctx's, or a fault of this
// program.
func (e *Engine) Run(ctx context.Context, by Asker, s Site, q Request) (r Response, err error) {
	err = e.answer(ctx, by, func(ctx context.Context) error {
		r, err = e.run(ctx, s, q)
		return err
	})
	return r, err
}

// answer does the work of one question, in one of the asker's places.
func (e *Engine) answer(ctx context.Context, by Asker, work func(context.Context) error) (err error) {
	start := time.Now()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("ask ClickHouse: %w", ctx.Err())
		}
		e.took.WithLabelValues(outcome(err)).Observe(time.Since(start).Seconds())
	}()
	if err := e.gate.enter(ctx, by); err != nil {
		return err
	}
	defer e.gate.leave(by)
	// ClickHouse gives up by itself after Timeout; this is for one that doesn't answer at all. It is no deadline, since clickhouse-go would replace
	// max_execution_time by that and five seconds, and ClickHouse never be the first to give up.
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(e.cfg.Timeout+2*time.Second, cancel).Stop()
	err = work(inner)
	if err != nil && inner.Err() != nil && ctx.Err() == nil && e.answers(ctx) {
		return &TooBig{err}
	}
	return err
}

// answers says whether ClickHouse is there. It looks at the time only between blocks, and a block of a heavy statement may take longer than all
// of it should: then it is not away, and the same question would do no better in a few seconds.
func (e *Engine) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return e.query(ctx, nil, statement{sql: "SELECT 1"}, func(driver.Rows) error { return nil }) == nil
}

func (e *Engine) run(ctx context.Context, s Site, q Request) (Response, error) {
	p, err := e.plan(ctx, s, q)
	if err != nil {
		return Response{}, err
	}
	stmt, err := p.build()
	if err != nil {
		return Response{}, err
	}
	rows, total, err := e.rows(ctx, p, stmt)
	if err != nil {
		return Response{}, err
	}
	if q.Include.TotalRows && len(rows) == 0 && p.Offset > 0 {
		// The page is past the last row, so no row says how many there are.
		if total, err = e.total(ctx, p); err != nil {
			return Response{}, err
		}
	}
	if i := slices.Index(p.Metrics, Percentage); i >= 0 {
		if err := e.percentages(ctx, p, rows, i); err != nil {
			return Response{}, err
		}
	}
	r := Response{Results: rows, Query: p.echo()}
	if q.Include.TimeLabels {
		r.Meta.TimeLabels = p.span.labels(p.grain)
	}
	if q.Include.TotalRows {
		r.Meta.TotalRows = &total
	}
	return r, nil
}

// plan settles dates, grain, order and page.
func (e *Engine) plan(ctx context.Context, s Site, q Request) (plan, error) {
	p := plan{Request: q, site: s.Domain}
	if len(q.Metrics) == 0 {
		return p, invalid("metrics", "name at least one of %s", join(metrics))
	}
	loc, err := zone(s.Timezone)
	if err != nil {
		return p, err
	}
	p.span, err = q.DateRange.resolve(e.cfg.Now(), loc, func() (time.Time, error) { return e.first(ctx, s.Domain) })
	if err != nil {
		return p, err
	}
	p.Dimensions, p.OrderBy = slices.Clone(q.Dimensions), slices.Clone(q.OrderBy)
	if p.Limit == 0 {
		p.Limit = maxLimit
	}
	for i, n := range p.Dimensions {
		if !isTime(n) {
			continue
		}
		if p.grain, err = p.span.grainOf(dimensions[n].Grain); err != nil {
			return p, err
		}
		p.Dimensions[i] = p.grain.String()
		for j := range p.OrderBy {
			if p.OrderBy[j].By == n {
				p.OrderBy[j].By = p.grain.String()
			}
		}
	}
	if len(p.OrderBy) == 0 {
		if p.grain != none {
			p.OrderBy = append(p.OrderBy, Order{By: p.grain.String()})
		}
		p.OrderBy = append(p.OrderBy, Order{By: string(p.Metrics[0]), Desc: true})
	}
	return p, nil
}

// maxResult is more rows than any statement gives: each has a limit of its own, or is of minutes.
const maxResult = 20_000

// limit settles what each statement may take of ClickHouse. Its threads give way to others where the server can do that (it needs CAP_SYS_NICE),
// and its statement to those with a priority.
func (e *Engine) limit(threads int, nice bool) {
	s := clickhouse.Settings{
		"max_execution_time": int(math.Ceil(e.cfg.Timeout.Seconds())),
		"max_memory_usage":   e.cfg.Memory,
		"max_rows_to_read":   e.cfg.Rows,
		"max_result_rows":    maxResult,
		"max_threads":        threads,
		"priority":           10,
		// Over HTTP it stops a statement whose asker has gone; the native protocol always does.
		"cancel_http_readonly_queries_on_client_close": 1,
		"readonly": 2,
		// Rows with the same key have the same time and so are in the same partition.
		"do_not_merge_across_partitions_select_final": 1,
		"enable_named_columns_in_function_tuple":      1,
	}
	if nice {
		s["os_threads_nice_value_query"] = 19
	}
	e.settings.Store(&s)
}

// limits gives what limit has settled. The first question asks the server, which may be another machine, for half of the threads that it would take
// for one statement, and whether it knows niceness.
func (e *Engine) limits(ctx context.Context) (clickhouse.Settings, error) {
	if s := e.settings.Load(); s != nil {
		return *s, nil
	}
	sql, err := files.ReadFile("sql/machine.sql")
	if err != nil {
		return nil, fmt.Errorf("read statement: %w", err)
	}
	var threads, nice uint64
	err = e.query(ctx, nil, statement{sql: string(sql)}, func(r driver.Rows) error { return r.Scan(&threads, &nice) })
	if err != nil {
		return nil, err
	}
	e.limit(int(max(1, threads)), nice > 0)
	return *e.settings.Load(), nil
}

// ask runs one statement under the limits and gives each of its rows to scan.
func (e *Engine) ask(ctx context.Context, s statement, scan func(driver.Rows) error) error {
	limits, err := e.limits(ctx)
	if err == nil {
		err = e.query(ctx, limits, s, scan)
	}
	return judge(err)
}

func (e *Engine) query(ctx context.Context, limits clickhouse.Settings, s statement, scan func(driver.Rows) error) (err error) {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	rows, err := e.db.Query(clickhouse.Context(ctx, clickhouse.WithSettings(limits)), s.sql, s.args...)
	if err != nil {
		return err
	}
	defer func() {
		if closing := rows.Close(); err == nil {
			err = closing
		}
	}()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (e *Engine) rows(ctx context.Context, p plan, s statement) ([]Row, uint64, error) {
	out, total := []Row{}, uint64(0)
	columns := p.columns()
	err := e.ask(ctx, s, func(r driver.Rows) error {
		row := Row{Metrics: make([]*float64, len(p.Metrics)), Dimensions: make([]string, len(p.Dimensions))}
		values := make([]*float64, len(columns))
		to := make([]any, 0, len(columns)+len(p.Dimensions)+1)
		for i := range row.Dimensions {
			to = append(to, &row.Dimensions[i])
		}
		for i := range values {
			to = append(to, &values[i])
		}
		if err := r.Scan(append(to, &total)...); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		for i, m := range p.Metrics {
			row.Metrics[i] = values[slices.Index(columns, m.column())]
		}
		out = append(out, row)
		return nil
	})
	return out, total, err
}

// total counts the rows of all pages.
func (e *Engine) total(ctx context.Context, p plan) (uint64, error) {
	p.Limit, p.Offset = 1, 0
	s, err := p.build()
	if err != nil {
		return 0, err
	}
	_, total, err := e.rows(ctx, p, s)
	return total, err
}

// percentages turns visitors into parts of all visitors that pass the filters.
func (e *Engine) percentages(ctx context.Context, p plan, rows []Row, column int) error {
	p.Metrics, p.Dimensions, p.OrderBy, p.Limit, p.Offset = []Metric{Visitors}, nil, nil, 1, 0
	s, err := p.build()
	if err != nil {
		return err
	}
	all, _, err := e.rows(ctx, p, s)
	if err != nil {
		return err
	}
	if len(all) != 1 {
		return fmt.Errorf("count all visitors: got %d rows, want 1", len(all))
	}
	for _, r := range rows {
		whole := *all[0].Metrics[0]
		if whole == 0 {
			r.Metrics[column] = nil
			continue
		}
		v := math.Round(1000*min(*r.Metrics[column]/whole, 1)) / 10
		r.Metrics[column] = &v
	}
	return nil
}

// first is an hour before which the site has no event; the zero time when it has none at all.
func (e *Engine) first(ctx context.Context, domain string) (t time.Time, err error) {
	sql, err := files.ReadFile("sql/first.sql")
	if err != nil {
		return t, fmt.Errorf("read statement: %w", err)
	}
	s := statement{sql: string(sql)}
	s.bind("site", domain)
	return t, e.ask(ctx, s, func(r driver.Rows) error {
		var seconds uint32
		if err := r.Scan(&seconds); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		t = time.Unix(int64(seconds), 0)
		return nil
	})
}

// columns are the metrics as the statement gives them.
func (p plan) columns() []string {
	var out []string
	for _, m := range p.Metrics {
		if c := m.column(); !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

func (p plan) echo() Echo {
	e := Echo{
		SiteID: p.SiteID, Metrics: p.Metrics, DateRange: p.span.echo(), Dimensions: p.Dimensions, Filters: p.Filters,
		OrderBy: p.OrderBy, Include: map[string]any{}, Pagination: Page{p.Limit, p.Offset},
	}
	if p.Include.TimeLabels {
		e.Include["time_labels"] = true
	}
	if p.Include.TotalRows {
		e.Include["total_rows"] = true
	}
	if e.Dimensions == nil {
		e.Dimensions = []string{}
	}
	if e.Filters == nil {
		e.Filters = []Filter{}
	}
	return e
}

func outcome(err error) string {
	switch err.(type) { //nolint:errorlint // judge returns them unwrapped
	case nil:
		return "answered"
	case *Invalid:
		return "invalid"
	case *TooBig:
		return "too_big"
	case *Busy:
		return "busy"
	case *Unavailable:
		return "unavailable"
	}
	return "failed"
}
