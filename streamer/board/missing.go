package board

import (
	"slices"
	"time"

	"nowcast/internal/window"
)

// A partition that stands still would hold back the final seconds of all others, and the board would keep
// every second since. So it counts as missing once its watermark has been more than maxBehindSeconds behind
// the newest partition's for missingGrace. The board then goes on without it: seconds become final from the
// rows of the other partitions and are marked incomplete. A quiet partition isn't missing, because ingest's
// ticks move its watermark.
//
// A missing partition belongs to the board again once its watermark has passed the board's newest final
// second. Seconds that became final without it stay as they are: its rows of them are only in ClickHouse.
const (
	maxBehindSeconds = 60
	missingGrace     = time.Minute      // for a partition that is read more slowly than the others
	caughtUpGrace    = 10 * time.Second // where all was read, for an aggregator that starts as well
)

// span is the seconds from from to through, unix.
type span struct{ from, through int64 }

// Fault is why a partition isn't on the board.
type Fault struct {
	Partition int
	Missing   bool  // seconds become final without it
	Watermark int64 // ms; 0: the partition has sent nothing
	Epoch     int64 // of its newest emission, when that is another than window.Epoch; else -1
}

// Faults returns the partitions that aren't on the board, in order.
func (b *Board) Faults() (faults []Fault) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for i := range b.partitions {
		if p := &b.partitions[i]; p.missing || p.otherEpoch >= 0 {
			faults = append(faults, Fault{i, p.missing, p.watermark, p.otherEpoch})
		}
	}
	return faults
}

// Partitions is the number of partitions of the topic.
func (b *Board) Partitions() int { return len(b.partitions) }

// IncompleteSeconds is how many seconds became final without all partitions.
func (b *Board) IncompleteSeconds() uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.incompleteSeconds
}

// CaughtUp tells the board that every partition has been read to the end that it had at the start. A
// partition that is behind now isn't behind because of the reading, so it counts as missing sooner.
func (b *Board) CaughtUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	newest := b.newestPassed()
	for i := range b.partitions {
		if p := &b.partitions[i]; !p.missing && b.isBehind(p, newest) {
			p.behindSince = b.now().Add(caughtUpGrace - missingGrace)
		}
	}
}

// isBehind reports whether a partition is more than maxBehindSeconds behind. One that has sent nothing is as
// far as the board was at its first emission.
func (b *Board) isBehind(p *partition, newest int64) bool {
	return newest-max(p.lastPassed, b.firstPassed) > maxBehindSeconds
}

// newestPassed is the newest second that any partition's watermark has passed.
func (b *Board) newestPassed() int64 {
	newest := int64(-1)
	for i := range b.partitions {
		newest = max(newest, b.partitions[i].lastPassed)
	}
	return newest
}

// updateMissing decides for each partition whether it is missing.
func (b *Board) updateMissing(newest int64) {
	for i := range b.partitions {
		switch p := &b.partitions[i]; {
		case p.missing:
			p.missing = p.lastPassed < b.lastFinal || p.lastPassed < 0
			p.behindSince = time.Time{}
		case !b.isBehind(p, newest):
			p.behindSince = time.Time{}
		case p.behindSince.IsZero():
			p.behindSince = b.now()
		case b.now().Sub(p.behindSince) >= missingGrace:
			p.missing = true
		}
	}
}

// recordMissing notes that the seconds after b.lastFinal and up to final become final without the missing
// partitions.
func (b *Board) recordMissing(final int64) {
	from, any := max(b.lastFinal+1, final-evictedSeconds), false
	b.hasAbsent = false
	for i := range b.partitions {
		p := &b.partitions[i]
		p.absent = slices.DeleteFunc(p.absent, func(s span) bool { return s.through <= final-evictedSeconds })
		b.hasAbsent = b.hasAbsent || len(p.absent) > 0 || p.missing
		if !p.missing {
			continue
		}
		any = true
		if n := len(p.absent); n > 0 && p.absent[n-1].through == from-1 {
			p.absent[n-1].through = final
		} else {
			p.absent = append(p.absent, span{from, final})
		}
	}
	if any {
		b.incompleteSeconds += uint64(final - from + 1) //nolint:gosec // final is newer
	}
}

// absentAt reports whether a second became final without the partition.
func (p *partition) absentAt(second int64) bool { return p.absentIn(second-1, second) }

// absentIn reports whether any second after after and up to through became final without the partition.
func (p *partition) absentIn(after, through int64) bool {
	return slices.ContainsFunc(p.absent, func(s span) bool { return s.from <= through && s.through > after })
}

// Incomplete reports whether any second after after and up to through became final without all partitions.
func (b *Board) Incomplete(after, through int64) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.ContainsFunc(b.partitions, func(p partition) bool { return p.absentIn(after, through) })
}

// Incomplete is Board.Incomplete.
func (s *Site) Incomplete(after, through int64) bool { return s.board.Incomplete(after, through) }

// noteEpoch records which epoch a partition's newest emission has, and reports whether it is the one that
// this program knows.
func (p *partition) noteEpoch(e *window.Emission) bool {
	if e.Epoch != window.Epoch {
		p.otherEpoch = int64(e.Epoch)
		return false
	}
	p.otherEpoch = -1
	return true
}
