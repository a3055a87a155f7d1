// Package verify recounts a span of the log by brute force and compares the result with the windows topic and
// with ClickHouse's tables `windows`, `events`, `ledger` and `ledger_rollup`.
//
// It shares only the wire schemas with the aggregator. It implements the protocol's rules a second time, in
// the slowest form that is obviously right: sets, sorted lists, no incremental state. If both agree, both are
// right or both have made the same mistake.
//
// It reports each row that is missing, doubled or different, with its position. It compares as far as the
// lanes have committed, waits up to Config.Wait for lanes that are behind, and reports what it didn't
// compare: a row that isn't stored yet is no difference. A duplicate row that FINAL removes is none either,
// since no query sees it. Events of an erasure are in no table, once the erasure has ended; windows that were
// published before it may count them or not. The lists of active visitors aren't compared: they describe a
// moment and are stored nowhere.
//
// It uses about 80 bytes of memory an event of the span and partition. It handles one partition at a time.
package verify

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/broker"
	"nowcast/internal/erasure"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
)

// Config says what to verify.
type Config struct {
	Sites    []string      // none: all
	From, To time.Time     // whole seconds, without the second at To. What isn't final at To is left out
	Wait     time.Duration // for each lane of a partition that is behind
	Progress func(Progress)
}

// Progress is the progress of a run.
type Progress struct {
	Partition, Partitions int
	Doing                 string
	Done                  float64 // of the partition's log, 0 to 1
	Events                int     // recounted so far, of all partitions
}

// Deps are the dependencies of a run.
type Deps struct {
	Broker    *broker.Client
	Warehouse *warehouse.DB
}

const (
	// leadIn is read before the span: ids and active visitors reach back five minutes each, nodes eleven.
	leadIn = 20 * time.Minute
	// leadOut is read after the span. Events of the span that arrive later, from a spool that was cut off for
	// long, are in no window. A run over a later span compares them.
	leadOut = 15 * time.Minute
)

// eventLog reads topics. It is implemented by broker.Client.
type eventLog interface {
	Bounds(ctx context.Context, topic string, partition int) (first, end int64, err error)
	OffsetAt(ctx context.Context, topic string, partition int, at time.Time) (int64, error)
	Follow(ctx context.Context, f broker.Follower) error
}

// consumers knows partitions and the positions of groups. It is implemented by broker.Client.
type consumers interface {
	Partitions(ctx context.Context, topic string) (int, error)
	Committed(ctx context.Context, group string, partitions []int, topics ...string) ([]broker.Position,
		error)
}

// tables queries ClickHouse. It is implemented by warehouse.DB.
type tables interface {
	Query(ctx context.Context, query string, args ...any) (driver.Rows, error)
}

// run is the state of one run.
type run struct {
	Config
	log       eventLog
	consumers consumers
	tables    tables
	report    *Report
	erased    *erasure.Set
	expired   map[string]int64 // by site: older rows have expired, ms
	rollup    rollup
	leftOver  int                // rows of erasures that haven't ended
	committed map[string][]int64 // offsets that the store lane has committed, by topic and partition
	// readsToEnd is true if no record of the log is behind those that are read
	readsToEnd bool
}

// Run recounts and compares. It fails if something can't be read; differences are in the report.
func Run(ctx context.Context, c Config, d Deps) (*Report, error) {
	erasures, stop, err := erasure.Follow(ctx, d.Broker, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer stop()
	r := newRun(c, d.Broker, d.Broker, d.Warehouse)
	r.erased = erasures.Set()
	if r.expired, err = readExpired(ctx, d.Warehouse); err != nil {
		return nil, err
	}
	if r.rollup.before, err = readRolledUp(ctx, d.Warehouse); err != nil {
		return nil, err
	}
	if err := r.compareSealed(ctx); err != nil {
		return nil, err
	}
	return r.run(ctx)
}

func newRun(c Config, log eventLog, consumers consumers, tables tables) *run {
	c.From, c.To = c.From.UTC().Truncate(time.Second), c.To.UTC().Truncate(time.Second)
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	return &run{Config: c, log: log, consumers: consumers, tables: tables,
		report: &Report{From: c.From, To: c.To}, rollup: rollup{lostThrough: never},
		readsToEnd: !c.To.Add(leadOut).Before(time.Now())}
}

func (r *run) run(ctx context.Context) (*Report, error) {
	if !r.From.Before(r.To) {
		return nil, fmt.Errorf("the span is empty: it begins at %s and ends at %s",
			r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
	}
	var err error
	if r.report.Partitions, err = r.consumers.Partitions(ctx, topic.Events); err != nil {
		return nil, err
	}
	for p := range r.report.Partitions {
		if err := r.partition(ctx, p); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p, err)
		}
	}
	if err := r.compareRollup(ctx); err != nil {
		return nil, err
	}
	if err := r.findUnknownPartitions(ctx); err != nil {
		return nil, err
	}
	if r.leftOver > 0 {
		r.report.note("%d rows in ClickHouse belong to an erasure that hasn't ended", r.leftOver)
	}
	r.report.finish()
	return r.report, nil
}

// partition recounts one partition and compares it with the windows topic and the tables.
func (r *run) partition(ctx context.Context, p int) error {
	from, to, headLost, err := r.offsets(ctx, p)
	if err != nil {
		return err
	}
	rc := newRecount(r.Config, p)
	rc.erased = r.erased
	if err := r.read(ctx, topic.Events, p, from, to, func(x broker.Record) error {
		// clocks of nodes differ a little, so lost records may be of the following minute as well
		if headLost {
			headLost, rc.lostThrough = false, x.Time/60_000+1
		}
		if x.Offset%64 == 0 {
			r.progress(p, "recounting the log", float64(x.Offset-from)/float64(max(1, to-from)))
		}
		rc.addEnvelope(x, r.report)
		return nil
	}); err != nil {
		return err
	}
	r.progress(p, "comparing", 1)
	want := rc.rows()

	emitted, err := r.readWindows(ctx, p, rc)
	if err != nil {
		return err
	}
	// Only seconds that are final for both are compared.
	final := min(rc.watermark, emitted.watermark, r.To.UnixMilli())
	r.report.compared(p, final, min(rc.watermark, r.To.UnixMilli()))
	r.compareTopic(p, rc, want, emitted, final)

	if err := r.wait(ctx, p, max(rc.last()+1, rc.ledgerEnd), emitted.last()+1); err != nil {
		return err
	}
	if err := r.compareWindows(ctx, p, rc, want, emitted, final); err != nil {
		return err
	}
	if err := r.compareEvents(ctx, p, rc, to); err != nil {
		return err
	}
	return r.compareLedger(ctx, p, rc, to)
}

func (r *run) progress(p int, doing string, done float64) {
	r.Progress(Progress{Partition: p, Partitions: r.report.Partitions, Doing: doing, Done: done,
		Events: r.report.Events})
}

// offsets returns the part of the log to read, and whether retention has deleted records before it that
// belong to it.
func (r *run) offsets(ctx context.Context, p int) (from, to int64, headLost bool, err error) {
	first, end, err := r.log.Bounds(ctx, topic.Events, p)
	if err != nil {
		return 0, 0, false, err
	}
	if from, err = r.log.OffsetAt(ctx, topic.Events, p, r.From.Add(-leadIn)); err != nil {
		return 0, 0, false, err
	}
	if to, err = r.log.OffsetAt(ctx, topic.Events, p, r.To.Add(leadOut)); err != nil {
		return 0, 0, false, err
	}
	headLost = from <= first && first > 0
	if headLost {
		r.report.note("partition %d: the log begins at offset %d; "+
			"what retention has taken before it isn't recounted, "+
			"so the first %s after it may differ", p, first, leadIn)
	}
	return from, min(to, end), headLost, nil
}

// read calls each with the records of a partition in [from, to).
func (r *run) read(ctx context.Context, name string, p int, from, to int64,
	each func(broker.Record) error) error {
	span := broker.Range{Topic: name, Partition: p, From: from, To: to,
		Gap: func(g broker.Gap) { r.report.note("%s", g) },
		Cut: r.report.addCut}
	for x, err := range broker.ReadRange(ctx, r.log, span) {
		if err == nil {
			err = each(x)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wait waits until the store lane has committed the given offsets, up to Config.Wait. Everything before a
// committed offset is in ClickHouse.
func (r *run) wait(ctx context.Context, p int, events, windows int64) error {
	for end := time.Now().Add(r.Wait); ; {
		if err := r.readCommitted(ctx); err != nil {
			return err
		}
		behind := max(0, events-r.committed[topic.Events][p]) + max(0, windows-r.committed[topic.Windows][p])
		if behind == 0 {
			return nil
		}
		if !time.Now().Before(end) {
			r.report.notCompared("partition %d: the store lane is %d records behind, "+
				"what is in those isn't compared with ClickHouse", p, behind)
			return nil
		}
		r.progress(p, fmt.Sprintf("waiting for the store lane, %d records behind", behind), 1)
		if err := retry.Sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func (r *run) readCommitted(ctx context.Context) error {
	partitions := make([]int, r.report.Partitions)
	for p := range partitions {
		partitions[p] = p
	}
	all, err := r.consumers.Committed(ctx, topic.Group("store"), partitions, topic.Events, topic.Windows)
	if err != nil {
		return err
	}
	r.committed = map[string][]int64{
		topic.Events: make([]int64, len(partitions)), topic.Windows: make([]int64, len(partitions))}
	for _, x := range all {
		r.committed[x.Topic][x.Partition] = max(0, x.Offset)
	}
	return nil
}

// query runs one of the queries under sql/. Times from and to have the query's unit.
func (r *run) query(ctx context.Context, table, sql, key string, partition int, from,
	to int64) (driver.Rows, error) {
	args := append(r.parameters(from, to), clickhouse.Named(key, uint16(partition)))
	rows, err := r.tables.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s from ClickHouse: %w", table, err)
	}
	return rows, nil
}

// parameters are those that all queries have: a span of times and the sites.
func (r *run) parameters(from, to int64) []any {
	sites := r.Sites
	if sites == nil {
		sites = []string{}
	}
	return []any{clickhouse.Named("from", from), clickhouse.Named("to", to),
		clickhouse.Named("sites", sites)}
}

// each calls scan on each row, and closes the rows.
func each(table string, rows driver.Rows, scan func() error) (err error) {
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	for err == nil && rows.Next() {
		err = scan()
	}
	if err == nil {
		err = rows.Err()
	}
	if err != nil {
		return fmt.Errorf("read %s from ClickHouse: %w", table, err)
	}
	return nil
}

// readExpired returns until when the rows of sites with a short retention have been deleted, ms.
func readExpired(ctx context.Context, db tables) (map[string]int64, error) {
	out := map[string]int64{}
	exists, err := hasTable(ctx, db, "expired")
	if err != nil || !exists {
		return nil, err
	}
	return out, scan(ctx, db, "the expired rows",
		"SELECT site, toUnixTimestamp64Milli(max(before)) FROM expired GROUP BY site",
		func(r driver.Rows) error {
			var site string
			var before int64
			err := r.Scan(&site, &before)
			out[site] = before
			return err
		})
}

// scan calls row on each row of a query's answer.
func scan(ctx context.Context, db tables, what, query string, row func(driver.Rows) error,
	args ...any) error {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("read %s from ClickHouse: %w", what, err)
	}
	return each(what, rows, func() error { return row(rows) })
}

// hasTable reports whether ClickHouse has a table: a database of an older version may lack it.
func hasTable(ctx context.Context, db tables, name string) (bool, error) {
	var exists uint8
	err := scan(ctx, db, "the list of tables", "EXISTS TABLE "+name,
		func(r driver.Rows) error { return r.Scan(&exists) })
	return exists != 0, err
}

// hasExpired reports whether a row of a time, ms, may be missing because its site keeps it no longer.
func (r *run) hasExpired(site string, at int64) bool { return at < r.expired[site] }

// includes reports whether the run covers a site.
func (c *Config) includes(site string) bool {
	return len(c.Sites) == 0 || slices.Contains(c.Sites, site)
}
