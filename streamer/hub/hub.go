// Package hub makes the frames of the live stream: each once for all viewers who get the same (see Key), and none for a site that nobody
// watches.
//
// It promises that the frames of a feed, one after the other, hold every final second once; that those at rates of a second and slower
// are the same bytes on every instance; and that whoever is behind can have what they miss in one frame whose sums are those of what was
// left out, which says how many frames that were.
package hub

import (
	"context"
	"errors"
	"sync"
	"time"

	"nowcast/streamer/board"
)

// HeartbeatInterval is how long a feed is silent before viewers get a comment.
const HeartbeatInterval = 15 * time.Second

const (
	backlog = 60 // final seconds at once, beyond which they come in one frame
	ahead   = 15 // seconds that an id may be ahead of this instance, which then is only behind another
)

var (
	// ErrClosed is of a hub whose Run has ended: the log began anew or the process ends.
	ErrClosed = errors.New("the live windows begin anew")
	// ErrBehind is for a stream that broke between the messages of a second which this instance has not yet.
	ErrBehind = errors.New("this instance is some seconds behind the one before")
)

// Sink is what brings frames to viewers of its own. Deliver must not block and must not call the hub.
type Sink interface {
	Deliver(*Feed, []Frame)
}

// Hub is safe for concurrent use.
type Hub struct {
	board *board.Board
	now   func() time.Time

	mu     sync.Mutex
	closed bool
	feeds  map[FeedKey]*Feed
	of     map[*board.Site][]*Feed
	late   map[*Feed]struct{} // on change, and held back by their pace
}

// New makes a hub; Run works it.
func New(b *board.Board) *Hub {
	return &Hub{board: b, now: time.Now, feeds: map[FeedKey]*Feed{}, of: map[*board.Site][]*Feed{}, late: map[*Feed]struct{}{}}
}

// Run makes frames as the board changes, until ctx ends.
func (h *Hub) Run(ctx context.Context) {
	defer h.close()
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	paced := time.NewTimer(time.Hour)
	defer paced.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.board.Changed():
			h.take()
		case <-paced.C:
			h.catchPace()
		case <-beat.C:
			h.beat()
		}
		paced.Reset(h.nextDue())
	}
}

func (h *Hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, f := range h.feeds {
		f.unwatch()
	}
	h.feeds, h.of, h.late = nil, nil, nil
}

// take brings all feeds to where the board is.
func (h *Hub) take() {
	h.mu.Lock()
	defer h.mu.Unlock()
	final, changed := h.board.TakeChanges()
	now := h.now()
	for _, f := range h.feeds {
		f.first = nil
		f.deliver(f.advance(final, now))
	}
	for _, s := range changed {
		for _, f := range h.of[s] {
			h.change(f, now)
		}
	}
}

// change gives what changed in a feed on change, or marks it to be given when its pace allows.
func (h *Hub) change(f *Feed, now time.Time) {
	if f.key.Rate.MinInterval == 0 {
		return
	}
	if now.Before(f.sent.Add(f.key.Rate.MinInterval)) {
		h.late[f] = struct{}{}
		return
	}
	delete(h.late, f)
	f.deliver(f.open(now))
}

func (h *Hub) catchPace() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	for f := range h.late {
		h.change(f, now)
	}
}

// nextDue is how long until the first of those that are held back may go on.
func (h *Hub) nextDue() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	wait, now := time.Hour, h.now()
	for f := range h.late {
		wait = min(wait, f.sent.Add(f.key.Rate.MinInterval).Sub(now))
	}
	return max(wait, 0)
}

// beat has silent feeds say that they are there.
func (h *Hub) beat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	for _, f := range h.feeds {
		if now.Sub(f.heard) >= HeartbeatInterval {
			f.heard = now
			f.deliver([]Frame{{Bytes: comment, CreatedAt: now}})
		}
	}
}

var comment = []byte(": hb\n\n")

// Join adds a viewer of a sink and calls begin with what it is to be given first; whatever the feed delivers after begin has returned
// is for it too. For each Join there has to be one Leave.
func (h *Hub) Join(k FeedKey, from Resume, s Sink, begin func(Snapshot)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if final := h.board.LastFinal(); from.Valid && from.ID.SentSites > 0 && final < from.ID.LastSecond && from.ID.LastSecond <= final+ahead {
		return ErrBehind
	}
	f, ok := h.feeds[k]
	if !ok {
		f = newFeed(h, k)
		h.feeds[k] = f
		for _, s := range f.sites {
			h.of[s.Site] = append(h.of[s.Site], f)
		}
	}
	f.sinks[s]++
	begin(f.begin(from))
	return nil
}

// Leave takes a viewer away; a feed without viewers is forgotten.
func (f *Feed) Leave(s Sink) {
	h := f.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.sinks[s]--; f.sinks[s] <= 0 {
		delete(f.sinks, s)
	}
	if h.closed || len(f.sinks) > 0 {
		return
	}
	delete(h.feeds, f.key)
	delete(h.late, f)
	for _, s := range f.sites {
		left := h.of[s.Site][:0]
		for _, other := range h.of[s.Site] {
			if other != f {
				left = append(left, other)
			}
		}
		if h.of[s.Site] = left; len(left) == 0 {
			delete(h.of, s.Site)
		}
	}
	f.unwatch()
}
