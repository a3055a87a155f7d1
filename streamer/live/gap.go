package live

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
	"nowcast/streamer/board"
	"nowcast/streamer/frame"
	"nowcast/streamer/hub"
)

const (
	maxGap     = time.Hour       // the longest absence that history fills
	gapTimeout = 3 * time.Second // of the requests to Kafka and ClickHouse for one gap
)

// history answers with the seconds of a site in (from, to] that had events, in order. The bounds are in Unix
// seconds.
type history interface {
	Seconds(ctx context.Context, domain string, from, to int64) ([]board.Second, error)
}

// gapFiller finds the seconds that a returning viewer has missed: the board holds the newest, history may
// hold the rest.
type gapFiller struct {
	kafka   *broker.Client
	history history // nil: there is none
	metrics *metrics
	log     *slog.Logger
	flights singleflight.Group // see committed
}

// resume reads the ID of the last message that a viewer received. If the board no longer holds all seconds
// since then, history fills the gap, as long as it spans at most maxGap and history has all of it.
func (g *gapFiller) resume(
	ctx context.Context, b *board.Board, lastID string, k hub.FeedKey, domains []string, lives []board.Life,
) hub.Resume {
	r := hub.Resume{Requested: true}
	r.ID, r.Valid = frame.ParseID(lastID)
	for i, l := range lives {
		if l.MixedUntil != 0 && min(r.ID.LastSecond, cmp.Or(r.ID.SiteSecond(i), r.ID.LastSecond)) < l.Since {
			r.Valid = false // it is of the former site
		}
	}
	if !r.Valid || k.Filter.Name != "" {
		return r
	}
	if b.CutAfter(r.ID.LastSecond) { // the viewer may have seen other seconds than there are
		r.Valid = false
		return r
	}
	final := b.LastFinal()
	boardStart := final - board.SnapshotSeconds // the board holds the seconds after it
	from := r.ID.LastSecond
	for i := range domains {
		if sent := r.ID.SiteSecond(i); sent > 0 {
			from = min(from, sent)
		}
	}
	if from >= boardStart || from < final-int64(maxGap/time.Second) || g.history == nil {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, gapTimeout)
	defer cancel()
	seconds, err := g.readSeconds(ctx, b, domains, lives, from, boardStart)
	g.metrics.gaps.WithLabelValues(gapResult(err)).Inc()
	if err != nil {
		g.log.Debug("fill gap", "error", err)
		return r
	}
	r.Gap, r.GapThrough = seconds, boardStart
	return r
}

func gapResult(err error) string {
	if err != nil {
		return "reset"
	}
	return "filled"
}

// readSeconds returns the seconds in (from, to] of each site.
func (g *gapFiller) readSeconds(
	ctx context.Context, b *board.Board, domains []string, lives []board.Life, from, to int64,
) ([][]board.Second, error) {
	if err := g.checkStored(ctx, b, to); err != nil {
		return nil, err
	}
	out := make([][]board.Second, len(domains))
	for i, domain := range domains {
		var err error
		since := max(from, lives[i].Since-1)
		if out[i], err = g.history.Seconds(ctx, domain, since, to); err != nil {
			return nil, fmt.Errorf("read seconds: %w", err)
		}
	}
	return out, nil
}

// checkStored returns an error unless ClickHouse has every row up to a final second. The aggregator's store
// lane commits an offset after ClickHouse has acknowledged the rows before it.
func (g *gapFiller) checkStored(ctx context.Context, b *board.Board, second int64) error {
	passed := b.WatermarkOffsets(second)
	committed, err := g.committed(ctx, len(passed))
	if err != nil {
		return fmt.Errorf("read offsets of the store lane: %w", err)
	}
	for _, x := range committed {
		if offset := passed[x.Partition]; offset < 0 || x.Offset <= offset {
			return fmt.Errorf("ClickHouse lacks seconds of partition %d", x.Partition)
		}
	}
	return nil
}

// committed returns what the store lane has committed of n partitions. Viewers that return at the same
// moment share one request to Kafka, so its deadline is independent of any of them.
func (g *gapFiller) committed(ctx context.Context, n int) ([]broker.Position, error) {
	all, err, _ := g.flights.Do(strconv.Itoa(n), func() (any, error) {
		partitions := make([]int, n)
		for p := range partitions {
			partitions[p] = p
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gapTimeout)
		defer cancel()
		return g.kafka.Committed(ctx, topic.Group("store"), partitions, topic.Windows)
	})
	if err != nil {
		return nil, err
	}
	return all.([]broker.Position), nil
}
