// Package exporter streams the events of a site, whole and with bounded memory.
//
// An export is a statement for some hours after the other, in the order in which ClickHouse keeps the rows,
// so that nothing is sorted or held. A client that disconnects ends it. A client that reads too slowly is
// disconnected, since its statement holds a connection of ClickHouse.
package exporter

import (
	"bufio"
	"context"
	"embed"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

//go:embed sql/*.sql
var files embed.FS

// database is the part of ClickHouse's client that is used here. It is implemented by warehouse.DB.
type database interface {
	Query(ctx context.Context, query string, args ...any) (driver.Rows, error)
}

// authorizer decides who may read what. Its errors say what to do.
type authorizer interface {
	RequireAdmin(c *gin.Context, fail func(*gin.Context, error)) bool
}

// sites is the registry of sites. It is implemented by site.Registry.
type sites interface {
	Lookup(domain string) (site.Site, bool)
}

// Config has the limits of exports.
type Config struct {
	Concurrent int           // exports at a time; 0: 2
	Rows       int           // of a statement, unless an hour has more; 0: 50,000
	Patience   time.Duration // in which a client has to take the rows of a statement; 0: 10 min
	Memory     uint64        // bytes of a statement; 0: 512 MB
}

func (c *Config) setDefaults() {
	if c.Concurrent == 0 {
		c.Concurrent = 2
	}
	if c.Rows == 0 {
		c.Rows = 50_000
	}
	if c.Patience == 0 {
		c.Patience = 10 * time.Minute
	}
	if c.Memory == 0 {
		c.Memory = 512 << 20
	}
}

// Handlers are the HTTP handlers of exports.
type Handlers struct {
	cfg    Config
	db     database // nil: there is no ClickHouse
	sites  sites
	access authorizer
	log    *slog.Logger
	fail   func(*gin.Context, error)
	slots  chan struct{} // has the exports that run
	now    func() time.Time
}

// NewHandlers makes the handlers; fail answers with an error. Without a database nothing can be exported.
func NewHandlers(cfg Config, db database, sites sites, access authorizer, log *slog.Logger,
	fail func(*gin.Context, error)) *Handlers {
	cfg.setDefaults()
	return &Handlers{cfg: cfg, db: db, sites: sites, access: access, log: log, fail: fail,
		slots: make(chan struct{}, cfg.Concurrent), now: time.Now}
}

// GetExport is GET /api/v1/sites/{domain}/export. It needs an admin key: docs/privacy.md promises that all
// others see counts and never single visits.
func (h *Handlers) GetExport(c *gin.Context, domain string, p api.GetExportParams) {
	if !h.access.RequireAdmin(c, h.fail) {
		return
	}
	domain, err := site.Domain(domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	st, ok := h.sites.Lookup(domain)
	if !ok {
		h.fail(c, fmt.Errorf("site %s: %w", domain, site.ErrNotFound))
		return
	}
	e, err := h.newExport(st, p)
	if err != nil {
		api.Refuse(c, http.StatusBadRequest, "%v", err)
		return
	}
	if h.db == nil {
		api.RefuseUnavailable(c, "this streamer has no ClickHouse; start it with --clickhouse")
		return
	}
	select {
	case h.slots <- struct{}{}:
	default:
		api.RefuseTemporarily(c, http.StatusTooManyRequests,
			"%d exports run already, which is the most; try again when one is done", h.cfg.Concurrent)
		return
	}
	defer func() { <-h.slots }()
	h.stream(c, e)
}

// export is one export.
type export struct {
	site     string
	since    time.Time // rows from before are a former site's, or have expired
	from, to time.Time // days
	encoding encoding
}

// newExport reads the parameters of a request.
func (h *Handlers) newExport(st site.Site, p api.GetExportParams) (*export, error) {
	e := &export{site: st.Domain, from: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC),
		to: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), since: h.now().AddDate(0, 0, -st.Retention())}
	if created := st.Created.Truncate(time.Second); !st.Previous.IsZero() && e.since.Before(created) {
		e.since = created
	}
	if p.From != nil {
		e.from = p.From.Time
	}
	if p.To != nil {
		e.to = p.To.Time
	}
	if e.to.Before(e.from) {
		return nil, fmt.Errorf("to is before from")
	}
	format := api.Ndjson
	if p.Format != nil {
		format = *p.Format
	}
	var ok bool
	if e.encoding, ok = encodings[format]; !ok {
		return nil, fmt.Errorf("format is none of those that there are: csv, ndjson and parquet")
	}
	return e, nil
}

// span is some hours of which an export has rows.
type span struct {
	first, last uint32 // the begin of the first and the last hour
	rows        uint64
}

// stream answers with the events. An error after the first row breaks the connection, so that the client
// can't take a part for the whole.
func (h *Handlers) stream(c *gin.Context, e *export) {
	ctx := c.Request.Context()
	spans, err := h.spans(ctx, e)
	if err != nil {
		h.fail(c, err)
		return
	}
	c.Header("Content-Type", e.encoding.contentType)
	name := e.site + "-events." + e.encoding.extension
	c.Header("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	c.Header("Cache-Control", "no-store")
	c.Status(http.StatusOK)
	out := bufio.NewWriterSize(c.Writer, 64<<10)
	rows := e.encoding.start(out)
	numbers := newNumbers()
	conn := http.NewResponseController(c.Writer)
	abort := func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) } // the next write, or one that waits, fails
	for _, s := range spans {
		if err = h.copy(ctx, e, s, numbers, rows, abort); err != nil {
			break
		}
	}
	if err == nil {
		if err = rows.end(); err == nil {
			err = out.Flush()
		}
	}
	switch {
	case err == nil:
		return
	case !c.Writer.Written():
		c.Header("Content-Disposition", "")
		h.fail(c, err)
		return
	case ctx.Err() == nil:
		h.log.Warn("an export was broken off", "site", e.site, "error", err)
	}
	abort() // the server can't end the response any more, and closes the connection
	c.Abort()
}

// spans divides the hours that have rows.
func (h *Handlers) spans(ctx context.Context, e *export) (spans []span, err error) {
	rows, err := h.query(ctx, "hours", e)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	for rows.Next() {
		var hour uint32
		var n uint64
		if err := rows.Scan(&hour, &n); err != nil {
			return nil, fmt.Errorf("read the hours of an export: %w", err)
		}
		if i := len(spans) - 1; i >= 0 && spans[i].rows+n <= uint64(h.cfg.Rows) { //nolint:gosec // positive
			spans[i].last = hour
			spans[i].rows += n
		} else {
			spans = append(spans, span{hour, hour, n})
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the hours of an export: %w", err)
	}
	return spans, nil
}

// copy writes the events of a span. When the client hasn't taken them in time, it calls abort and ends with
// an error.
func (h *Handlers) copy(ctx context.Context, e *export, s span, numbers *numbers, to rowWriter,
	abort func()) error {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Patience)
	defer cancel()
	defer context.AfterFunc(ctx, abort)()
	rows, err := h.query(ctx, "events", e, clickhouse.Named("first", s.first),
		clickhouse.Named("last", s.last))
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	var r row
	for rows.Next() {
		if err := rows.Scan(r.pointers()...); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		r.visitor, r.user = numbers.of(r.visitor), numbers.of(r.user)
		if err := to.write(&r); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("the client reads too slowly: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return nil
}

func (h *Handlers) query(ctx context.Context, name string, e *export, more ...any) (driver.Rows, error) {
	sql, err := files.ReadFile("sql/" + name + ".sql")
	if err != nil {
		return nil, fmt.Errorf("read statement: %w", err)
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"max_threads": 1, "max_memory_usage": h.cfg.Memory, "priority": 20, "readonly": 2,
		"cancel_http_readonly_queries_on_client_close": 1, "max_block_size": 8192,
		"do_not_merge_across_partitions_select_final": 1,
	}))
	args := append([]any{clickhouse.Named("site", e.site), clickhouse.Named("since", e.since.UnixMilli()),
		clickhouse.Named("from", e.from.Format(time.DateOnly)),
		clickhouse.Named("to", e.to.Format(time.DateOnly))}, more...)
	rows, err := h.db.Query(ctx, string(sql), args...)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return rows, nil
}
