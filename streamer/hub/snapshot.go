package hub

import (
	"nowcast/streamer/board"
	"nowcast/streamer/frame"
)

// Snapshot is the first thing that a viewer is sent.
type Snapshot struct {
	Feed    *Feed
	Bytes   []byte // shared by viewers; nobody may write to it
	Through int64  // newest final second in it, unix
}

// Resume is where a viewer's stream was before.
type Resume struct {
	Requested  bool // the request has a Last-Event-ID
	Valid      bool // ID was parsed from it
	ID         frame.ID
	Gap        [][]board.Second // by site: final seconds after ID, from history
	GapThrough int64            // last second that Gap covers
}

// resumePoint is where a snapshot begins.
type resumePoint struct {
	after  int64 // second that the viewer has; 0: none
	behind int   // the sites from this index on are at ID.PrevSecond instead; len(sites): none is
	reset  bool  // the viewer has to forget what it has
}

// snapshot makes what a viewer is sent first: the last board.SnapshotSeconds, or what came after its id.
// Where its stream broke between two sites' messages of the same seconds, the messages of the other
// sites come first, so that all sites are at one second again.
func (f *Feed) snapshot(from Resume) Snapshot {
	lastFinal := f.hub.board.LastFinal()
	p := f.resumePoint(from, lastFinal)
	key := p.after
	if p.reset {
		key = -1
	}
	shared := p.behind == len(f.sites) && (p.reset || len(from.Gap) == 0)
	if s, ok := f.snapshots[key]; ok && shared && s.Through >= lastFinal {
		return s
	}
	s := Snapshot{Feed: f, Through: max(lastFinal, p.after)}
	if p.reset {
		s.Bytes = append(s.Bytes, "event: reset\ndata: {}\n\n"...)
	}
	if p.behind < len(f.sites) {
		prev := from.ID.PrevSecond
		s.Bytes = f.appendSnapshots(s.Bytes, p.behind, snapshotRange{prev, p.after, p.after}, from)
	}
	s.Bytes = f.appendSnapshots(s.Bytes, 0, snapshotRange{p.after, s.Through, lastFinal + maxIDLead}, from)
	if shared && len(f.snapshots) < maxCached {
		if f.snapshots == nil {
			f.snapshots = map[int64]Snapshot{}
		}
		f.snapshots[key] = s
	}
	return s
}

// resumePoint decides whether the board and the gap hold all seconds after a viewer's id; otherwise the
// viewer begins again.
func (f *Feed) resumePoint(from Resume, lastFinal int64) resumePoint {
	all, id := len(f.sites), from.ID
	if !from.Requested {
		return resumePoint{behind: all}
	}
	behind := all
	if id.SentSites > 0 {
		behind = min(all, id.SentSites)
	}
	oldest := lastFinal - board.RetainedSeconds // the board may have moved on since the gap was read
	available := func(second int64) bool {
		return second == 0 || second >= oldest || len(from.Gap) > 0 && from.GapThrough >= oldest
	}
	switch {
	case !from.Valid, id.LastSecond > lastFinal+maxIDLead, !available(id.LastSecond):
		return resumePoint{behind: all, reset: true}
	case behind < all && (id.LastSecond > lastFinal || !available(id.PrevSecond)):
		return resumePoint{behind: all, reset: true}
	}
	return resumePoint{after: id.LastSecond, behind: behind}
}

// snapshotRange is the seconds after after (0: all on the board) and up to last. Those up to through may
// be final.
type snapshotRange struct{ after, through, last int64 }

// appendSnapshots appends a snapshot message for each site from the index site on.
func (f *Feed) appendSnapshots(b []byte, site int, r snapshotRange, from Resume) []byte {
	lastFinal := f.hub.board.LastFinal()
	for i := site; i < len(f.sites); i++ {
		s, after, seconds := &f.sites[i], r.after, []board.Second{}
		if after == 0 {
			after = lastFinal - board.SnapshotSeconds
		}
		if f.key.Filter.Name == "" {
			if i < len(from.Gap) && after < from.GapThrough {
				for _, x := range from.Gap[i] {
					if x.At > after && x.At <= min(from.GapThrough, r.last) {
						seconds = append(seconds, x)
					}
				}
				after = from.GapThrough
			}
			for _, x := range s.Seconds(after, r.last) {
				// A second that became final meanwhile comes as final with the next frame.
				x.Final = x.Final && x.At <= r.through
				seconds = append(seconds, x)
			}
		}
		out := f.snapshotFrame(s, seconds, min(lastFinal, r.through))
		b = frame.Message(b, "snapshot", f.id(i, r.after, r.through, 0), out)
	}
	return b
}

// snapshotFrame is a site's latest state with seconds and, as its second, the newest final one.
func (f *Feed) snapshotFrame(s *feedSite, seconds []board.Second, lastFinal int64) *frame.Frame {
	v := s.Latest()
	var newest *frame.Second
	if lastFinal > 0 {
		newest = frame.Sum(s.Seconds(lastFinal-1, lastFinal), lastFinal, lastFinal)
		newest.Incomplete = s.Incomplete(lastFinal-1, lastFinal)
	}
	out := f.frame(s, v, newest, 0)
	out.Seconds = &seconds
	out.Cut = f.hub.board.CutSince(lastFinal - board.SnapshotSeconds)
	return out
}
