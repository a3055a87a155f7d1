package history

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// querier is the part of warehouse.DB that the engine uses.
type querier interface {
	Query(ctx context.Context, query string, args ...any) (driver.Rows, error)
}

// client runs statements within the limits of Config.
type client struct {
	db  querier
	cfg Config
	// nil until the server has been asked for its number of threads
	settings atomic.Pointer[clickhouse.Settings]
}

func newClient(db querier, cfg Config) *client {
	c := &client{db: db, cfg: cfg}
	if cfg.Threads > 0 {
		c.setSettings(cfg.Threads, false)
	}
	return c
}

// maxResult exceeds the rows of every statement: each has a limit of its own, or one row a minute.
const maxResult = 20_000

// setSettings fixes the settings of every statement. With nice, its threads have the lowest scheduling
// priority; the server must have CAP_SYS_NICE for that.
func (c *client) setSettings(threads int, nice bool) {
	s := clickhouse.Settings{
		"max_execution_time": int(math.Ceil(c.cfg.Timeout.Seconds())),
		"max_memory_usage":   c.cfg.Memory,
		"max_rows_to_read":   c.cfg.Rows,
		"max_result_rows":    maxResult,
		"max_threads":        threads,
		"priority":           10, // statements with a smaller number go first
		// Over HTTP, a statement ends when its client disconnects; with the native protocol it always does.
		"cancel_http_readonly_queries_on_client_close": 1,
		"readonly": 2,
		// Rows with the same key have the same time, and so are in the same partition.
		"do_not_merge_across_partitions_select_final": 1,
		"enable_named_columns_in_function_tuple":      1,
	}
	if nice {
		s["os_threads_nice_value_query"] = 19
	}
	c.settings.Store(&s)
}

// statementSettings returns the settings of every statement. The first call asks the server, which may be
// another machine, how many threads it uses for one statement, and whether it knows
// os_threads_nice_value_query.
func (c *client) statementSettings(ctx context.Context) (clickhouse.Settings, error) {
	if s := c.settings.Load(); s != nil {
		return *s, nil
	}
	sql, err := files.ReadFile("sql/machine.sql")
	if err != nil {
		return nil, fmt.Errorf("read statement: %w", err)
	}
	var threads, nice uint64
	scan := func(r driver.Rows) error { return r.Scan(&threads, &nice) }
	if err := c.query(ctx, nil, statement{sql: string(sql)}, scan); err != nil {
		return nil, err
	}
	c.setSettings(int(max(1, threads)), nice > 0)
	return *c.settings.Load(), nil
}

// run runs one statement and calls scan for each of its rows. Its errors have the types of errors.go.
func (c *client) run(ctx context.Context, s statement, scan func(driver.Rows) error) error {
	settings, err := c.statementSettings(ctx)
	if err == nil {
		err = c.query(ctx, settings, s, scan)
	}
	return classify(err)
}

func (c *client) query(
	ctx context.Context, settings clickhouse.Settings, s statement, scan func(driver.Rows) error,
) (err error) {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	rows, err := c.db.Query(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), s.sql, s.args...)
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

// alive reports whether ClickHouse answers. It checks the time limit of a statement only between blocks, and
// one block of a heavy statement may exceed it: then the server is up, and the same query would fail
// again.
func (c *client) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return c.query(ctx, nil, statement{sql: "SELECT 1"}, func(driver.Rows) error { return nil }) == nil
}
