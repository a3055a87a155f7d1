package aggregator

import (
	"time"

	"nowcast/aggregator/fold"
	"nowcast/internal/window"
)

const (
	maxRecord    = 900 << 10   // bytes of an emission's record; Kafka's default limit of a batch is 1 MB
	maxFinals    = 50_000      // pending final rows; then reading waits
	listInterval = time.Second // at least between two emissions of one site's lists
)

// pending is what has changed and isn't emitted yet. It queues final rows. The fold keeps the newest content
// of provisional rows and lists, so memory is bounded by the open rows however slowly they are emitted.
type pending struct {
	partition int
	fold      *fold.Fold
	finals    []window.Second

	next             int64 // offset after the last envelope
	watermark        int64
	logTime          int64
	emittedWatermark int64 // of the last emission

	lists      window.Now // buffer
	recordSize int        // of the last record
}

func newPending(partition int, f *fold.Fold) *pending {
	return &pending{partition: partition, fold: f, watermark: fold.None, logTime: fold.None,
		emittedWatermark: fold.None}
}

// add adds the rows that the envelope at offset made final.
func (p *pending) add(finals []window.Second, offset int64, c *fold.Classifier) {
	p.finals = append(p.finals, finals...)
	p.next, p.watermark, p.logTime = offset+1, c.Watermark(), c.LogTime()
}

// dropFinals drops final rows that an earlier owner has emitted. Provisional rows and lists are emitted
// again.
func (p *pending) dropFinals() { p.finals = p.finals[:0] }

// hasChanges reports whether there is anything to emit. That includes a watermark that has passed the end of
// a second.
func (p *pending) hasChanges() bool {
	return len(p.finals) > 0 || p.passedSecond() || p.fold.Pending()
}

func (p *pending) passedSecond() bool {
	return p.watermark != fold.None &&
		(p.emittedWatermark == fold.None || p.watermark/1000 > p.emittedWatermark/1000)
}

// counts of rows in an emission.
type counts struct{ finals, provisional, lists int }

// emit takes all that is due at now. It returns records, which have to be written in order.
func (p *pending) emit(now time.Time) (records [][]byte, n counts) {
	var b []byte
	cut := func(watermark int64) {
		e := window.Emission{Version: window.Version, Partition: uint32(p.partition), Epoch: window.Epoch,
			Offset: p.next - 1, Watermark: max(0, watermark), Now: max(0, p.logTime)}
		b = e.Append(b)
		records, p.recordSize, b = append(records, b), len(b), nil
	}
	reserve := func(bytes int) {
		switch {
		case b == nil:
			b = make([]byte, 0, p.recordSize+p.recordSize/4+256) // not reused, since the client keeps it
		case len(b)+bytes > maxRecord:
			// Only the last record carries the new watermark: rows of a final second may be in any of them.
			cut(p.emittedWatermark)
		}
	}
	second := func(s *window.Second) {
		reserve(s.Size())
		b = s.Append(b)
	}
	for i := range p.finals {
		second(&p.finals[i])
	}
	n.finals = len(p.finals)
	p.finals = p.finals[:0]
	p.fold.Provisional(func(s *window.Second) {
		second(s)
		n.provisional++
	})
	p.fold.Lists(now.UnixMilli(), listInterval.Milliseconds(), &p.lists, func() {
		reserve(p.lists.Size())
		b = p.lists.Append(b)
		n.lists++
	})
	if b != nil || p.passedSecond() {
		cut(p.watermark)
		p.emittedWatermark = p.watermark
	}
	return records, n
}
