package fold

import (
	"slices"

	"nowcast/internal/window"
)

// The lanes.
const (
	windowsLane = iota
	storeLane
	lanes
)

// position is what an owner commits.
type position struct {
	offset    int   // of the next envelope
	watermark int64 // there
	tail      int   // of the store lane: how much of the windows topic is stored
}

// record is one write: an emission of the windows lane or a batch of the store lane.
type record struct {
	seconds   []window.Second
	nows      []window.Now
	watermark int64 // of the windows lane: everything before it is final and in this record or before it
	raws      []raw
	stored    []window.Second // rows of the table `windows`
}

// owner is an instance that believes to own the partition in one lane. It takes the steps of the lanes of
// package aggregator one at a time: read, collect what is pending, write it until it is acknowledged,
// commit.
type owner struct {
	trial *trial
	lane  int
	tape  tape
	next  int // envelope to be read
	tail  int // record of the windows topic to be read

	windows Windows
	reader  *Classifier
	finals  []window.Second // pending
	raws    []raw
	stored  []window.Second
	last    int // how many of raws came from the last envelope
	// the newest version of each row that was collected; of a site's lists by second -1
	versions         map[place]uint64
	emittedWatermark int64
	warm             bool // reading in silence, until the watermark is at until
	until            int64

	sending       []record // not acknowledged yet
	reaches, done position // after it, and without it
	committable   bool     // done was reached by this owner
}

// newOwner starts at the log's start. An owner of the windows lane has both stages, one of the store lane
// only the first.
func newOwner(t *trial, lane int) *owner {
	o := &owner{trial: t, lane: lane, tape: tape{log: t.log}, versions: map[place]uint64{},
		emittedWatermark: None}
	if lane == windowsLane {
		o.windows = NewWindows(t.rules)
		o.reader = o.windows.Classifier
	} else {
		o.reader = NewClassifier(t.rules)
	}
	return o
}

// warmUp reads the warm-up before c, from the first record of its time on.
func (o *owner) warmUp(head int, c position) {
	from := head
	if c.watermark != None {
		for from < c.offset && o.tape.log[from].Time < c.watermark-o.trial.warmUp {
			from++
		}
	}
	o.warm, o.until = true, c.watermark
	for o.next = from; o.next < c.offset; {
		o.read()
	}
	o.warm = false
	o.finals, o.raws, o.stored, o.last = nil, nil, nil, 0
	o.tail, o.reaches, o.done = c.tail, c, c
}

// read applies the next envelope.
func (o *owner) read() {
	if o.next == len(o.tape.log) {
		return
	}
	e := o.tape.at(o.next)
	o.next++
	if o.lane == windowsLane {
		var finals []window.Second
		if o.warm {
			finals, _ = o.windows.Warm(e, o.until+o.trial.lazy)
		} else {
			finals, _ = o.windows.Apply(e)
		}
		o.finals = append(o.finals, finals...)
		return
	}
	rows, _ := judge(o.reader, e)
	o.raws, o.last = append(o.raws, rows...), len(rows)
}

// follow reads the next record of the windows topic: the store lane keeps its final rows.
func (o *owner) follow(topic [][]window.Second) {
	if o.lane == storeLane && o.tail < len(topic) {
		o.stored = append(o.stored, topic[o.tail]...)
		o.tail++
	}
}

// collect moves what is pending into up to parts records, of which only the last carries the new watermark.
// It does nothing while records are unacknowledged. It returns a key whose version hasn't risen, or nil.
func (o *owner) collect(parts int, clock int64) (bad *place) {
	if len(o.sending) > 0 || o.next == 0 {
		return nil
	}
	o.reaches = position{o.next, o.reader.Watermark(), o.tail}
	all := record{watermark: None, seconds: o.finals, raws: o.raws, stored: o.stored}
	o.finals, o.raws, o.stored = nil, nil, nil
	if half := o.last / 2; o.trial.inside && half > 0 {
		// A mutation: the rest of the last envelope is written with the next batch, and the commit doesn't
		// wait for it.
		cut := len(all.raws) - half
		all.raws, o.raws = all.raws[:cut], slices.Clone(all.raws[cut:])
	}
	o.last = 0
	rises := func(p place, version uint64) {
		if version <= o.versions[p] {
			bad = &p
		}
		o.versions[p] = version
	}
	if o.lane == windowsLane {
		all.watermark = o.reader.Watermark()
		o.windows.Fold.Provisional(func(s *window.Second) { all.seconds = append(all.seconds, *s) })
		var n window.Now
		o.windows.Fold.Lists(clock, o.trial.pace, &n, func() {
			c := n
			c.Pages, c.Sources, c.Countries, c.Devices = slices.Clone(n.Pages), slices.Clone(n.Sources),
				slices.Clone(n.Countries), slices.Clone(n.Devices)
			all.nows = append(all.nows, c)
			rises(place{n.Site, -1}, n.Version)
		})
	}
	for i := range all.seconds {
		rises(placeOf(&all.seconds[i]), all.seconds[i].Version)
	}
	for ; parts > 1; parts-- {
		some, rows, stored := len(all.seconds)/parts, len(all.raws)/parts, len(all.stored)/parts
		o.sending = append(o.sending, record{seconds: all.seconds[:some], raws: all.raws[:rows],
			stored: all.stored[:stored], watermark: o.emittedWatermark})
		all.seconds, all.raws, all.stored = all.seconds[some:], all.raws[rows:], all.stored[stored:]
	}
	o.sending, o.emittedWatermark = append(o.sending, all), all.watermark
	if o.trial.early { // a mutation: the commit doesn't wait for the acknowledgement
		o.done, o.committable = o.reaches, true
	}
	return bad
}

// acknowledged removes the first record, which is written.
func (o *owner) acknowledged() {
	o.sending = o.sending[1:]
	if len(o.sending) == 0 {
		o.done, o.committable = o.reaches, true
	}
}
