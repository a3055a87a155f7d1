package push

import (
	"slices"
	"sync"
	"time"

	"nowcast/streamer/hub"
)

// Bounds of the frames that wait for a thread or a handler. Beyond them viewers get the newest state
// instead.
const (
	maxQueuedFrames = 64
	maxQueuedAge    = 2 * time.Second
)

// fits reports whether more frames may wait behind those that already do.
func fits(waiting, more []hub.Frame) bool {
	if len(waiting) == 0 {
		return true
	}
	age := more[0].CreatedAt.Sub(waiting[0].CreatedAt)
	return len(waiting)+len(more) <= maxQueuedFrames && age < maxQueuedAge
}

// countFrames counts frames without heartbeats.
func countFrames(frames []hub.Frame) (n uint32) {
	for i := range frames {
		if frames[i].Through != 0 {
			n++
		}
	}
	return n
}

type opKind uint8

const (
	opDeliver opKind = iota // frames of a feed
	opJoin                  // a new viewer
	opRevoke                // end the streams of an authorization
	opEndAll                // end all streams
	opEndOne                // end one stream, to drain
	opStop                  // end all streams and the thread
)

// op is one step of a shard's thread.
type op struct {
	kind          opKind
	feed          *hub.Feed
	frames        []hub.Frame
	missed        uint32 // frames before these that no viewer was sent
	authorization int64
	join          *pendingJoin
}

// pendingJoin is a viewer whose connection was taken from net/http and who has not been written to yet.
type pendingJoin struct {
	fd       int
	head     []byte
	snapshot hub.Snapshot
	viewer   Viewer
}

// opQueue holds the steps of a shard's thread, in order. It is the hub.Sink of the shard's viewers.
// Frames of one feed that wait are merged into one op, so that a thread that falls behind keeps at most
// maxQueuedFrames for each feed.
type opQueue struct {
	notify func() // wakes the thread up; called when an op enters the empty queue

	mu         sync.Mutex
	ops        []op
	deliveries map[*hub.Feed]int // index in ops of the feed's opDeliver that further frames join
	stopped    bool
}

// put appends an op; it reports false when the thread has ended.
func (q *opQueue) put(o op) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return false
	}
	if o.join != nil { // the snapshot comes before all frames that its feed delivers from now on
		delete(q.deliveries, o.join.snapshot.Feed)
	}
	q.add(o)
	return true
}

func (q *opQueue) add(o op) {
	if q.ops = append(q.ops, o); len(q.ops) == 1 {
		q.notify()
	}
}

// Deliver queues a feed's frames for the shard's viewers.
func (q *opQueue) Deliver(f *hub.Feed, frames []hub.Frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return
	}
	at, ok := q.deliveries[f]
	if !ok {
		q.deliveries[f] = len(q.ops)
		q.add(op{kind: opDeliver, feed: f, frames: frames})
		return
	}
	o := &q.ops[at]
	if fits(o.frames, frames) {
		o.frames = append(slices.Clip(o.frames), frames...)
		return
	}
	last := len(frames) - 1
	o.missed += countFrames(o.frames) + countFrames(frames[:last])
	o.frames = frames[last:]
}

// take removes and returns all ops.
func (q *opQueue) take() []op {
	q.mu.Lock()
	defer q.mu.Unlock()
	ops := q.ops
	q.ops = nil
	clear(q.deliveries)
	return ops
}

// stop refuses all further ops, calls notify no more, and returns the ops that are left.
func (q *opQueue) stop() []op {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	ops := q.ops
	q.ops = nil
	return ops
}
