package publisher

import "nowcast/internal/event"

// maxTallyBytes bounds the tallies that wait for the next envelope of a partition. On top of the largest
// envelope they keep its record below the limit of 900 KB.
const maxTallyBytes = 24 << 10

// tallyKey is what beacons are counted by; see event.Tally.
type tallyKey struct {
	site   string
	minute int64
	reason string
}

// tallies count the beacons that a partition took since its last envelope. They are sent with the next
// one, which also has the events of the beacons that weren't dropped. So the log has an event if and only
// if it has the tally of its beacon, and a reader can check one by the other.
type tallies struct {
	list      []event.Tally
	index     map[tallyKey]int // in list
	lastIndex int              // of the newest beacon's tally, which most often is that of the next beacon
	bytes     int              // upper bound of the encoded size
}

// add counts a beacon that was received at a time in ms. The reason of one that isn't dropped is "".
func (t *tallies) add(site string, at int64, reason string) {
	minute := at / 60_000
	if t.lastIndex < len(t.list) {
		if last := &t.list[t.lastIndex]; last.Minute == minute && last.Site == site && last.Reason == reason {
			last.Count++
			return
		}
	}
	k := tallyKey{site, minute, reason}
	i, ok := t.index[k]
	if !ok {
		if t.index == nil {
			t.index = map[tallyKey]int{}
		}
		i = len(t.list)
		t.index[k], t.list = i, append(t.list, event.Tally{Site: site, Minute: minute, Reason: reason})
		t.bytes += len(site) + len(reason) + 24
	}
	t.list[i].Count++
	t.lastIndex = i
}

func (t *tallies) full() bool { return t.bytes >= maxTallyBytes }

// flush appends all tallies to an envelope and removes them.
func (t *tallies) flush(b []byte) []byte {
	for _, x := range t.list {
		b = event.AppendTally(b, x)
	}
	clear(t.index)
	clear(t.list)
	t.list, t.bytes = t.list[:0], 0
	return b
}
