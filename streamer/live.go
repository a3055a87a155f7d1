package streamer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
	"nowcast/streamer/api"
	"nowcast/streamer/board"
	"nowcast/streamer/frame"
	"nowcast/streamer/hub"
	"nowcast/streamer/push"
	"nowcast/streamer/query"
)

const (
	maxSites = 50              // of one stream
	maxGap   = time.Hour       // that history fills for a viewer who comes back
	gapTime  = 3 * time.Second // for history to fill it
)

// StreamEvents is GET /api/events: it finds out who may see what, and hands the viewer over.
func (s *Service) StreamEvents(c *gin.Context, p api.StreamEventsParams) {
	key, ok := keyOf(c, p)
	if !ok {
		return
	}
	var names []string
	if p.Site != nil {
		names = *p.Site
	}
	if len(names) == 0 {
		names = []string{""}
	}
	var g rights
	h := c.Writer.Header()
	origins := make([]string, 0, len(names))
	shown := sync.OnceValue(func() []grant { return s.shown(c.Request) })
	for _, name := range names {
		h.Del(allowOrigin)
		st, a, ok := s.granted(c, name, shown)
		if !ok {
			return
		}
		origins = append(origins, h.Get(allowOrigin))
		if !slices.Contains(g.domains, st.Domain) {
			g.domains, g.by = append(g.domains, st.Domain), append(g.by, a)
		}
	}
	allow(h, origins)
	key.Sites = hub.JoinSites(g.domains)
	l := s.live.Load()
	if ready, reason := s.Ready(); l == nil || !ready {
		busy(c, "the live windows are not read yet (%s)", reason)
		return
	}
	seat, err := s.seats.take(c.ClientIP(), g.by)
	if err != nil {
		s.metrics.refused.WithLabelValues("limit").Inc()
		busy(c, "%v", err)
		return
	}
	v := push.Viewer{Feed: key, Credential: g.String(), Slot: seat,
		Deadline: time.Now().Add(time.Duration(float64(s.cfg.Lifetime) * (0.9 + 0.2*rand.Float64())))} //nolint:gosec // jitter, no secret
	last := ""
	if p.LastEventID != nil { // the header of a browser that reconnects is newer than the query it began with
		last = *p.LastEventID
	} else if p.LastEventId != nil {
		last = *p.LastEventId
	}
	if last != "" {
		v.Resume = s.resume(c.Request.Context(), l.board, last, key, g.domains)
	}
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	switch err := s.push.Serve(c.Writer, c.Request, l.hub, v); {
	case err == nil:
	case errors.Is(err, hub.ErrClosed), errors.Is(err, hub.ErrBehind):
		busy(c, "%v", err)
	default: // the connection was taken and can't be answered any more
		s.log.Warn("can't serve a viewer", "error", err)
	}
	c.Abort()
}

const allowOrigin = "Access-Control-Allow-Origin"

// allow lets a page read a stream of several sites if it may read each.
func allow(h http.Header, origins []string) {
	slices.Sort(origins) // "" comes first, then "*"
	h.Del(allowOrigin)
	if origins[0] != "" {
		h.Set(allowOrigin, origins[len(origins)-1])
	}
}

// keyOf reads what a stream is to show; it refuses what can't be meant.
func keyOf(c *gin.Context, p api.StreamEventsParams) (k hub.FeedKey, ok bool) {
	k.Top = 10
	name := "1s"
	if p.Rate != nil {
		name = string(*p.Rate)
	}
	if k.Rate, ok = hub.ParseRate(name); !ok {
		refuse(c, http.StatusBadRequest, "rate has to be one of 100ms, 250ms, 1s, 5s, 30s")
		return k, false
	}
	if p.Top != nil {
		if k.Top = *p.Top; k.Top < 0 || k.Top > 100 {
			refuse(c, http.StatusBadRequest, "top has to be 0 to 100")
			return k, false
		}
	}
	for _, f := range []struct {
		name  string
		value *string
	}{{"page", p.Page}, {"source", p.Source}, {"country", p.Country}, {"device", p.Device}} {
		switch {
		case f.value == nil:
		case *f.value == "" || len(*f.value) > 2048:
			refuse(c, http.StatusBadRequest, "%s has to have 1 to 2048 bytes", f.name)
			return k, false
		case k.Filter.Name != "":
			refuse(c, http.StatusBadRequest, "give one of page, source, country and device: the live lists know no combinations; history does")
			return k, false
		default:
			k.Filter, k.ListValue = frame.Filter{Name: f.name, Value: *f.value}, *f.value
			if f.name == "source" && *f.value == query.Direct { // who came directly has none
				k.ListValue = ""
			}
		}
	}
	if k.Filter.Name != "" {
		k.Top = 0 // a filtered stream has no lists
	}
	if p.Site != nil && len(*p.Site) > maxSites {
		refuse(c, http.StatusBadRequest, "a stream has at most %d sites; open another one for the others", maxSites)
		return k, false
	}
	return k, true
}

// resume reads where a viewer was. What the board has no more, history tells, if that is not too much and it has it all.
func (s *Service) resume(ctx context.Context, b *board.Board, last string, k hub.FeedKey, domains []string) hub.Resume {
	r := hub.Resume{Requested: true}
	if r.ID, r.Valid = frame.ParseID(last); !r.Valid || k.Filter.Name != "" {
		return r
	}
	final := b.LastFinal()
	held, from := final-board.SnapshotSeconds, r.ID.LastSecond
	for i := range domains {
		if was := r.ID.SiteSecond(i); was > 0 {
			from = min(from, was)
		}
	}
	if from >= held || from < final-int64(maxGap/time.Second) || s.past == nil {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, gapTime)
	defer cancel()
	gap, err := s.gap(ctx, b, domains, from, held)
	s.metrics.gaps.WithLabelValues(outcome(err)).Inc()
	if err != nil {
		s.log.Debug("fill gap", "error", err)
		return r
	}
	r.Gap, r.GapThrough = gap, held
	return r
}

func outcome(err error) string {
	if err != nil {
		return "reset"
	}
	return "filled"
}

// gap asks history for the seconds after from and up to to.
func (s *Service) gap(ctx context.Context, b *board.Board, domains []string, from, to int64) ([][]board.Second, error) {
	if err := s.stored(ctx, b, to); err != nil {
		return nil, err
	}
	out := make([][]board.Second, len(domains))
	for i, domain := range domains {
		seconds, err := s.past.Seconds(ctx, domain, from, to)
		if err != nil {
			return nil, fmt.Errorf("read seconds: %w", err)
		}
		for _, x := range seconds {
			out[i] = append(out[i], board.Second{At: x.At, Pageviews: x.Pageviews, Visitors: x.Visitors, Events: x.Events, Revision: x.Revision, Final: true})
		}
	}
	return out, nil
}

// stored says whether everything up to a final second is in ClickHouse: what the aggregator's store lane has committed is.
func (s *Service) stored(ctx context.Context, b *board.Board, second int64) error {
	passed := b.WatermarkOffsets(second)
	all, err := s.committed(ctx, len(passed))
	if err != nil {
		return fmt.Errorf("ask how far ClickHouse is: %w", err)
	}
	for _, x := range all {
		if at := passed[x.Partition]; at < 0 || x.Offset <= at {
			return fmt.Errorf("ClickHouse lacks seconds of partition %d", x.Partition)
		}
	}
	return nil
}

// committed is what the store lane has committed of so many partitions; a crowd that comes back at once asks Kafka once.
func (s *Service) committed(ctx context.Context, n int) ([]broker.Position, error) {
	all, err, _ := s.asking.Do(strconv.Itoa(n), func() (any, error) {
		partitions := make([]int, n)
		for p := range partitions {
			partitions[p] = p
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gapTime) // it isn't only the first one's
		defer cancel()
		return s.kafka.Committed(ctx, topic.Group("store"), partitions, topic.Windows)
	})
	if err != nil {
		return nil, err
	}
	return all.([]broker.Position), nil
}

// busy is an honest "not now": a browser comes back by itself, others are told when to.
func busy(c *gin.Context, format string, args ...any) {
	if !browser(c.Request) {
		unavailable(c, format+"; try again in a moment", args...)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.Header("X-Accel-Buffering", "no")
	c.Data(http.StatusOK, "text/event-stream", fmt.Appendf(nil, "retry: %d\n\n: %s\n\n", 3000+rand.IntN(5000), //nolint:gosec // jitter, no secret
		strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")))
	c.Abort()
}

// browser says whether an EventSource of a browser asks, for which any status but 200 is the end.
func browser(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Mode") != "" || strings.HasPrefix(r.UserAgent(), "Mozilla/")
}

// rights are by what a viewer reads each of its sites.
type rights struct {
	domains []string
	by      []access
}

// String is what the push engine keeps as the viewer's grant.
func (g rights) String() string {
	var b strings.Builder
	for i, domain := range g.domains {
		fmt.Fprintf(&b, "%s\t%d\t%d\t%s\n", domain, g.by[i].kind, g.by[i].until, g.by[i].id)
	}
	return b.String()
}

// stillHolds says whether such a text lets a viewer read all of its sites at this moment.
func (s *Service) stillHolds(text string) bool {
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4)
		var a access
		if _, err := fmt.Sscan(parts[1]+" "+parts[2], &a.kind, &a.until); err != nil {
			return false
		}
		if a.id = parts[3]; !s.holds(a, parts[0]) {
			return false
		}
	}
	return true
}
