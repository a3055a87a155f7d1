package history

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/streamer/api"
)

// WindowSecond is a final second of a site as the live view showed it.
type WindowSecond struct {
	At                                    int64 // Unix seconds
	Pageviews, Visitors, Events, Revision uint32
}

// streams is the principal of the gaps of streams, so that viewers who reconnect take no slots of a key or
// the public.
var streams = api.Principal{ID: "\x00streams"}

// Seconds returns the seconds of a site in (from, to] that had events, in order; the bounds are in Unix
// seconds. Viewers need them who were away for longer than the live view holds seconds. Errors are those of
// Run.
func (e *Engine) Seconds(ctx context.Context, domain string, from, to int64) (out []WindowSecond, err error) {
	err = e.admit(ctx, streams, func(ctx context.Context) error {
		out, err = e.seconds(ctx, domain, from, to)
		return err
	})
	return out, err
}

func (e *Engine) seconds(ctx context.Context, domain string, from, to int64) (out []WindowSecond, err error) {
	stmt, err := execute("seconds.sql", nil)
	if err != nil {
		return nil, err
	}
	stmt.bind("site", domain)
	stmt.bind("from", from)
	stmt.bind("to", to)
	err = e.db.run(ctx, stmt, func(rows driver.Rows) error {
		var at uint32
		var views, visitors, events, revision uint64
		if err := rows.Scan(&at, &views, &visitors, &events, &revision); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		//nolint:gosec // the live view has the same sums as uint32
		s := WindowSecond{int64(at), uint32(views), uint32(visitors), uint32(events), uint32(revision)}
		out = append(out, s)
		return nil
	})
	return out, err
}
