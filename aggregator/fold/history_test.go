package fold

import (
	"math/rand/v2"

	"nowcast/internal/event"
)

// small returns the rules at a tenth of the scale, so that a history of minutes covers what takes an hour
// in production.
func small() Rules {
	return Rules{Active: 30, IDMemory: 30_000, NodeMemory: 66_000, MaxNodeLag: 2000, MaxOpenEvents: 1 << 20,
		ListRefresh: 3000}
}

const smallWarmUp = 96_000

// midnight, when the ids of site x change, is in the middle of every history.
const (
	start    = int64(1_795_435_200_000)
	length   = int64(240_000)
	midnight = start + length/2
)

// midnightOf returns the midnight of a site: each is in another zone.
func midnightOf(site string) int64 {
	return midnight + map[string]int64{"y": -35_000, "z": 45_000}[site]
}

// sender is an ingest node, or the successor that sends its spool.
type sender struct {
	id, sequence uint64
	skew, linger int64
	rate         float64 // events/s
	alive        bool
	cut          int64 // nothing gets through before
	first        int64 // when the gather's first event came
	gather       []event.Event
	queue        []Envelope
	last         int64 // when it last closed an envelope
	keeps        bool  // its promises, also when its clock steps back
	promised     int64
}

// history is an adversarial log of one partition. Ingest nodes have wrong and stepping clocks, and some
// keep promises that their clocks don't. Envelopes and ticks are retried, and copies arrive late. Nodes are
// cut off, die with or without a successor that sends their spool, or send a close marker. Clients repeat
// ids, a site loses its visitors, and visitors' ids change at their site's midnight. Language holds who an
// event is really of, as "v3".
func history(seed uint64) []Envelope {
	r := rand.New(rand.NewPCG(seed, 1))
	var log []Envelope
	var nodes []*sender
	type copied struct {
		at int64
		e  Envelope
	}
	var copies []copied
	type repeat struct {
		at int64
		e  event.Event
	}
	var repeats []repeat
	nextID := uint64(0)
	skew := func() int64 {
		return []int64{0, r.Int64N(100) - 50, -r.Int64N(1500), -r.Int64N(4000), r.Int64N(400)}[r.IntN(5)]
	}
	join := func() {
		nodes = append(nodes, &sender{id: r.Uint64() | 1, skew: skew(), linger: 30 + r.Int64N(300),
			rate: []float64{0.2, 1, 4}[r.IntN(3)], alive: true, keeps: r.IntN(2) == 0})
	}
	for range 1 + r.IntN(3) {
		join()
	}
	visitors, lost, odd := 2+r.IntN(8), []float64{0, 0.02, 0.05}[r.IntN(3)], []float64{0, 0.01}[r.IntN(2)]
	sources := []string{"", "", "", "Google", "News"}
	paths := []string{"/", "/a", "/b", "/c"}
	closing := start + r.Int64N(length) // after which site z has no events
	for now := start; now < start+length; now += 10 {
		for i := 0; i < len(copies); i++ {
			if copies[i].at <= now {
				log = append(log, copies[i].e)
				copies = append(copies[:i], copies[i+1:]...)
				i--
			}
		}
		for _, s := range nodes {
			if s.alive && r.Float64() < s.rate/100 {
				e := event.Event{Time: now + s.skew, Kind: event.Kind(1 + r.IntN(3)),
					Site: string('x' + rune(r.IntN(3))),
					Path: paths[r.IntN(4)], Source: sources[r.IntN(5)], Country: "DE", Device: "Desktop"}
				if e.Site == "z" && now > closing {
					e.Site = "x"
				}
				if r.Float64() < odd {
					e.Time -= r.Int64N(3000)
				}
				if r.Float64() < odd || odd > 0 && now > midnight-20_000 && now < midnight && r.IntN(8) == 0 {
					e.Time += r.Int64N(20_000)
				}
				who := r.IntN(visitors)
				e.Language = "v" + string('a'+rune(who))
				if r.IntN(3) == 0 {
					nextID++
					e.HasID, e.ID[0], e.ID[1] = true, byte(nextID), byte(nextID>>8)
					if r.IntN(4) == 0 { // it is of a day's first minutes
						e.HasPreviousID, e.PreviousID = true, e.ID
						e.ID[2] = 1
					}
					if r.IntN(2) == 0 {
						repeats = append(repeats, repeat{now + r.Int64N(70_000), e})
					}
				}
				s.add(now, e)
			}
			for i := 0; s.alive && i < len(repeats); i++ {
				if repeats[i].at <= now { // most often not, and events are large
					x := repeats[i]
					repeats = append(repeats[:i], repeats[i+1:]...)
					x.e.Time = now + s.skew
					s.add(now, x.e)
					if r.IntN(2) == 0 {
						repeats = append(repeats, repeat{now + r.Int64N(40_000), x.e})
					}
					break
				}
			}
			if s.alive && (len(s.gather) > 0 && now-s.first >= s.linger || len(s.gather) == 0 &&
				now-s.last >= 250) {
				s.seal(now, false)
			}
			if now >= s.cut && len(s.queue) > 0 {
				e := s.queue[0]
				log = append(log, e)
				if r.Float64() >= lost { // else the answer was lost and it is sent again
					s.queue = s.queue[1:]
				}
				if r.Float64() < lost {
					copies = append(copies, copied{now + r.Int64N(150_000), e})
				}
			}
		}
		if r.IntN(1500) != 0 {
			continue
		}
		s := nodes[r.IntN(len(nodes))]
		switch r.IntN(6) {
		case 0:
			s.skew = skew()
		case 1, 2:
			s.cut = now + r.Int64N([]int64{500, 6000, 60_000}[r.IntN(3)])
		case 3: // dies; what it had kept is sent later, or never
			if s.alive {
				s.alive, s.cut = false, now+r.Int64N(90_000)
				join()
			}
		case 4:
			if s.alive {
				s.seal(now, true)
				s.alive = false
				join()
			}
		case 5:
			if len(nodes) < 6 {
				join()
			}
		}
	}
	return log
}

func (s *sender) add(now int64, e event.Event) {
	// The id and the time are taken at one moment.
	who := uint64(e.Language[1])
	e.Visitor, e.PreviousVisitor = who, 0
	if m := midnightOf(e.Site); e.Time >= m {
		e.Visitor += 1000
		if e.Time < m+60_000 {
			e.PreviousVisitor = who
		}
	}
	if len(s.gather) == 0 {
		s.first = now
	}
	s.gather = append(s.gather, e)
}

func (s *sender) seal(now int64, closing bool) {
	s.sequence++
	e := Envelope{Time: now + s.skew, Header: event.Header{Version: 1, Node: s.id, Sequence: s.sequence,
		Low: now + s.skew - 1, CloseMarker: closing}, Events: s.gather}
	for _, x := range s.gather {
		e.Header.Low = min(e.Header.Low, x.Time-1)
	}
	if s.keeps {
		e.Header.Low = max(e.Header.Low, s.promised)
		s.promised = e.Header.Low
	}
	s.gather, s.last = nil, now
	s.queue = append(s.queue, e)
}
