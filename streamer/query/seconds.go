package query

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// WindowSecond is a final second of a site as the live stream showed it.
type WindowSecond struct {
	At                                    int64 // unix
	Pageviews, Visitors, Events, Revision uint32
}

// streams is who asks for the gaps of streams: a crowd that comes back takes nobody's places.
const streams Asker = "\x00streams"

// Seconds answers with the seconds of a site after from and up to to that had events, in order. It is for streams that were away for
// longer than the live windows are kept. Errors are as in Run.
func (e *Engine) Seconds(ctx context.Context, domain string, from, to int64) (out []WindowSecond, err error) {
	err = e.answer(ctx, streams, func(ctx context.Context) error {
		out, err = e.seconds(ctx, domain, from, to)
		return err
	})
	return out, err
}

func (e *Engine) seconds(ctx context.Context, domain string, from, to int64) (out []WindowSecond, err error) {
	var sql bytes.Buffer
	if err := statements.ExecuteTemplate(&sql, "seconds.sql", nil); err != nil {
		return nil, fmt.Errorf("write statement: %w", err)
	}
	stmt := statement{sql: sql.String()}
	stmt.bind("site", domain)
	stmt.bind("from", from)
	stmt.bind("to", to)
	err = e.ask(ctx, stmt, func(rows driver.Rows) error {
		var at uint32
		var views, visitors, events, revision uint64
		if err := rows.Scan(&at, &views, &visitors, &events, &revision); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		out = append(out, WindowSecond{int64(at), uint32(views), uint32(visitors), uint32(events), uint32(revision)}) //nolint:gosec // sums of uint32 that the live view has too
		return nil
	})
	return out, err
}
