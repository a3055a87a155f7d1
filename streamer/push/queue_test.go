package push

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"nowcast/streamer/hub"
)

// frames makes n frames that follow the one with the number after, created at a time in ms. Their
// numbers are in Through.
func frames(after, n int, ms int64) (out []hub.Frame) {
	for i := range int64(n) {
		prev := int64(after) + i
		out = append(out, hub.Frame{After: prev, Through: prev + 1, CreatedAt: time.UnixMilli(ms)})
	}
	return out
}

// heartbeat is a frame that isn't counted.
func heartbeat(ms int64) []hub.Frame { return []hub.Frame{{CreatedAt: time.UnixMilli(ms)}} }

// A queue holds a feed's frames up to a number and an age. Beyond them a thread's queue keeps the newest
// delivery's last frame, a handler's none, and both count the frames that they drop.
func TestQueueBounds(t *testing.T) {
	for _, row := range []struct {
		name           string
		deliveries     [][]hub.Frame
		opFrames       int
		opMissed       uint32
		handlerFrames  int
		handlerMissed  uint32
		lastFrameInOps int64
	}{
		{"one", [][]hub.Frame{frames(0, 1, 0)}, 1, 0, 1, 0, 1},
		{"full", [][]hub.Frame{frames(0, 60, 0), frames(60, 4, 1999)}, 64, 0, 64, 0, 64},
		{"too many", [][]hub.Frame{frames(0, 60, 0), frames(60, 5, 1999)}, 1, 64, 0, 65, 65},
		{"too many at once", [][]hub.Frame{frames(0, 90, 0)}, 90, 0, 90, 0, 90},
		{"too old", [][]hub.Frame{frames(0, 1, 0), frames(1, 1, 2000)}, 1, 1, 0, 2, 2},
		{"heartbeat", [][]hub.Frame{heartbeat(0), frames(0, 1, 2000)}, 1, 0, 0, 1, 1},
		{"after", [][]hub.Frame{frames(0, 1, 0), frames(1, 1, 2000), frames(2, 1, 2001)}, 2, 1, 1, 2, 3},
	} {
		feed := new(hub.Feed)
		q := newTestQueue(nil)
		h := &handler{wake: make(chan struct{}, 1)}
		for _, d := range row.deliveries {
			q.Deliver(feed, d)
			h.Deliver(feed, d)
		}
		ops := q.take()
		if len(ops) != 1 || len(ops[0].frames) != row.opFrames || ops[0].missed != row.opMissed {
			t.Errorf("%s: ops %+v", row.name, ops)
		} else if last := ops[0].frames[row.opFrames-1].Through; last != row.lastFrameInOps {
			t.Errorf("%s: the last frame is %d", row.name, last)
		}
		got, missed := h.take()
		if len(got) != row.handlerFrames || missed != row.handlerMissed || len(h.wake) != 1 {
			t.Errorf("%s: handler has %d frames, missed %d", row.name, len(got), missed)
		}
	}
}

func newTestQueue(notify func()) *opQueue {
	if notify == nil {
		notify = func() {}
	}
	return &opQueue{notify: notify, deliveries: map[*hub.Feed]int{}}
}

// Frames are merged into the op of their feed, unless a viewer joins the feed in between: its snapshot
// has the frames before, and not those after.
func TestQueueOrder(t *testing.T) {
	a, b := new(hub.Feed), new(hub.Feed)
	notified := 0
	q := newTestQueue(func() { notified++ })
	q.Deliver(a, frames(0, 1, 0))
	q.Deliver(b, frames(0, 1, 0))
	q.Deliver(a, frames(1, 1, 0))
	q.put(op{kind: opJoin, join: &pendingJoin{snapshot: hub.Snapshot{Feed: a}}})
	q.Deliver(a, frames(2, 1, 0))
	q.Deliver(b, frames(1, 1, 0))
	var got []string
	for _, o := range q.take() {
		name := map[*hub.Feed]string{a: "a", b: "b", nil: "join"}[o.feed]
		got = append(got, name+strconv.Itoa(len(o.frames)))
	}
	if want := []string{"a2", "b2", "join0", "a1"}; !slices.Equal(got, want) || notified != 1 {
		t.Errorf("%v, notified %d times", got, notified)
	}
	q.Deliver(a, frames(3, 1, 0))
	if ops := q.stop(); len(ops) != 1 || notified != 2 {
		t.Errorf("%d ops are left, notified %d times", len(ops), notified)
	}
	if q.Deliver(a, frames(4, 1, 0)); q.put(op{kind: opEndAll}) || len(q.take()) != 0 || notified != 2 {
		t.Error("a queue that has stopped takes an op")
	}
}

// The frames of one delivery belong to all sinks: a queue that appends to them copies them.
func TestQueueCopiesFrames(t *testing.T) {
	feed := new(hub.Feed)
	shared := append(make([]hub.Frame, 0, 8), frames(0, 1, 0)...)
	one, two := newTestQueue(nil), newTestQueue(nil)
	one.Deliver(feed, shared)
	two.Deliver(feed, shared)
	one.Deliver(feed, frames(1, 1, 0))
	two.Deliver(feed, frames(7, 1, 0))
	if through := one.take()[0].frames[1].Through; through != 2 {
		t.Errorf("frame %d", through)
	}
}

// An authorization has one number for as long as a viewer refers to it. No number is used twice, and the
// table holds only what is in use.
func TestAuthorizationTable(t *testing.T) {
	var c authorizationTable
	a, b := c.acquire("a"), c.acquire("b")
	if a == b || c.acquire("a") != a {
		t.Fatal(a, b)
	}
	refuseAll := func(string) bool { return false }
	c.release(a)
	ids := c.revoked(refuseAll)
	if slices.Sort(ids); !slices.Equal(ids, []int64{a, b}) {
		t.Errorf("%v are revoked", ids)
	}
	c.release(a)
	if ids := c.revoked(refuseAll); !slices.Equal(ids, []int64{b}) {
		t.Errorf("%v are revoked", ids)
	}
	third := c.acquire("c")
	if third == a || third == b || len(c.byID) != 2 || len(c.ids) != 2 {
		t.Errorf("c has number %d of %d", third, len(c.byID))
	}
	if ids := c.revoked(func(text string) bool { return text != "c" }); !slices.Equal(ids, []int64{third}) {
		t.Errorf("%v are revoked", ids)
	}
}
