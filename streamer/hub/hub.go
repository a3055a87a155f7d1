// Package hub makes the frames of the live stream. Viewers with the same FeedKey share the bytes of each
// frame, and a site that nobody watches costs nothing.
//
// The consecutive frames of a feed hold every final second once. Frames at rates of a second and slower
// are the same bytes on every instance. A viewer that is behind gets one catch-up frame: its sums are
// those of the frames it missed, and it says how many these were.
package hub

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"nowcast/streamer/board"
)

// HeartbeatInterval is the longest time in which a feed writes nothing. Then its viewers get an SSE
// comment, so that proxies keep the connection open and clients notice a broken one.
const HeartbeatInterval = 15 * time.Second

const (
	// maxBacklog is the number of final seconds that a feed sends one by one. More of them come in one
	// frame.
	maxBacklog = 60

	// maxIDLead is the number of seconds by which an id may be ahead of this instance. Such an id comes
	// from an instance that reads the log faster; one that is further ahead is invalid.
	maxIDLead = 15
)

var (
	// ErrClosed says that the hub's Run has ended: the log was recreated or the process stops.
	ErrClosed = errors.New("the live stream restarts")
	// ErrBehind says that a stream broke between the messages of a second that this instance hasn't read
	// yet.
	ErrBehind = errors.New("this instance is a few seconds behind the previous one")
)

// Sink delivers frames to its viewers. Deliver must not block and must not call the hub.
type Sink interface {
	Deliver(*Feed, []Frame)
}

// Hub makes the frames of all feeds from one board. It is safe for concurrent use.
type Hub struct {
	board *board.Board
	now   func() time.Time

	// heartbeat ticks every second while there are feeds.
	heartbeat *time.Ticker

	mu       sync.Mutex
	closed   bool
	feeds    map[FeedKey]*Feed
	feedsOf  map[*board.Site][]*Feed
	deferred map[*Feed]struct{} // feeds that changed before their MinInterval was over
}

// New makes a hub of a board; Run makes the frames.
func New(b *board.Board) *Hub {
	h := &Hub{
		board: b, now: time.Now, heartbeat: time.NewTicker(heartbeatTick),
		feeds: map[FeedKey]*Feed{}, feedsOf: map[*board.Site][]*Feed{}, deferred: map[*Feed]struct{}{},
	}
	h.heartbeat.Stop()
	return h
}

// Run makes frames as the board changes, until ctx ends. After that Join fails with ErrClosed.
func (h *Hub) Run(ctx context.Context) {
	defer h.close()
	deferred := time.NewTimer(time.Hour)
	defer deferred.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.board.Changed():
			h.deliverChanges()
		case <-deferred.C:
			h.deliverDeferred()
		case <-h.heartbeat.C:
			h.deliverHeartbeats()
		}
		deferred.Reset(h.untilDeferred())
	}
}

func (h *Hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.heartbeat.Stop()
	for _, f := range h.feeds {
		f.unwatch()
	}
	h.feeds, h.feedsOf, h.deferred = nil, nil, nil
}

// deliverChanges brings all feeds to where the board is.
func (h *Hub) deliverChanges() {
	h.mu.Lock()
	defer h.mu.Unlock()
	lastFinal, changed := h.board.TakeChanges()
	now := h.now()
	for _, f := range h.feeds {
		f.snapshots = nil
		f.deliver(f.finalFrames(lastFinal, now))
	}
	for _, s := range changed {
		for _, f := range h.feedsOf[s] {
			h.deliverProvisional(f, now)
		}
	}
}

// deliverProvisional delivers the changes of a feed whose rate is on change, or defers them to the end
// of its MinInterval.
func (h *Hub) deliverProvisional(f *Feed, now time.Time) {
	if f.key.Rate.MinInterval == 0 {
		return
	}
	if now.Before(f.due()) {
		h.deferred[f] = struct{}{}
		return
	}
	delete(h.deferred, f)
	f.deliver(f.provisionalFrames(now))
}

func (h *Hub) deliverDeferred() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	for f := range h.deferred {
		h.deliverProvisional(f, now)
	}
}

// untilDeferred is the time until the first deferred feed is due; an hour when there is none.
func (h *Hub) untilDeferred() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	wait, now := time.Hour, h.now()
	for f := range h.deferred {
		wait = min(wait, f.due().Sub(now))
	}
	return max(wait, 0)
}

const heartbeatTick = time.Second // between two looks for feeds that need a heartbeat

// deliverHeartbeats sends a comment to the viewers of every feed that wrote nothing for
// HeartbeatInterval.
func (h *Hub) deliverHeartbeats() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	for _, f := range h.feeds {
		if now.Sub(f.lastWriteAt) >= HeartbeatInterval {
			f.lastWriteAt = now
			f.deliver([]Frame{{Bytes: []byte(": hb\n\n"), CreatedAt: now}})
		}
	}
}

// Join adds a viewer of a sink and calls begin with its snapshot. All that the feed delivers after begin
// has returned is for the viewer too. Each successful Join needs one Leave. The error is ErrClosed or
// ErrBehind.
func (h *Hub) Join(k FeedKey, from Resume, s Sink, begin func(Snapshot)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	lead := from.ID.LastSecond - h.board.LastFinal()
	if from.Valid && from.ID.SentSites > 0 && lead > 0 && lead <= maxIDLead {
		return ErrBehind
	}
	f, ok := h.feeds[k]
	if !ok {
		f = newFeed(h, k)
		if len(h.feeds) == 0 {
			h.heartbeat.Reset(heartbeatTick)
		}
		h.feeds[k] = f
		for _, s := range f.sites {
			h.feedsOf[s.Site] = append(h.feedsOf[s.Site], f)
		}
	}
	f.viewersBySink[s]++
	begin(f.snapshot(from))
	return nil
}

// leave removes a viewer of a sink from a feed, and the feed with its last viewer.
func (h *Hub) leave(f *Feed, s Sink) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.viewersBySink[s]--; f.viewersBySink[s] <= 0 {
		delete(f.viewersBySink, s)
	}
	if h.closed || len(f.viewersBySink) > 0 {
		return
	}
	delete(h.feeds, f.key)
	if len(h.feeds) == 0 {
		h.heartbeat.Stop()
	}
	delete(h.deferred, f)
	for _, s := range f.sites {
		remaining := slices.DeleteFunc(h.feedsOf[s.Site], func(other *Feed) bool { return other == f })
		if h.feedsOf[s.Site] = remaining; len(remaining) == 0 {
			delete(h.feedsOf, s.Site)
		}
	}
	f.unwatch()
}
