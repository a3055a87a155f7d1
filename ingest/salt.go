package ingest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

const (
	saltLead     = time.Hour   // before a day begins anywhere, its salt is made
	saltInterval = time.Second // between two attempts to make one

	saltLookInterval = time.Minute // in which old salts are removed, and a clock that jumped is noticed
	// saltGrace is how long, in ms, a salt is kept after its last use, for events that are stamped meanwhile.
	saltGrace = 60_000

	// A date begins at UTC+14 (Pacific/Kiritimati) and ends at UTC-12 (Etc/GMT+12).
	firstZone, lastZone = 14 * time.Hour, -12 * time.Hour
)

var errNoSalt = errors.New("the salt of today isn't known yet")

// saltLog is the topic by which the nodes of a cluster agree on salts.
type saltLog interface {
	Bounds(ctx context.Context, topic string, partition int) (first, end int64, err error)
	Follow(ctx context.Context, f broker.Follower) error
	ProduceKeyed(ctx context.Context, topic string, key, value []byte) (offset int64, err error)
}

// saltRecord is a record of nowcast.salts.v1. The first record of a day has that day's salt, so several
// nodes may offer one at the same time.
type saltRecord struct {
	Day  string `json:"day"`  // 2026-11-24
	Salt string `json:"salt"` // 16 random bytes, hex
}

// salts holds the salts of the dates that it is anywhere, from an hour before a date begins in the first zone
// until eleven minutes after it has ended in the last one: 51 hours. The topic keeps salts for 52 hours. When
// a salt is gone from both, the ids of its day can't be traced to addresses any more.
type salts struct {
	topic    saltLog
	clocks   *siteClocks
	logger   *slog.Logger
	mu       sync.Mutex // held to replace byDay
	byDay    atomic.Pointer[map[day]sipKey]
	readAll  atomic.Bool   // the topic was read to its end once
	complete atomic.Bool   // the salts of all zones were known once
	wake     chan struct{} // see notify
}

func newSalts(records saltLog, clocks *siteClocks, logger *slog.Logger) *salts {
	s := &salts{topic: records, clocks: clocks, logger: logger, wake: make(chan struct{}, 1)}
	s.byDay.Store(&map[day]sipKey{})
	return s
}

// stamp sets the time of an event (ms UTC), its day on the site's clocks, the ids of its visitor and, of what
// clientID has made of the client's id, those of the event. from is a *visitor.
func (s *salts) stamp(e *event.Event, from any, at int64) error {
	v := from.(*visitor)
	today, former, hasFormer := v.clock.now(at)
	e.Time, e.Day, e.UTCOffset = at, uint32(max(0, today.day)), today.offset
	byDay := *s.byDay.Load()
	salt, ok := byDay[today.day]
	if !ok {
		s.notify()
		return errNoSalt
	}
	e.Visitor, e.PreviousVisitor = visitorID(salt, v.key), 0
	if hasFormer {
		// By the former id the fold recognizes an active visitor.
		if salt, ok := byDay[former]; ok {
			e.PreviousVisitor = visitorID(salt, v.key)
		}
	}
	if e.HasID {
		client := e.ID
		e.ID = eventID(e.Visitor, client)
		if e.PreviousVisitor != 0 {
			e.PreviousID, e.HasPreviousID = eventID(e.PreviousVisitor, client), true
		}
	}
	return nil
}

// ready reports whether the salts of today are known: of all zones at the start, and then of those whose
// sites have beacons. So a node whose broker is down for hours takes the beacons that it can take.
func (s *salts) ready() bool {
	if !s.complete.Load() {
		return false
	}
	byDay := *s.byDay.Load()
	for _, d := range s.clocks.days(time.Now().UnixMilli()) {
		if _, ok := byDay[d]; !ok {
			return false
		}
	}
	return true
}

// missing returns the dates whose salts aren't known, of those that it is anywhere at a time or within lead
// after it.
func (s *salts) missing(at time.Time, lead time.Duration) (all []day) {
	byDay := *s.byDay.Load()
	last := dayIn(at.Add(lead), firstZone)
	for d := dayIn(at, lastZone); d <= last; d++ {
		if _, ok := byDay[d]; !ok {
			all = append(all, d)
		}
	}
	return all
}

// dayIn returns the date at a time on clocks that are so far ahead of UTC.
func dayIn(at time.Time, ahead time.Duration) day {
	return dayOf(at.UnixMilli(), int64(ahead/time.Second))
}

// run follows the topic and offers missing salts until ctx ends.
func (s *salts) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.follow(ctx) })
	s.offer(ctx)
	wg.Wait()
}

// follow reads the topic from its start. After an error it starts again.
func (s *salts) follow(ctx context.Context) {
	for ctx.Err() == nil {
		first, end, err := s.topic.Bounds(ctx, topic.Salts, 0)
		if err == nil {
			_ = s.batchRead(first, end) // an empty topic has no batch to read
			err = s.topic.Follow(ctx, broker.Follower{
				Topic: topic.Salts, From: first, Record: s.read, Batch: s.batchRead,
			})
		}
		if ctx.Err() == nil {
			s.logger.Warn("can't follow the salts, trying again", "error", err)
			_ = retry.Sleep(ctx, saltInterval)
		}
	}
}

// batchRead notes when the topic is read to its end.
func (s *salts) batchRead(next, end int64) error {
	if next >= end && s.readAll.CompareAndSwap(false, true) {
		s.notify()
	}
	return nil
}

// notify wakes offer.
func (s *salts) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// read adds the salt of a record. An invalid record is logged and skipped, by all nodes alike.
func (s *salts) read(r broker.Record) error {
	d, key, ok := parseSalt(r.Value)
	if !ok {
		s.logger.Error("a record of the salts' topic is no salt, skipped", "offset", r.Offset)
		return nil
	}
	s.update(func(byDay map[day]sipKey) {
		if _, ok := byDay[d]; !ok {
			byDay[d] = key
		}
	})
	s.notify()
	return nil
}

func parseSalt(b []byte) (day, sipKey, bool) {
	var rec saltRecord
	err := json.Unmarshal(b, &rec)
	at, err2 := time.Parse(time.DateOnly, rec.Day)
	raw, err3 := hex.DecodeString(rec.Salt)
	if err != nil || err2 != nil || err3 != nil || len(raw) != 16 {
		return 0, sipKey{}, false
	}
	return dayIn(at, 0), newSipKey([16]byte(raw)), true
}

// update changes the salts and removes those that are no longer needed.
func (s *salts) update(change func(map[day]sipKey)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const kept = (previousIDSpan + saltGrace) * time.Millisecond // after the end of a day
	oldest := dayIn(time.Now().Add(-kept), lastZone)
	byDay := maps.Clone(*s.byDay.Load())
	change(byDay)
	maps.DeleteFunc(byDay, func(d day, _ sipKey) bool { return d < oldest })
	s.byDay.Store(&byDay)
	if !s.complete.Load() && len(s.missing(time.Now(), 0)) == 0 {
		s.complete.Store(true)
	}
}

// offer makes missing salts once the topic has been read to its end, and removes old ones, until ctx
// ends. notify wakes it, also when a clock jumps into a day without a salt.
func (s *salts) offer(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		s.update(func(map[day]sipKey) {})
		if s.readAll.Load() {
			s.offerMissing(ctx)
		}
		timer.Reset(s.untilOffer())
	}
}

// untilOffer is the time until offer may have something to do.
func (s *salts) untilOffer() time.Duration {
	if len(s.missing(time.Now(), saltLead)) > 0 {
		return saltInterval
	}
	return retry.UntilNext(saltLookInterval) // salts are due at its multiples
}

func (s *salts) offerMissing(ctx context.Context) {
	for _, d := range s.missing(time.Now(), saltLead) {
		var raw [16]byte
		_, _ = rand.Read(raw[:]) // never fails
		date := time.UnixMilli(int64(d) * dayMS).UTC()
		rec := saltRecord{Day: date.Format(time.DateOnly), Salt: hex.EncodeToString(raw[:])}
		v, err := json.Marshal(rec)
		if err == nil {
			_, err = s.topic.ProduceKeyed(ctx, topic.Salts, []byte(rec.Day), v)
		}
		if err != nil && ctx.Err() == nil {
			s.logger.Warn("can't offer a salt, trying again", "day", rec.Day, "error", err)
		}
	}
}
