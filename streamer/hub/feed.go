package hub

import (
	"time"

	"nowcast/streamer/board"
	"nowcast/streamer/frame"
)

// Feed makes the frames of the viewers with one FeedKey. The hub's lock guards its fields.
type Feed struct {
	hub           *Hub
	key           FeedKey
	sites         []feedSite
	viewersBySink map[Sink]int // number of the feed's viewers of each sink

	sentThrough int64 // newest final second in any frame
	lastFrameAt time.Time
	lastWriteAt time.Time // of the newest frame or heartbeat

	snapshots map[int64]Snapshot   // by the second that they follow; until the board changes
	catchUps  map[catchUpKey]Frame // until sentThrough moves
}

// maxCached bounds each of the maps snapshots and catchUps. When one is full, further values are made
// for each viewer.
const maxCached = 256

// catchUpKey is the cursor of a viewer that is behind.
type catchUpKey struct {
	sentThrough int64
	skipped     uint32
}

// feedSite is one site of a feed.
type feedSite struct {
	*board.Site
	life  board.Life
	lists board.ListMerger
	sent  siteState // as of the newest frame
}

// Latest, AsOf and Seconds are those of the board without what a former site of the domain has left there.

func (s *feedSite) Latest() board.View { return s.OwnLatest(s.life) }

func (s *feedSite) AsOf(second int64) board.View { return s.Own(s.Site.AsOf(second), s.life, second) }

func (s *feedSite) Seconds(after, through int64) []board.Second {
	return s.Site.Seconds(max(after, s.life.Since-1), through)
}

// siteState is what viewers see of a site besides its final seconds.
type siteState struct {
	activeVisitors uint32
	provisional    board.Second
	lists          *board.Lists
}

// Frame holds the seconds after After and up to Through for viewers that have been sent all up to After.
// A heartbeat has 0 in both and is for every viewer.
type Frame struct {
	After, Through int64
	Bytes          []byte // shared by all viewers; nobody may write to it
	CreatedAt      time.Time
}

// Cursor is how far a viewer is in its feed: it has been sent all seconds up to SentThrough, and not the
// Missed frames after that.
type Cursor struct {
	SentThrough int64
	Missed      uint32
}

func newFeed(h *Hub, k FeedKey) *Feed {
	f := &Feed{
		hub: h, key: k, viewersBySink: map[Sink]int{},
		sentThrough: k.Rate.boundary(h.board.LastFinal()), lastWriteAt: h.now(),
	}
	for i, name := range k.sites() {
		f.sites = append(f.sites, feedSite{Site: h.board.Watch(name), life: k.life(i)})
	}
	for i := range f.sites {
		f.sites[i].sent = f.state(&f.sites[i], f.sites[i].Latest())
	}
	return f
}

// Rate is the name of the feed's rate.
func (f *Feed) Rate() string { return f.key.Rate.Name }

// Leave undoes one Hub.Join. The feed ends with its last viewer.
func (f *Feed) Leave(s Sink) { f.hub.leave(f, s) }

func (f *Feed) unwatch() {
	for _, s := range f.sites {
		s.Unwatch()
	}
}

func (f *Feed) deliver(frames []Frame) {
	if len(frames) == 0 {
		return
	}
	for s := range f.viewersBySink {
		s.Deliver(f, frames)
	}
}

// due is the earliest time of the next frame on change.
func (f *Feed) due() time.Time { return f.lastFrameAt.Add(f.key.Rate.MinInterval) }

// finalFrames makes the frames that are due when all seconds up to lastFinal are final.
func (f *Feed) finalFrames(lastFinal int64, now time.Time) (frames []Frame) {
	if lastFinal <= 0 {
		return nil
	}
	if f.sentThrough <= 0 {
		// Nothing was final when these viewers joined, and several seconds may be now: they get all of them.
		s := f.snapshot(Resume{})
		f.sentThrough, f.catchUps = f.key.Rate.boundary(s.Through), nil
		f.lastFrameAt, f.lastWriteAt = now, now
		frames = append(frames, Frame{0, s.Through, s.Bytes, now})
	}
	for f.sentThrough < lastFinal {
		through, skipped := f.sentThrough+1, uint32(0)
		switch behind := lastFinal - f.sentThrough; {
		case f.key.Rate.Seconds > 1:
			if through = f.key.Rate.boundary(f.sentThrough) + f.key.Rate.Seconds; through > lastFinal {
				return frames
			}
			if behind > board.SnapshotSeconds {
				through = f.key.Rate.boundary(lastFinal)
			}
		case behind > maxBacklog:
			through, skipped = lastFinal, uint32(behind-1)
		}
		b := f.finalMessages(f.sentThrough, through, skipped, true)
		frames = append(frames, Frame{f.sentThrough, through, b, now})
		f.sentThrough, f.catchUps = through, nil
		f.lastFrameAt, f.lastWriteAt = now, now
	}
	return frames
}

// finalMessages makes one message for each site, with the sums of the seconds after after and up to
// through. Only a frame for all viewers changes what counts as sent: the state in one viewer's catch-up
// frame is still news to the others.
func (f *Feed) finalMessages(after, through int64, skipped uint32, forAll bool) (b []byte) {
	for i := range f.sites {
		s := &f.sites[i]
		var v board.View
		if f.key.Rate.Seconds > 0 {
			v = s.AsOf(through)
		} else { // at a rate on change every frame has the latest state
			v = s.Latest()
			if forAll {
				f.markSent(s, v, through)
			}
		}
		sum := frame.Sum(s.Seconds(after, through), after+1, through)
		sum.Incomplete = s.Incomplete(after, through) // also where no event came
		b = frame.Message(b, "", f.id(i, after, through, 0), f.frame(s, v, sum, skipped))
	}
	return b
}

// markSent records the state of a site in the frame of the seconds up to through. A provisional second
// that becomes final needs no frame of its own, so it doesn't count as a change.
func (f *Feed) markSent(s *feedSite, v board.View, through int64) {
	state := f.state(s, v)
	s.sent.activeVisitors, s.sent.lists = state.activeVisitors, state.lists
	if s.sent.provisional.At <= through {
		s.sent.provisional = board.Second{}
	}
}

// id is the id of site i's message in a group of messages that ends with the second through. Only the
// last message of a group says that all sites have it.
func (f *Feed) id(i int, after, through int64, revision uint32) frame.ID {
	if i < len(f.sites)-1 {
		return frame.ID{LastSecond: through, SentSites: i + 1, PrevSecond: after}
	}
	return frame.ID{LastSecond: through, Revision: revision}
}

// frame makes the frame of a view, for the feed's filter.
func (f *Feed) frame(s *feedSite, v board.View, second *frame.Second, skipped uint32) *frame.Frame {
	out := &frame.Frame{
		ActiveVisitors: v.ActiveVisitors, Timestamp: v.LogTime, Site: s.Name(), Filter: f.key.Filter,
		Second: second, Top: f.key.Top, Skipped: skipped, Incomplete: v.Incomplete,
	}
	if d, ok := f.key.dimension(); ok {
		n, exact := v.VisitorsWith(d, f.key.ListValue)
		out.ActiveVisitors, out.UpperBound, out.Second = n, !exact, nil
	} else if f.key.Top > 0 {
		out.Lists = s.lists.Merge(v)
	}
	return out
}

func (f *Feed) state(s *feedSite, v board.View) siteState {
	if d, ok := f.key.dimension(); ok {
		n, _ := v.VisitorsWith(d, f.key.ListValue)
		return siteState{activeVisitors: n}
	}
	state := siteState{activeVisitors: v.ActiveVisitors, provisional: v.Provisional}
	if f.key.Top > 0 {
		state.lists = s.lists.Merge(v)
	}
	return state
}

// provisionalFrames makes one frame for each site that changed since the last one.
func (f *Feed) provisionalFrames(now time.Time) (frames []Frame) {
	for i := range f.sites {
		s := &f.sites[i]
		v := s.Latest()
		state := f.state(s, v)
		if state.provisional.At == 0 {
			state.provisional = s.sent.provisional // see markSent
		}
		if state == s.sent {
			continue
		}
		s.sent = state
		b := f.provisionalMessage(s, v, f.sentThrough, 0)
		frames = append(frames, Frame{f.sentThrough, f.sentThrough, b, now})
		f.lastFrameAt, f.lastWriteAt = now, now
	}
	return frames
}

// provisionalMessage is a site's latest state, for viewers that have been sent all seconds up to
// sentThrough.
func (f *Feed) provisionalMessage(s *feedSite, v board.View, sentThrough int64, skipped uint32) []byte {
	var second *frame.Second
	if v.Provisional.Events > 0 {
		second = &frame.Second{Second: v.Provisional}
	}
	out := f.frame(s, v, second, skipped)
	id := frame.ID{LastSecond: sentThrough}
	if out.Second != nil {
		id.Revision = out.Second.Revision
	}
	return frame.Message(nil, "", id, out)
}

// Next returns what a viewer is to be sent when fr comes, and advances its cursor: usually fr, nil when
// the viewer already has it, or a catch-up frame when the viewer missed frames or is between two frames
// of a slow rate.
func (f *Feed) Next(c *Cursor, fr *Frame) []byte {
	switch {
	case fr.Through == 0: // a heartbeat
		return fr.Bytes
	case c.Missed > 0:
		c.Missed++
		return f.CatchUp(c)
	case c.SentThrough == fr.After || c.SentThrough <= 0:
		c.SentThrough = fr.Through
		return fr.Bytes
	case c.SentThrough >= fr.Through:
		return nil
	}
	return f.CatchUp(c)
}

// CatchUp returns the one frame that brings a viewer to where the feed is, and advances its cursor to
// there. It returns nil when the viewer lacks nothing.
func (f *Feed) CatchUp(c *Cursor) []byte {
	fr, ok := f.catchUpFrame(*c)
	c.Missed = 0
	if !ok {
		return nil
	}
	c.SentThrough = fr.Through
	return fr.Bytes
}

func (f *Feed) catchUpFrame(c Cursor) (fr Frame, ok bool) {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	if f.hub.closed {
		return Frame{}, false
	}
	skipped := max(c.Missed, 1) - 1 // the catch-up frame stands for one of them
	if n := f.key.Rate.Seconds; n > 0 && c.SentThrough < f.sentThrough {
		// Exact where the rate says which frames there were: those that end after the cursor.
		spans := (f.key.Rate.boundary(f.sentThrough) - f.key.Rate.boundary(c.SentThrough)) / n
		skipped = uint32(spans) - 1 //nolint:gosec // frames of a few minutes
	}
	key := catchUpKey{c.SentThrough, skipped}
	if fr, ok = f.catchUps[key]; ok {
		return fr, true
	}
	now := f.hub.now()
	switch {
	case c.SentThrough <= 0 && f.sentThrough > 0: // it missed the first ones; see finalFrames
		s := f.snapshot(Resume{})
		return Frame{0, s.Through, s.Bytes, now}, true
	case c.SentThrough < f.sentThrough:
		b := f.finalMessages(c.SentThrough, f.sentThrough, skipped, false)
		fr = Frame{c.SentThrough, f.sentThrough, b, now}
	case c.Missed > 0 && f.key.Rate.MinInterval > 0:
		// It missed provisional frames only. The state of this moment isn't cached.
		fr = Frame{After: c.SentThrough, Through: c.SentThrough, CreatedAt: now}
		for i := range f.sites {
			s := &f.sites[i]
			fr.Bytes = append(fr.Bytes, f.provisionalMessage(s, s.Latest(), c.SentThrough, skipped)...)
		}
		return fr, true
	default:
		return Frame{}, false
	}
	if f.catchUps == nil {
		f.catchUps = map[catchUpKey]Frame{}
	}
	if len(f.catchUps) < maxCached {
		f.catchUps[key] = fr
	}
	return fr, true
}
