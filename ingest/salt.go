package ingest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

const (
	saltAhead = time.Hour // how long before a day its salt is made
	saltCheck = time.Second
)

// saltLog is the topic that the nodes of a cluster agree by.
type saltLog interface {
	Bounds(ctx context.Context, topic string, partition int) (first, end int64, err error)
	Follow(ctx context.Context, f broker.Follower) error
	ProduceKeyed(ctx context.Context, topic string, key, value []byte) (offset int64, err error)
}

// saltRecord is a record of nowcast.salts.v1. The first one of a day in the log is that day's salt, so any number of nodes may
// offer one at the same time.
type saltRecord struct {
	Day  string `json:"day"`  // 2026-11-24, UTC
	Salt string `json:"salt"` // 16 random bytes, hex
}

// salts holds the salts of today and, while they are needed, of yesterday (10 minutes) and tomorrow (the last hour). A salt that
// is gone can't be had again from memory, and the topic forgets it within days: old ids can't be traced to addresses then.
type salts struct {
	log     saltLog
	slog    *slog.Logger
	mu      sync.Mutex // of those who change known
	known   atomic.Pointer[map[day]sipKey]
	caught  atomic.Bool
	stirred chan struct{} // something was read
}

func newSalts(log saltLog, logger *slog.Logger) *salts {
	s := &salts{log: log, slog: logger, stirred: make(chan struct{}, 1)}
	s.known.Store(&map[day]sipKey{})
	return s
}

// ids returns a visitor's id at a time (ms UTC), and that of the day before while the fold needs it to know them again. ok is
// false when the day's salt isn't known yet.
func (s *salts) ids(at int64, who []byte) (id, before uint64, ok bool) {
	known := *s.known.Load()
	today, ok := known[dayOf(at)]
	if !ok {
		return 0, 0, false
	}
	if at%86_400_000 < seam {
		if yesterday, ok := known[dayOf(at)-1]; ok {
			before = visitorID(yesterday, who)
		}
	}
	return visitorID(today, who), before, true
}

// ready says whether today's salt is known.
func (s *salts) ready() bool {
	_, ok := (*s.known.Load())[dayOf(time.Now().UnixMilli())]
	return ok
}

// run follows the topic and offers salts that are missing, until ctx ends.
func (s *salts) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.follow(ctx) })
	s.offer(ctx)
	wg.Wait()
}

// follow reads the topic from its start; what stops it short is tried again.
func (s *salts) follow(ctx context.Context) {
	for ctx.Err() == nil {
		first, end, err := s.log.Bounds(ctx, topic.Salts, 0)
		if err == nil {
			_ = s.reached(first, end) // an empty topic needn't be read first
			err = s.log.Follow(ctx, broker.Follower{Topic: topic.Salts, From: first, Record: s.read, Batch: s.reached})
		}
		if ctx.Err() == nil {
			s.slog.Warn("can't follow the salts, trying again", "error", err)
			wait(ctx, saltCheck)
		}
	}
}

func (s *salts) reached(next, end int64) error {
	if next >= end && s.caught.CompareAndSwap(false, true) {
		s.stir()
	}
	return nil
}

func (s *salts) stir() {
	select {
	case s.stirred <- struct{}{}:
	default:
	}
}

// read takes a record. One that isn't a salt is said and skipped: no node can make its ids depend on it.
func (s *salts) read(r broker.Record) error {
	d, key, ok := parseSalt(r.Value)
	if !ok {
		s.slog.Error("a record of the salts' topic is no salt, skipped", "offset", r.Offset)
		return nil
	}
	s.keep(func(known map[day]sipKey) {
		if _, taken := known[d]; !taken {
			known[d] = key
		}
	})
	s.stir()
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
	return dayOf(at.UnixMilli()), newSipKey([16]byte(raw)), true
}

// keep changes the known salts and forgets the ones that are no longer needed.
func (s *salts) keep(change func(map[day]sipKey)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := dayOf(time.Now().UnixMilli() - seam - 60_000) // a minute for events that were stamped and are on their way
	known := map[day]sipKey{}
	for d, k := range *s.known.Load() {
		known[d] = k
	}
	change(known)
	for d := range known {
		if d < oldest {
			delete(known, d)
		}
	}
	s.known.Store(&known)
}

// offer makes the salts that are missing once the topic has been read to its end.
func (s *salts) offer(ctx context.Context) {
	tick := time.NewTicker(saltCheck)
	defer tick.Stop()
	for {
		s.keep(func(map[day]sipKey) {})
		if s.caught.Load() {
			s.offerMissing(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.stirred:
		}
	}
}

func (s *salts) offerMissing(ctx context.Context) {
	now := time.Now()
	for _, at := range [...]time.Time{now, now.Add(saltAhead)} {
		if _, ok := (*s.known.Load())[dayOf(at.UnixMilli())]; ok {
			continue
		}
		var raw [16]byte
		_, _ = rand.Read(raw[:]) // never fails: the runtime ends the program instead
		rec := saltRecord{Day: at.UTC().Format(time.DateOnly), Salt: hex.EncodeToString(raw[:])}
		v, err := json.Marshal(rec)
		if err == nil {
			_, err = s.log.ProduceKeyed(ctx, topic.Salts, []byte(rec.Day), v)
		}
		if err != nil && ctx.Err() == nil {
			s.slog.Warn("can't offer a salt, trying again", "day", rec.Day, "error", err)
		}
	}
}
