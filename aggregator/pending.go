package aggregator

import (
	"time"

	"nowcast/aggregator/fold"
	"nowcast/internal/window"
)

const (
	maxRecord = 900 << 10   // bytes of an emission; Kafka's own limit is 1 MB a batch
	maxFinals = 50_000      // final rows that may wait; then reading waits
	nowPace   = time.Second // between two lists of one site
)

// pending is what has changed and isn't emitted yet. Final rows queue up here. Of a provisional row and of a site's lists the fold keeps the
// newest only: what comes too fast is thinned there, and memory is bounded by the rows that are open.
type pending struct {
	partition int
	fold      *fold.Fold
	finals    []window.Second

	next      int64 // the offset after the last envelope
	watermark int64
	now       int64
	emitted   int64 // watermark of the last emission

	lists window.Now // being filled
	size  int        // of the last record
}

func newPending(partition int, f *fold.Fold) *pending {
	return &pending{partition: partition, fold: f, watermark: fold.None, now: fold.None, emitted: fold.None}
}

// take adds what the envelope at offset made final.
func (p *pending) take(finals []window.Second, offset int64, r *fold.Reader) {
	p.finals = append(p.finals, finals...)
	p.next, p.watermark, p.now = offset+1, r.Watermark(), r.Now()
}

// silence drops what was written before: all final rows so far. Open seconds and lists are said again.
func (p *pending) silence() { p.finals = p.finals[:0] }

// news says whether there is anything to emit. A watermark that has passed the end of a second is news of its own.
func (p *pending) news() bool {
	return len(p.finals) > 0 || p.passed() || p.fold.Pending()
}

func (p *pending) passed() bool {
	return p.watermark != fold.None && (p.emitted == fold.None || p.watermark/1000 > p.emitted/1000)
}

// counts of rows in an emission.
type counts struct{ finals, provisional, nows int }

// emit takes all that is due at the moment at, as records in the order in which they have to be written.
func (p *pending) emit(at time.Time) (records [][]byte, n counts) {
	var b []byte
	cut := func(watermark int64) {
		e := window.Emission{Version: window.Version, Partition: uint32(p.partition), Epoch: window.Epoch, Offset: p.next - 1, Watermark: max(0, watermark), Now: max(0, p.now)}
		b = e.Append(b)
		records, p.size, b = append(records, b), len(b), nil
	}
	room := func(bytes int) {
		switch {
		case b == nil:
			b = make([]byte, 0, p.size+p.size/4+256) // the client holds on to it, so it isn't used again
		case len(b)+bytes > maxRecord:
			// Only the last record may say that a second is over: its rows may be in any of them.
			cut(p.emitted)
		}
	}
	second := func(s *window.Second) {
		room(s.Size())
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
	p.fold.News(at.UnixMilli(), nowPace.Milliseconds(), &p.lists, func() {
		room(p.lists.Size())
		b = p.lists.Append(b)
		n.nows++
	})
	if b != nil || p.passed() {
		cut(p.watermark)
		p.emitted = p.watermark
	}
	return records, n
}
