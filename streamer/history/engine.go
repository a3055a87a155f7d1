// Package history answers queries about the history of a site, in the dialect of the Plausible Stats API v2.
//
// A visitor's id is of one day of the site, so visits end with the day, and an answer is the sum of its
// days' answers, however it is asked. A day that the sealer has built is read from its rows and sums (the
// tables visits, hits and rollups) while `seals` has all of its changes; any other day is open, and read from
// `events` by the same rules. Answers about sealed days alone are kept, since a seal's rows never change.
//
// What other tools counted (the table imported) is sums by day of one dimension. It is added to answers that
// ask for it, as far as such sums answer them.
//
// History agrees with what the live view showed: an event counts once, in the second in which it was
// received, and rows that were written twice count once (FINAL). An answer says where the log has lost some.
// A query that would cost more than Config allows fails with *TooBig, and one that finds no slot with *Busy.
// While ClickHouse is down, queries fail at once or after Config.Timeout with *Unavailable. A client that
// disconnects cancels its query in ClickHouse. These limits leave most of the machine to the live view.
//
// A visit is a chain of a visitor's events of a day, less than 30 minutes apart. It starts with its first
// page view or custom event, and counts at that time; engagement prolongs it. It bounced if it has at most
// one page view and no interactive custom event. A dimension or filter of events (event:page, …) selects the
// visits that have such an event; for bounce rate and duration, event:page selects the visits that entered on
// the page.
package history

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// Config bounds what queries may cost. Zero values are the defaults.
type Config struct {
	Timeout      time.Duration // of one query, once it is admitted; 20 s
	Memory       int64         // bytes that ClickHouse may use for one statement; 1 GiB
	Rows         int64         // that ClickHouse may read for one statement; 500 million
	Threads      int           // of ClickHouse for one statement; half of the server's own limit
	Concurrent   int           // queries at a time; 8
	PerPrincipal int           // of them, of one principal; 4
	QueueTimeout time.Duration // how long a query waits for a slot; 1 s
	AnswerBytes  int64         // of kept answers about sealed days; 32 MiB
	Now          func() time.Time
	Metrics      prometheus.Registerer // nil for none
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 20*time.Second)
	c.Memory = cmp.Or(c.Memory, 1<<30)
	c.Rows = cmp.Or(c.Rows, 500_000_000)
	c.Concurrent = cmp.Or(c.Concurrent, 8)
	c.PerPrincipal = cmp.Or(c.PerPrincipal, 4)
	c.QueueTimeout = cmp.Or(c.QueueTimeout, time.Second)
	c.AnswerBytes = cmp.Or(c.AnswerBytes, 32<<20)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Engine answers queries. It is safe for concurrent use.
type Engine struct {
	cfg       Config
	db        *client
	cuts      cutCache
	admission admission
	answers   *answers
	duration  *prometheus.HistogramVec
	parts     *prometheus.CounterVec
}

// New makes an engine over a database. It opens no connection.
func New(db querier, cfg Config) (*Engine, error) {
	cfg = cfg.withDefaults()
	e := &Engine{
		cfg: cfg,
		db:  newClient(db, cfg), answers: newAnswers(cfg.AnswerBytes),
		admission: admission{
			limit: cfg.Concurrent, perPrincipal: cfg.PerPrincipal, timeout: cfg.QueueTimeout,
		},
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "nowcast_query_seconds",
			Help:    "Duration of history queries, by outcome; busy: not admitted.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"outcome"}),
		parts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "nowcast_query_statements_total",
			Help: "Statements of history queries, by what answers them; kept: an answer of before, " +
				"sealed: sealed days, open: also days that aren't sealed, imported: also imports.",
		}, []string{"from"}),
	}
	if cfg.Metrics != nil {
		for _, c := range []prometheus.Collector{e.duration, e.parts} {
			if err := cfg.Metrics.Register(c); err != nil {
				return nil, fmt.Errorf("register metric: %w", err)
			}
		}
	}
	return e, nil
}

// Site is the site that a query is about.
type Site struct {
	Domain   string
	Timezone string // IANA name; "" is UTC
	// Since is the first moment of the site's history. What there is from before is a former site's, or has
	// expired.
	Since time.Time
	// LedgerSince is the same for minutes of the ledger, which count what two sites received in one minute.
	LedgerSince time.Time
	Goals       []site.Goal // that queries may name
	// ImportsSince is the first moment at which imports are the site's own. They are of days before Since.
	ImportsSince time.Time
}

// keeping returns a site that keeps its history for some days: what is older has expired, whether it is still
// stored or not.
func (e *Engine) keeping(s Site, days int) Site {
	expired := e.cfg.Now().UTC().AddDate(0, 0, -days)
	if s.Since.Before(expired) {
		s.Since = expired
	}
	if minute := expired.Add(time.Minute - 1).Truncate(time.Minute); s.LedgerSince.Before(minute) {
		s.LedgerSince = minute
	}
	return s
}

// Run answers a query about a site; q.SiteID is only echoed. The principal is the one whose slots the query
// takes. Errors are *Invalid, *TooBig, *Busy, *Unavailable, ctx's, or a fault of this program.
func (e *Engine) Run(ctx context.Context, p api.Principal, s Site, q Query) (r Response, err error) {
	err = e.admit(ctx, p, func(ctx context.Context) error {
		r, err = e.run(ctx, s, q)
		return err
	})
	return r, err
}

// graceAfterTimeout is how much longer than Config.Timeout a query may take before it is cancelled from here.
const graceAfterTimeout = 2 * time.Second

// admit runs the statements of one query in one of the principal's slots.
func (e *Engine) admit(ctx context.Context, p api.Principal, run func(context.Context) error) (err error) {
	start := time.Now()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("ask ClickHouse: %w", ctx.Err())
		}
		e.duration.WithLabelValues(outcome(err)).Observe(time.Since(start).Seconds())
	}()
	if err := e.admission.acquire(ctx, p); err != nil {
		return err
	}
	defer e.admission.release(p)
	// ClickHouse itself stops a statement after Timeout. The timer is for a server that does not answer at
	// all. It cancels and sets no deadline: from a deadline clickhouse-go derives a later
	// max_execution_time, and then ClickHouse would never be the first to stop.
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(e.cfg.Timeout+graceAfterTimeout, cancel).Stop()
	err = run(inner)
	if err != nil && inner.Err() != nil && ctx.Err() == nil && e.db.alive(ctx) {
		return &TooBig{err}
	}
	return err
}

func (e *Engine) run(ctx context.Context, s Site, q Query) (Response, error) {
	p, err := e.plan(ctx, s, q)
	if err != nil {
		return Response{}, err
	}
	if p.calendar, err = e.sealed(ctx, p); err != nil {
		return Response{}, err
	}
	rows, total, err := e.answer(ctx, p)
	if err != nil {
		return Response{}, err
	}
	r := Response{Results: rows, Query: p.echo()}
	if q.Include.TimeLabels {
		r.Meta.TimeLabels = p.span.labels(p.grain)
	}
	if q.Include.TotalRows {
		r.Meta.TotalRows = &total
	}
	p.imports.describe(&r.Meta)
	if r.Meta.Warnings, err = e.warnings(ctx, p); err != nil {
		return Response{}, err
	}
	r.Meta.Warnings = append(r.Meta.Warnings, p.uncountedGoals()...)
	return r, nil
}

// answer returns the rows of a plan, and how many all pages have.
func (e *Engine) answer(ctx context.Context, p plan) ([]Row, uint64, error) {
	if slices.Contains(p.Dimensions, goalDimension) {
		rows, total, err := e.goalRows(ctx, p)
		if err != nil {
			return nil, 0, err
		}
		return rows, total, e.shares(ctx, p, rows)
	}
	stmt, err := p.build()
	if err != nil {
		return nil, 0, err
	}
	rows, total, err := e.rows(ctx, p, stmt)
	if err != nil {
		return nil, 0, err
	}
	if p.Include.TotalRows && len(rows) == 0 && p.Offset > 0 {
		// The page is past the last row, so no row carries the total.
		if total, err = e.total(ctx, p); err != nil {
			return nil, 0, err
		}
	}
	return rows, total, e.shares(ctx, p, rows)
}

// rows answers the statement of a plan. The total counts the rows of all pages; it is 0 if there are no rows.
func (e *Engine) rows(ctx context.Context, p plan, s statement) (out []Row, total uint64, err error) {
	from := "open"
	switch {
	case p.imports.included:
		from = "imported"
		out, total, err = e.ask(ctx, p, s)
	case len(p.calendar.Open) > 0:
		out, total, err = e.ask(ctx, p, s)
	default:
		var kept bool
		from = "sealed"
		run := func() ([]Row, uint64, error) { return e.ask(ctx, p, s) }
		out, total, kept, err = e.answers.get(ctx, s, run)
		if kept {
			from = "kept"
		}
	}
	e.parts.WithLabelValues(from).Inc()
	return out, total, err
}

// ask runs the statement of a plan.
func (e *Engine) ask(ctx context.Context, p plan, s statement) (out []Row, total uint64, err error) {
	out = []Row{}
	columns := p.columns()
	err = e.db.run(ctx, s, func(r driver.Rows) error {
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

// shares replaces visitors in the columns of rows that are shares of all visitors.
func (e *Engine) shares(ctx context.Context, p plan, rows []Row) error {
	if i := slices.Index(p.Metrics, Percentage); i >= 0 {
		if err := e.percentages(ctx, p, rows, i, 10); err != nil {
			return err
		}
	}
	i := slices.Index(p.Metrics, ConversionRate)
	if i < 0 {
		return nil
	}
	p.Filters = p.ofAll
	return e.percentages(ctx, p, rows, i, 100)
}

// percentages replaces visitors in a column of rows by their percentage of all visitors that pass the
// filters, rounded to one of so many parts.
func (e *Engine) percentages(ctx context.Context, p plan, rows []Row, column int, parts float64) error {
	p.imports.part = importedDimension(p.Dimensions)
	p.Metrics, p.Dimensions, p.OrderBy, p.Limit, p.Offset = []Metric{Visitors}, nil, nil, 1, 0
	p.grain = none
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
	whole := all[0].Metrics[0]
	for _, r := range rows {
		part := r.Metrics[column]
		if part == nil || whole == nil || *whole == 0 { // an import may not know visitors
			r.Metrics[column] = nil
			continue
		}
		v := math.Round(100*parts*min(*part / *whole, 1)) / parts
		r.Metrics[column] = &v
	}
	return nil
}

func outcome(err error) string {
	switch err.(type) { //nolint:errorlint // admit returns them unwrapped
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
