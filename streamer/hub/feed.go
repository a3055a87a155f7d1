package hub

import (
	"time"

	"nowcast/streamer/board"
	"nowcast/streamer/frame"
)

// Feed is what viewers with the same Key are given. The hub's lock guards it.
type Feed struct {
	hub   *Hub
	key   FeedKey
	sites []source
	sinks map[Sink]int // by viewers

	given int64     // the newest final second that its frames have
	sent  time.Time // of the newest frame
	heard time.Time // of that or the newest comment

	first map[int64]Snapshot // by the id's second, for as long as nothing changes
	apart map[[2]int64]Frame // by where a viewer is, for as long as given stands
}

// source is one site of a feed.
type source struct {
	*board.Site
	places board.ListMerger
	shown  glance
}

// glance is what a viewer sees of a site beside its final seconds.
type glance struct {
	visitors uint32
	open     board.Second
	lists    *board.Lists
}

// Frame is what a viewer is sent who has been given all seconds up to Prev; then those up to Given. One with both 0 is for everybody
// and gives nothing.
type Frame struct {
	After, Through int64
	Bytes          []byte // never changed
	CreatedAt      time.Time
}

// Snapshot is what a viewer is sent first.
type Snapshot struct {
	Feed    *Feed
	Bytes   []byte // never changed
	Through int64
}

// Resume says where a viewer was before.
type Resume struct {
	Requested  bool // there was a Last-Event-ID
	ID         frame.ID
	Valid      bool             // it could be read
	Gap        [][]board.Second // by site: final seconds after the id that the board may have no more
	GapThrough int64            // the last second that Gap tells of
}

func newFeed(h *Hub, k FeedKey) *Feed {
	f := &Feed{hub: h, key: k, sinks: map[Sink]int{}, given: k.Rate.boundary(h.board.LastFinal()), heard: h.now()}
	for _, name := range k.sites() {
		f.sites = append(f.sites, source{Site: h.board.Watch(name)})
	}
	for i := range f.sites {
		f.sites[i].shown = f.look(&f.sites[i], f.sites[i].Latest())
	}
	return f
}

// Rate is the feed's.
func (f *Feed) Rate() string { return f.key.Rate.Name }

func (f *Feed) unwatch() {
	for _, s := range f.sites {
		s.Unwatch()
	}
}

func (f *Feed) deliver(frames []Frame) {
	if len(frames) == 0 {
		return
	}
	for s := range f.sinks {
		s.Deliver(f, frames)
	}
}

// advance makes the frames that are due when all seconds up to final are final.
func (f *Feed) advance(final int64, now time.Time) (frames []Frame) {
	if final <= 0 {
		return nil
	}
	if f.given <= 0 { // the first seconds of a new log
		f.given = f.key.Rate.boundary(final - 1)
	}
	for f.given < final {
		to, skipped := f.given+1, uint32(0)
		switch behind := final - f.given; {
		case f.key.Rate.Seconds > 1:
			if to = f.key.Rate.boundary(f.given) + f.key.Rate.Seconds; to > final {
				return frames
			}
			if behind > board.SnapshotSeconds {
				to = f.key.Rate.boundary(final)
			}
		case behind > backlog:
			to, skipped = final, uint32(behind-1)
		}
		frames = append(frames, Frame{f.given, to, f.final(f.given, to, skipped, true), now})
		f.given, f.apart = to, nil
		f.sent, f.heard = now, now
	}
	return frames
}

// final makes the message that gives the seconds after prev and up to to, for each site. Only one for all viewers counts as shown: what one
// of them was told to catch up is still news to the others.
func (f *Feed) final(prev, to int64, skipped uint32, all bool) (b []byte) {
	for i := range f.sites {
		s := &f.sites[i]
		var v board.View
		if f.key.Rate.Seconds > 0 {
			v = s.AsOf(to)
		} else { // on change: this moment's, as the frames before and after it
			v = s.Latest()
			if all {
				f.show(s, v, to)
			}
		}
		b = frame.Message(b, "", f.id(i, prev, to, 0), f.frame(s, v, frame.Sum(s.Seconds(prev, to), prev+1, to), skipped))
	}
	return b
}

// show notes what the frame of final seconds up to to shows of a site. That a second isn't open any more is no news.
func (f *Feed) show(s *source, v board.View, to int64) {
	g := f.look(s, v)
	if s.shown.visitors, s.shown.lists = g.visitors, g.lists; s.shown.open.At <= to {
		s.shown.open = board.Second{}
	}
}

// id is that of the message of site i of a group of messages that gives all up to to.
func (f *Feed) id(i int, prev, to int64, revision uint32) frame.ID {
	if i < len(f.sites)-1 {
		return frame.ID{LastSecond: to, SentSites: i + 1, PrevSecond: prev}
	}
	return frame.ID{LastSecond: to, Revision: revision}
}

// frame is a view's, for the feed's filter.
func (f *Feed) frame(s *source, v board.View, second *frame.Second, skipped uint32) *frame.Frame {
	out := &frame.Frame{ActiveVisitors: v.ActiveVisitors, Timestamp: v.LogTime, Site: s.Name(), Filter: f.key.Filter, Second: second, Top: f.key.Top, Skipped: skipped}
	if d, ok := dimensions[f.key.Filter.Name]; ok {
		n, exact := v.VisitorsWith(d, f.key.ListValue)
		out.ActiveVisitors, out.UpperBound, out.Second = n, !exact, nil
	} else if f.key.Top > 0 {
		out.Lists = s.places.Merge(v)
	}
	return out
}

func (f *Feed) look(s *source, v board.View) glance {
	if d, ok := dimensions[f.key.Filter.Name]; ok {
		n, _ := v.VisitorsWith(d, f.key.ListValue)
		return glance{visitors: n}
	}
	g := glance{visitors: v.ActiveVisitors, open: v.Provisional}
	if f.key.Top > 0 {
		g.lists = s.places.Merge(v)
	}
	return g
}

// open makes the messages of sites that changed since the last frame, with the second that isn't final yet.
func (f *Feed) open(now time.Time) (frames []Frame) {
	for i := range f.sites {
		s := &f.sites[i]
		v := s.Latest()
		g := f.look(s, v)
		if g.open.At == 0 {
			g.open = s.shown.open // that a second isn't open any more is no news
		}
		if g == s.shown {
			continue
		}
		s.shown = g
		frames = append(frames, Frame{f.given, f.given, f.opened(s, v, f.given, 0), now})
		f.sent, f.heard = now, now
	}
	return frames
}

// opened is the message of a site's open second for who has all up to given.
func (f *Feed) opened(s *source, v board.View, given int64, skipped uint32) []byte {
	var second *frame.Second
	if v.Provisional.Events > 0 {
		second = &frame.Second{Second: v.Provisional}
	}
	out := f.frame(s, v, second, skipped)
	id := frame.ID{LastSecond: given}
	if out.Second != nil {
		id.Revision = out.Second.Revision
	}
	return frame.Message(nil, "", id, out)
}

// Cursor is where a viewer is: it has all seconds up to Given, and was not sent the Missed frames after that.
type Cursor struct {
	SentThrough int64
	Missed      uint32
}

// Next is what a viewer is to be sent when a frame comes, and moves its place: mostly that frame, nothing when it has it already, and one
// of its own when it is between two frames of a slow rate or fell behind.
func (f *Feed) Next(p *Cursor, fr *Frame) []byte {
	switch {
	case fr.Through == 0: // a comment
		return fr.Bytes
	case p.Missed > 0:
		p.Missed++
		return f.CatchUp(p)
	case p.SentThrough == fr.After || p.SentThrough <= 0:
		p.SentThrough = fr.Through
		return fr.Bytes
	case p.SentThrough >= fr.Through:
		return nil
	}
	return f.CatchUp(p)
}

// CatchUp is what brings a viewer to where the feed is, and moves its place there; nil when there is nothing to say.
func (f *Feed) CatchUp(p *Cursor) []byte {
	fr, ok := f.catchUp(p.SentThrough, p.Missed)
	p.Missed = 0
	if !ok {
		return nil
	}
	p.SentThrough = fr.Through
	return fr.Bytes
}

// catchUp makes the one frame that brings a viewer who has all up to given, and whom so many frames were not sent, to where the feed is.
// ok is false when there is nothing to say.
func (f *Feed) catchUp(given int64, missed uint32) (out Frame, ok bool) {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	if f.hub.closed {
		return Frame{}, false
	}
	skipped := max(missed, 1) - 1
	if span := f.key.Rate.Seconds; span > 0 && given < f.given { // exactly: those that end after given
		skipped = uint32((f.key.Rate.boundary(f.given)-f.key.Rate.boundary(given))/span) - 1 //nolint:gosec // a second's frames of a few minutes
	}
	at := [2]int64{given, int64(skipped)}
	if out, ok = f.apart[at]; ok {
		return out, true
	}
	now := f.hub.now()
	switch {
	case given < f.given:
		out = Frame{given, f.given, f.final(given, f.given, skipped, false), now}
	case missed > 0 && f.key.Rate.MinInterval > 0: // only numbers of the open second were missed: the newest, of each site
		out = Frame{After: given, Through: given, CreatedAt: now}
		for i := range f.sites {
			out.Bytes = append(out.Bytes, f.opened(&f.sites[i], f.sites[i].Latest(), given, skipped)...)
		}
		return out, true // of this moment only
	default:
		return Frame{}, false
	}
	if f.apart == nil {
		f.apart = map[[2]int64]Frame{}
	}
	if len(f.apart) < cached {
		f.apart[at] = out
	}
	return out, true
}

const cached = 256 // frames and snapshots that are kept for others at the same place

// begin makes what a viewer is sent first: the last five minutes, or what came after the id it shows. Where its stream broke between two
// sites' messages of the same seconds, the other sites' come first, so that all are at one second again.
func (f *Feed) begin(from Resume) Snapshot {
	final := f.hub.board.LastFinal()
	behind := len(f.sites) // the sites from here on were not given all that the id says
	if from.ID.SentSites > 0 {
		behind = min(behind, from.ID.SentSites)
	}
	held := final - board.RetainedSeconds // the seconds after it are on the board; it went on since the gap was asked for
	reaches := func(at int64) bool { return at == 0 || at >= held || len(from.Gap) > 0 && from.GapThrough >= held }
	at, reset := from.ID.LastSecond, false
	switch {
	case !from.Requested:
		at, behind = 0, len(f.sites)
	case !from.Valid || at > final+ahead || !reaches(at), behind < len(f.sites) && (at > final || !reaches(from.ID.PrevSecond)):
		at, behind, reset = 0, len(f.sites), true
	}
	place := at
	if reset {
		place = -1
	}
	alike := behind == len(f.sites) && (reset || len(from.Gap) == 0)
	if first, ok := f.first[place]; ok && alike {
		return first
	}
	first := Snapshot{Feed: f, Through: max(final, at)}
	if reset {
		first.Bytes = append(first.Bytes, "event: reset\ndata: {}\n\n"...)
	}
	if behind < len(f.sites) {
		first.Bytes = f.snapshots(first.Bytes, behind, from.ID.PrevSecond, at, at, from)
	}
	first.Bytes = f.snapshots(first.Bytes, 0, at, first.Through, final+ahead, from)
	if alike && len(f.first) < cached {
		if f.first == nil {
			f.first = map[int64]Snapshot{}
		}
		f.first[place] = first
	}
	return first
}

// snapshots adds those of the sites from one on that bring them from the second after (0: they have nothing yet) to another; what is open
// they show up to the second last.
func (f *Feed) snapshots(b []byte, site int, after, to, last int64, from Resume) []byte {
	final := f.hub.board.LastFinal()
	for i := site; i < len(f.sites); i++ {
		s, begin, seconds := &f.sites[i], after, []board.Second{}
		if begin == 0 {
			begin = final - board.SnapshotSeconds
		}
		if f.key.Filter.Name == "" {
			if i < len(from.Gap) && begin < from.GapThrough {
				for _, g := range from.Gap[i] {
					if g.At > begin && g.At <= min(from.GapThrough, last) {
						seconds = append(seconds, g)
					}
				}
				begin = from.GapThrough
			}
			for _, x := range s.Seconds(begin, last) {
				x.Final = x.Final && x.At <= to // the board may have gone on; what it made final since comes with the next frame
				seconds = append(seconds, x)
			}
		}
		b = frame.Message(b, "snapshot", f.id(i, after, to, 0), f.snapshot(s, seconds, min(final, to)))
	}
	return b
}

func (f *Feed) snapshot(s *source, seconds []board.Second, final int64) *frame.Frame {
	v := s.Latest()
	var newest *frame.Second
	if final > 0 {
		newest = frame.Sum(s.Seconds(final-1, final), final, final)
	}
	out := f.frame(s, v, newest, 0)
	out.Seconds = &seconds
	return out
}
