package ingest

import (
	"hash/maphash"

	"nowcast/internal/event"
)

// maxTallies bounds the bytes of the tallies that wait for a lane's next envelope. On top of the largest envelope they keep its record below 900 KB.
const maxTallies = 24 << 10

// tallyOf is what beacons are counted by; see event.Tally.
type tallyOf struct {
	site   string
	minute int64
	reason string
}

// tallies are the beacons that a lane took since its last envelope. They go with the next one, in which the events of those that weren't dropped
// are too. So the log has an event exactly if it has its beacon's tally, and a reader can check one by the other.
type tallies struct {
	list  []event.Tally
	at    map[tallyOf]int // in list
	last  int             // the one that was counted last: most often it is the next one too
	bytes int             // at most, as they will be written
}

// add counts a beacon received at a time in ms.
func (t *tallies) add(site string, at int64, reason string) {
	minute := at / 60_000
	if t.last < len(t.list) {
		if x := &t.list[t.last]; x.Minute == minute && x.Site == site && x.Reason == reason {
			x.Count++
			return
		}
	}
	k := tallyOf{site, minute, reason}
	i, has := t.at[k]
	if !has {
		if t.at == nil {
			t.at = map[tallyOf]int{}
		}
		i = len(t.list)
		t.at[k], t.list = i, append(t.list, event.Tally{Site: site, Minute: minute, Reason: reason})
		t.bytes += len(site) + len(reason) + 24
	}
	t.list[i].Count++
	t.last = i
}

func (t *tallies) full() bool { return t.bytes >= maxTallies }

// flush appends all to an envelope, and begins anew.
func (t *tallies) flush(b []byte) []byte {
	for _, x := range t.list {
		b = event.AppendTally(b, x)
	}
	clear(t.at)
	clear(t.list)
	t.list, t.bytes = t.list[:0], 0
	return b
}

// drop says that a beacon for a site that exists is left out, and why: a short lower-case word, that of the metric and of the site's ledger.
func (s *Service) drop(site, reason string) {
	s.meter.dropped(reason).Inc()
	s.publisher.drop(site, reason)
}

// drop tallies a dropped beacon. Its sender isn't kept waiting for the log, so a tally is lost where this process dies before its next
// envelopes, and where there is no room for it because the log and the disk are away; then it is in the metric only.
func (p *publisher) drop(site, reason string) {
	if !p.lanes[maphash.String(p.seed, site)%uint64(len(p.lanes))].tally(site, reason) {
		p.meter.untallied.Inc()
	}
}

func (l *lane) tally(site, reason string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping || l.tallies.full() && !l.makeRoom() {
		return false
	}
	now := l.now()
	l.tallies.add(site, now, "")
	l.tallies.add(site, now, reason)
	return true
}

// makeRoom closes the envelope that the tallies go with.
func (l *lane) makeRoom() bool {
	if len(l.queue) >= maxQueue || l.waiting >= maxWaiting {
		return false
	}
	if l.open == nil {
		l.open = l.begin(l.now(), false)
	}
	l.closeOpen()
	l.rouse()
	return true
}
