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

// pending is what has changed and isn't emitted yet. Final rows queue up. Of a provisional row and of a site's lists only the newest
// is kept: what comes too fast is thinned here, and memory is bounded by the rows that are open.
type pending struct {
	partition int
	finals    []window.Second
	open      map[rowKey]window.Second
	nows      map[string]*listing

	next      int64 // the offset after the last envelope
	watermark int64
	now       int64
	emitted   int64 // watermark of the last emission
}

type rowKey struct {
	site   string
	second int64
}

// listing is a site whose lists are news, or were less than nowPace ago.
type listing struct {
	news    bool
	at      int64 // unix seconds, log time
	version uint64
	sent    time.Time
}

func newPending(partition int) *pending {
	return &pending{partition: partition, open: map[rowKey]window.Second{}, nows: map[string]*listing{}, watermark: fold.None, now: fold.None, emitted: fold.None}
}

// take adds what the envelope at offset changed.
func (p *pending) take(c fold.Changes, offset int64, r *fold.Reader) {
	for _, s := range c.Seconds {
		if s.Final {
			p.finals = append(p.finals, s)
			delete(p.open, rowKey{s.Site, s.At})
		} else {
			p.open[rowKey{s.Site, s.At}] = s
		}
	}
	for _, site := range c.Nows {
		l := p.nows[site]
		if l == nil {
			l = &listing{}
			p.nows[site] = l
		}
		l.news, l.at, l.version = true, r.Now()/1000, window.RowVersion(window.Epoch, false, offset)
	}
	p.next, p.watermark, p.now = offset+1, r.Watermark(), r.Now()
}

// silence drops what was written before: all final rows so far. Open seconds and lists are said again.
func (p *pending) silence() { p.finals = p.finals[:0] }

// news says whether there is anything to emit. A watermark that has passed the end of a second is news of its own.
func (p *pending) news() bool {
	return len(p.finals) > 0 || len(p.open) > 0 || p.passed() || len(p.nows) > 0
}

func (p *pending) passed() bool {
	return p.watermark != fold.None && (p.emitted == fold.None || p.watermark/1000 > p.emitted/1000)
}

// counts of rows in an emission.
type counts struct{ finals, provisional, nows int }

// emit takes all that is due at the moment at, as records in the order in which they have to be written. lists fills in where a site's
// visitors are now.
func (p *pending) emit(at time.Time, lists func(site string, n *window.Now)) (records [][]byte, n counts) {
	e := window.Emission{Version: window.Version, Partition: uint32(p.partition), Epoch: window.Epoch, Offset: p.next - 1, Now: max(0, p.now)}
	size := 0
	cut := func() {
		records = append(records, e.Append(make([]byte, 0, size+64)))
		e.Seconds, e.Nows, size = e.Seconds[:0], e.Nows[:0], 0
	}
	room := func(bytes int) {
		if size += bytes; size > maxRecord && size > bytes {
			// Only the last record may say that a second is over: its rows may be in any of them.
			e.Watermark = max(0, p.emitted)
			cut()
			size = bytes
		}
	}
	for i := range p.finals {
		room(p.finals[i].Size())
		e.Seconds = append(e.Seconds, p.finals[i])
	}
	n.finals, n.provisional = len(p.finals), len(p.open)
	p.finals = p.finals[:0]
	for key, s := range p.open {
		room(s.Size())
		e.Seconds = append(e.Seconds, s)
		delete(p.open, key)
	}
	for site, l := range p.nows {
		quiet := at.Sub(l.sent) >= nowPace
		switch {
		case l.news && quiet:
			now := window.Now{At: l.at, Version: l.version}
			lists(site, &now)
			room(now.Size())
			e.Nows = append(e.Nows, now)
			l.news, l.sent = false, at
			n.nows++
		case quiet:
			delete(p.nows, site)
		}
	}
	if len(e.Seconds)+len(e.Nows) > 0 || p.passed() {
		e.Watermark = max(0, p.watermark)
		cut()
		p.emitted = p.watermark
	}
	return records, n
}
