package push

import (
	"time"

	"golang.org/x/sys/unix"

	"nowcast/streamer/hub"
)

// deliver sends frames to all viewers of a feed. A viewer with a pending write misses them for now.
func (s *shard) deliver(o *op) {
	k, ok := s.viewers.groupIndex[o.feed]
	if !ok {
		return
	}
	g, entries, frames := &s.viewers.groups[k], s.viewers.entries, o.frames
	m, sent := s.engine.metrics, g.sent // the group may end with its last viewer
	m.age.Observe(time.Since(frames[0].CreatedAt).Seconds())
	for i := g.head; i != none && o.missed > 0; i = entries[i].next {
		entries[i].missed += o.missed
	}
	var total deliverTotals
	total.missed = o.missed * uint32(g.n) //nolint:gosec // counts
	for j := range frames {
		s.deliverFrame(g, &frames[j], &total)
		s.flush() // before the next frame, since a viewer has at most one message on its way
	}
	m.age.Observe(time.Since(frames[len(frames)-1].CreatedAt).Seconds())
	m.skipped.Add(float64(total.missed))
	m.conflated.Add(float64(total.conflated))
	sent.frames.Add(float64(total.frames))
	sent.bytes.Add(float64(total.bytes))
}

// deliverTotals are the sums that deliver adds to the metrics.
type deliverTotals struct {
	frames, bytes, conflated int
	missed                   uint32
}

// deliverFrame queues a frame for each viewer of a group that has no pending write.
func (s *shard) deliverFrame(g *group, fr *hub.Frame, total *deliverTotals) {
	heartbeat := fr.Through == 0
	feed := g.feed
	for i := g.head; i != none; {
		e := &s.viewers.entries[i]
		next := e.next
		b := fr.Bytes
		switch {
		case e.stalledAt != 0:
			if !heartbeat {
				e.missed++
				total.missed++
			}
			b = nil
		case e.sentThrough == fr.After && !heartbeat && e.missed == 0:
			e.sentThrough = fr.Through
		default:
			at := hub.Cursor{SentThrough: e.sentThrough, Missed: e.missed}
			b = feed.Next(&at, fr)
			if e.sentThrough, e.missed = at.SentThrough, at.Missed; b != nil && &b[0] != &fr.Bytes[0] {
				total.conflated++
			}
		}
		if b != nil {
			total.frames++
			total.bytes += len(b)
			s.queue(i, b)
		}
		i = next
	}
}

// queue sends to a viewer without a pending write: at once, or with the ring's next flush.
func (s *shard) queue(i int32, b []byte) {
	if s.ring == nil {
		s.send(i, b)
		return
	}
	s.ring.send(sendRequest{i, s.viewers.entries[i].fd, b})
}

// flush does all sends of the ring.
func (s *shard) flush() {
	if s.ring == nil {
		return
	}
	s.ring.flush()
	for _, f := range s.ring.failed {
		if f.err != nil {
			s.end(f.viewer, reasonGone)
		} else {
			s.stall(f.viewer, f.b[f.n:])
		}
	}
	clear(s.ring.failed)
	s.ring.failed = s.ring.failed[:0]
}

// send writes to a viewer without a pending write. A failure ends the viewer.
func (s *shard) send(i int32, b []byte) {
	n, err := write(s.viewers.entries[i].fd, b)
	switch {
	case err != nil:
		s.end(i, reasonGone)
	case n < len(b):
		s.stall(i, b[n:])
	}
}

// stall keeps what a viewer's connection didn't take, until epoll says that it takes more.
func (s *shard) stall(i int32, rest []byte) {
	s.engine.metrics.writeBlocks.Inc()
	s.pending[i] = rest
	s.viewers.entries[i].stalledAt = s.clock()
}

// resume goes on with a viewer's pending write. When that is done, one frame brings the viewer to where
// its feed is.
func (s *shard) resume(i int32) {
	e := &s.viewers.entries[i]
	n, err := write(e.fd, s.pending[i])
	if err != nil {
		s.end(i, reasonGone)
		return
	}
	if n > 0 {
		e.stalledAt = s.clock()
	}
	if rest := s.pending[i][n:]; len(rest) > 0 {
		s.pending[i] = rest
		return
	}
	delete(s.pending, i)
	e.stalledAt = 0
	if e.missed == 0 {
		return
	}
	g := &s.viewers.groups[e.group]
	at := hub.Cursor{SentThrough: e.sentThrough, Missed: e.missed}
	b := g.feed.CatchUp(&at)
	e.sentThrough, e.missed = at.SentThrough, at.Missed
	if b != nil {
		s.engine.metrics.conflated.Inc()
		g.sent.frames.Inc()
		g.sent.bytes.Add(float64(len(b)))
		s.send(i, b)
	}
}

// write is write(2) until b is written or the connection takes no more, which isn't an error.
func write(fd int32, b []byte) (n int, err error) {
	for n < len(b) {
		k, err := unix.Write(int(fd), b[n:])
		switch err {
		case nil:
			n += k
		case unix.EINTR:
		case unix.EAGAIN:
			return n, nil
		default:
			return n, err
		}
	}
	return n, nil
}
