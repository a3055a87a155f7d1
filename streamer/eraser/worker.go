// Package eraser removes what is erased from ClickHouse, and has the handlers of erasures.
//
// The tombstone in the log (package erasure) makes an erasure: from then on no reader of the log makes a row
// of it. The worker removes the rows that were made before. The aggregators may still insert rows that they
// read before they knew the tombstone, so the worker goes on until the store lane has committed everything
// that was in the log when all of them knew it, and no row is left. It looks again after a minute, and then
// at growing intervals for as long as the tombstone exists: that finds what a dead aggregator's last insert,
// or a restored copy of ClickHouse, has brought back.
//
// Any streamer goes on with the work of another one that ended. All steps are idempotent.
package eraser

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/broker"
	"nowcast/internal/erasure"
	"nowcast/internal/retry"
	"nowcast/internal/site"
	"nowcast/internal/topic"
)

const (
	lease        = 30 * time.Second // a worker that reports nothing for so long has ended
	reportEvery  = lease / 4
	removal      = time.Second     // in which the handler of a request removes the site
	settle       = 2 * time.Second // after a request, all aggregators know it
	retryPause   = 5 * time.Second
	pollInterval = 250 * time.Millisecond
	firstSweep   = time.Minute // after the end of an erasure
)

// positions knows how far the log and the store lane are. It is implemented by broker.Client.
type positions interface {
	Partitions(ctx context.Context, topic string) (int, error)
	Bounds(ctx context.Context, topic string, partition int) (first, end int64, err error)
	Committed(ctx context.Context, group string, partitions []int, topics ...string) ([]broker.Position,
		error)
	Settings(ctx context.Context, topic string, names ...string) (map[string]string, error)
}

// sites is the registry of sites. It is implemented by site.Registry.
type sites interface {
	Lookup(domain string) (site.Site, bool)
	Delete(ctx context.Context, domain string) error
}

// Worker carries out erasures.
type Worker struct {
	erasures *erasure.Log
	db       database
	log      positions
	sites    sites
	logger   *slog.Logger
	id       string // of this process
	swept    map[string]time.Time
}

// New makes a worker. Run starts it.
func New(e *erasure.Log, db database, log positions, sites sites, logger *slog.Logger,
	reg prometheus.Registerer) (*Worker, error) {
	w := &Worker{erasures: e, db: db, log: log, sites: sites, logger: logger, id: rand.Text(),
		swept: map[string]time.Time{}}
	return w, w.register(reg)
}

// Run carries out one erasure after the other until ctx ends.
func (w *Worker) Run(ctx context.Context) {
	if w.erasures.Wait(ctx) != nil {
		return
	}
	for ctx.Err() == nil {
		changed := w.erasures.Changed()
		if e := w.next(time.Now()); e != nil {
			if err := w.carryOut(ctx, e); err != nil && ctx.Err() == nil {
				w.logger.Warn("can't go on with an erasure, trying again", "erasure", e.ID, "error", err)
				w.report(ctx, e, func(p *erasure.Progress) {
					p.Reason = "ClickHouse or Kafka doesn't answer: " +
						"the erasure goes on when they do"
				})
				_ = retry.Sleep(ctx, retryPause)
			}
			continue
		}
		w.sweep(ctx)
		select {
		case <-changed:
		case <-time.After(w.untilNext(time.Now())):
		case <-ctx.Done():
		}
	}
}

// next returns the oldest erasure that no other process works on, or nil.
func (w *Worker) next(now time.Time) *erasure.Erasure {
	for _, e := range slices.Backward(w.erasures.All()) {
		if w.free(e, now) <= 0 {
			return e
		}
	}
	return nil
}

// free returns the time until this process may work on an erasure.
func (w *Worker) free(e *erasure.Erasure, now time.Time) time.Duration {
	switch {
	case e.State == erasure.Done:
		return 24 * time.Hour
	case e.Worker == "" || e.Worker == w.id:
		return 0
	}
	return e.At.Add(lease).Sub(now)
}

// untilNext returns the time until an erasure is free or due for a sweep.
func (w *Worker) untilNext(now time.Time) time.Duration {
	wait := 24 * time.Hour
	for _, e := range w.erasures.All() {
		wait = min(wait, w.free(e, now))
		if e.State == erasure.Done {
			wait = min(wait, w.dueSweep(e).Sub(now))
		}
	}
	return max(wait, time.Second)
}

// report changes the progress of an erasure and writes it. A failure is of no account: the next report has
// the same content.
func (w *Worker) report(ctx context.Context, e *erasure.Erasure, change func(*erasure.Progress)) {
	p := w.progress(e)
	change(&p)
	p.Of, p.Worker, p.At = e.ID, w.id, time.Now().UTC()
	ctx, cancel := context.WithTimeout(ctx, retryPause)
	defer cancel()
	if err := w.erasures.Report(ctx, p); err != nil && ctx.Err() == nil {
		w.logger.Warn("can't report the progress of an erasure", "erasure", e.ID, "error", err)
	}
}

// progress returns a copy of the newest progress of an erasure.
func (w *Worker) progress(e *erasure.Erasure) erasure.Progress {
	if newest, ok := w.erasures.Get(e.ID); ok {
		e = newest
	}
	p := e.Progress
	p.Tables = slices.Clone(p.Tables)
	return p
}

// carryOut takes an erasure to its end. It begins from the start, whatever another process has done.
func (w *Worker) carryOut(ctx context.Context, e *erasure.Erasure) error {
	w.logger.Info("erasing", "erasure", e.ID, "kind", e.Kind, "site", e.Site)
	w.report(ctx, e, func(p *erasure.Progress) { p.State, p.Reason = erasure.Removing, "" })
	if err := w.removeSite(ctx, e); err != nil {
		return err
	}
	if newest, ok := w.erasures.Get(e.ID); ok {
		e = newest
	}
	// The newest events of the site arrive within the grace; what was stored before is removed at once.
	if _, err := w.remove(ctx, e); err != nil {
		return err
	}
	if err := retry.Sleep(ctx, time.Until(e.Before.Add(settle))); err != nil {
		return err
	}
	if err := w.confirm(ctx, e); err != nil {
		return err
	}
	copies := w.copies(ctx, e)
	if err := ctx.Err(); err != nil {
		return err
	}
	w.report(ctx, e, func(p *erasure.Progress) { p.State, p.Reason, p.Copies = erasure.Done, "", copies })
	w.swept[e.ID] = time.Now()
	w.logger.Info("erased", "erasure", e.ID, "kind", e.Kind, "site", e.Site)
	return nil
}

// removeSite removes the site of an erasure, unless it was made after the request. The streamer that took the
// request may have ended between the tombstone and the removal. Then the tombstone is renewed, so that it
// covers what the site received meanwhile.
func (w *Worker) removeSite(ctx context.Context, e *erasure.Erasure) error {
	if err := retry.Sleep(ctx, time.Until(e.Requested.Add(removal))); err != nil {
		return err
	}
	st, exists := w.sites.Lookup(e.Site)
	if e.Kind != erasure.Site || !exists || st.Created.After(e.Requested) {
		return nil
	}
	if err := w.sites.Delete(ctx, e.Site); err != nil && !errors.Is(err, site.ErrNotFound) {
		return fmt.Errorf("remove the site: %w", err)
	}
	renewed := e.Request
	renewed.Before = time.Now().UTC().Add(erasure.Grace)
	if _, err := w.erasures.Ask(ctx, renewed); err != nil {
		return fmt.Errorf("renew the tombstone: %w", err)
	}
	return nil
}

// remove removes the rows that are there now, and returns how many there were.
func (w *Worker) remove(ctx context.Context, e *erasure.Erasure) (found uint64, err error) {
	for _, t := range tables {
		n, err := t.count(ctx, w.db, &e.Request)
		if err != nil {
			return found, err
		}
		if n > 0 {
			found += n
			w.report(ctx, e, func(p *erasure.Progress) { addFound(p, t.name, n) })
			if err := t.erase(ctx, w.db, &e.Request); err != nil {
				return found, err
			}
		}
		left, err := t.count(ctx, w.db, &e.Request)
		if err != nil {
			return found, err
		}
		if n > 0 || left > 0 {
			w.report(ctx, e, func(p *erasure.Progress) { setLeft(p, t.name, left) })
		}
	}
	return found, nil
}

// addFound counts rows that were found. Those that were found before and not removed are among them.
func addFound(p *erasure.Progress, name string, n uint64) {
	t := tableOf(p, name)
	t.Found, t.Left = t.Found-min(t.Left, t.Found)+n, n
}

func setLeft(p *erasure.Progress, name string, left uint64) {
	t := tableOf(p, name)
	t.Found += left - min(t.Left, left) // inserted since
	t.Left = left
}

func tableOf(p *erasure.Progress, name string) *erasure.Removed {
	i := slices.IndexFunc(p.Tables, func(t erasure.Removed) bool { return t.Table == name })
	if i < 0 {
		i = len(p.Tables)
		p.Tables = append(p.Tables, erasure.Removed{Table: name})
	}
	return &p.Tables[i]
}

// confirm waits until the store lane has committed everything that is in the log now, and removes what it
// has stored meanwhile until there is nothing.
func (w *Worker) confirm(ctx context.Context, e *erasure.Erasure) error {
	w.report(ctx, e, func(p *erasure.Progress) { p.State = erasure.Confirming })
	ends, err := w.ends(ctx)
	if err != nil {
		return err
	}
	for reported := time.Now(); ; {
		behind, err := w.behind(ctx, ends)
		if err != nil {
			return err
		}
		if behind > 0 {
			if time.Since(reported) > reportEvery {
				reported = time.Now()
				if _, err := w.remove(ctx, e); err != nil {
					return err
				}
				w.report(ctx, e, func(p *erasure.Progress) {
					p.Reason = fmt.Sprintf("the aggregators' store lane is %d records behind: "+
						"it may still store what is erased", behind)
				})
			}
			if err := retry.Sleep(ctx, pollInterval); err != nil {
				return err
			}
			continue
		}
		found, err := w.remove(ctx, e)
		if err != nil || found == 0 {
			return err
		}
	}
}

// ends returns the ends of all partitions that the store lane reads.
func (w *Worker) ends(ctx context.Context) (map[string][]int64, error) {
	n, err := w.log.Partitions(ctx, topic.Events)
	if err != nil {
		return nil, fmt.Errorf("read the log's ends: %w", err)
	}
	ends := map[string][]int64{}
	for _, name := range []string{topic.Events, topic.Windows} {
		for p := range n {
			_, end, err := w.log.Bounds(ctx, name, p)
			if err != nil {
				return nil, fmt.Errorf("read the log's ends: %w", err)
			}
			ends[name] = append(ends[name], end)
		}
	}
	return ends, nil
}

// behind returns how many records before the ends the store lane hasn't committed.
func (w *Worker) behind(ctx context.Context, ends map[string][]int64) (n int64, err error) {
	partitions := make([]int, len(ends[topic.Events]))
	for p := range partitions {
		partitions[p] = p
	}
	all, err := w.log.Committed(ctx, topic.Group("store"), partitions, topic.Events, topic.Windows)
	if err != nil {
		return 0, fmt.Errorf("read the store lane's positions: %w", err)
	}
	for _, x := range all {
		n += max(0, ends[x.Topic][x.Partition]-max(0, x.Offset))
	}
	return n, nil
}

// dueSweep returns when an erasure that has ended is looked at again: the older it is, the later.
func (w *Worker) dueSweep(e *erasure.Erasure) time.Time {
	last := w.swept[e.ID]
	if last.IsZero() {
		return time.Time{}
	}
	return last.Add(min(max(firstSweep, last.Sub(e.At)), 24*time.Hour))
}

// sweep looks again at the erasures that have ended and are due. It removes what has come back.
func (w *Worker) sweep(ctx context.Context) {
	for _, e := range w.erasures.All() {
		now := time.Now()
		if e.State != erasure.Done || w.dueSweep(e).After(now) {
			continue
		}
		found := uint64(0)
		for _, t := range tables {
			n, err := t.count(ctx, w.db, &e.Request)
			if err == nil && n > 0 {
				err = t.erase(ctx, w.db, &e.Request)
			}
			if err != nil {
				if ctx.Err() == nil {
					w.logger.Warn("can't look for rows that are erased", "erasure", e.ID, "error", err)
				}
				return
			}
			if n > 0 {
				w.report(ctx, e, func(p *erasure.Progress) { tableOf(p, t.name).Found += n })
			}
			found += n
		}
		if found > 0 {
			w.logger.Warn("rows that are erased had come back and are removed", "erasure", e.ID, "rows",
				found)
		}
		w.swept[e.ID] = now
	}
}

const (
	defaultSegment = 7 * 24 * time.Hour // Kafka's default of segment.ms
	replacedParts  = 10 * time.Minute   // ClickHouse deletes replaced parts after 8 minutes
	spoolAge       = 24 * time.Hour     // the default of --spool-age
)

// copies lists the copies that expire later, each with its latest time.
func (w *Worker) copies(ctx context.Context, e *erasure.Erasure) []erasure.Copy {
	now := time.Now().UTC()
	out := []erasure.Copy{
		{Where: "ClickHouse, replaced parts", Note: "on disk, read by nothing",
			Expires: now.Add(replacedParts)},
		{Where: topic.Events, Note: "every reader leaves the events out", Expires: w.expiry(ctx, topic.Events,
			e)},
		{Where: "spools of ingest", Note: "only after an outage of Kafka: events that wait on disk " +
			"(--spool-age) are left out when they reach the log", Expires: e.Before.Add(spoolAge)},
	}
	if e.Kind == erasure.Site {
		out = append(out, erasure.Copy{Where: topic.Windows, Note: "counts by the second, without visitors",
			Expires: w.expiry(ctx, topic.Windows, e)})
	}
	slices.SortStableFunc(out, func(a, b erasure.Copy) int {
		return cmp.Compare(a.Expires.Unix(),
			b.Expires.Unix())
	})
	return out
}

// expiry returns when a topic has deleted the newest record that an erasure covers. Kafka deletes whole
// segments, so the time that a segment is filled counts too.
func (w *Worker) expiry(ctx context.Context, name string, e *erasure.Erasure) time.Time {
	keep, segment := 30*24*time.Hour, defaultSegment
	got, err := w.log.Settings(ctx, name, "retention.ms", "segment.ms")
	if err != nil && ctx.Err() == nil {
		w.logger.Warn("can't read the settings of a topic", "topic", name, "error", err)
	}
	if d, ok := milliseconds(got["retention.ms"]); ok {
		keep = d
	}
	if d, ok := milliseconds(got["segment.ms"]); ok {
		segment = d
	}
	return e.Before.Add(keep + segment).UTC()
}

func milliseconds(s string) (time.Duration, bool) {
	d, err := time.ParseDuration(s + "ms")
	return d, err == nil && d > 0
}
