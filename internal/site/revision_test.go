package site

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

// produce writes records as another program might, given as key and value; "-" is a tombstone.
func (w *world) produce(records ...string) {
	w.t.Helper()
	c := broker.New(broker.Config{Addrs: w.addrs})
	defer c.Close()
	for i := 0; i < len(records); i += 2 {
		value := []byte(records[i+1])
		if records[i+1] == "-" {
			value = nil
		}
		if _, err := c.ProduceKeyed(w.t.Context(), topic.Sites, []byte(records[i]), value); err != nil {
			w.t.Fatal(err)
		}
	}
}

// newest returns the newest value of each key of the topic: what compaction leaves.
func (w *world) newest() map[string][]byte {
	w.t.Helper()
	c := broker.New(broker.Config{Addrs: w.addrs})
	defer c.Close()
	_, end, err := c.Bounds(w.t.Context(), topic.Sites, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string][]byte{}
	done := errors.New("read")
	err = c.Follow(w.t.Context(), broker.Follower{Topic: topic.Sites, Record: func(r broker.Record) error {
		all[string(r.Key)] = bytes.Clone(r.Value)
		if r.Offset == end-1 {
			return done
		}
		return nil
	}})
	if !errors.Is(err, done) {
		w.t.Fatal(err)
	}
	return all
}

// compacted returns a registry that sees only the newest record of each key.
func (w *world) compacted() *Registry {
	w.t.Helper()
	other := newWorld(w.t)
	for k, v := range w.newest() {
		if v == nil {
			other.produce(k, "-")
		} else {
			other.produce(k, string(v))
		}
	}
	return other.ready(other.registry())
}

// No change is lost however many writers change a site at once, on two registries, and both end up with the
// same state.
func TestConcurrentChanges(t *testing.T) {
	w := newWorld(t)
	a, b := w.ready(w.registry()), w.ready(w.registry())
	if err := a.Put(t.Context(), Site{Domain: "x.example.com"}); err != nil {
		t.Fatal(err)
	}
	w.soon("the other has it", func() bool { _, ok := b.Lookup("x.example.com"); return ok })
	const writers, changes = 4, 250
	var wg sync.WaitGroup
	var done, refused atomic.Int64
	for _, r := range []*Registry{a, b} {
		for range writers {
			wg.Go(func() {
				for range changes {
					_, err := r.Change(t.Context(), "x.example.com",
						func(s *Site) error { s.RetentionDays++; return nil })
					switch {
					case err == nil:
						done.Add(1)
					case errors.Is(err, ErrConflict):
						refused.Add(1)
					default:
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	want := int(done.Load())
	w.soon("both have the same state", func() bool {
		x, _ := a.Lookup("x.example.com")
		y, _ := b.Lookup("x.example.com")
		return x.Revision == y.Revision && x.RetentionDays == want && y.RetentionDays == want
	})
	w.soon("the topic's newest record is in effect", func() bool {
		var s Site
		err := json.Unmarshal(w.newest()["site/x.example.com"], &s)
		return err == nil && s.RetentionDays == want
	})
	t.Logf("%d changes, %d refused", want, refused.Load())
	if want < writers*changes {
		t.Error("most writers were refused")
	}
}

// Exactly one of many removals of an object succeeds, and exactly one of many creations of a site.
func TestOnlyOneSucceeds(t *testing.T) {
	w := newWorld(t)
	all := []*Registry{w.ready(w.registry()), w.ready(w.registry())}
	if err := all[0].Put(t.Context(), Site{Domain: "x.example.com"}); err != nil {
		t.Fatal(err)
	}
	for round := range 100 {
		l, _, err := all[0].NewLink(t.Context(), "x.example.com", "n")
		if err != nil {
			t.Fatal(err)
		}
		w.soon("the other has it", func() bool { _, ok := all[1].Link(l.ID); return ok })
		domain := fmt.Sprintf("s%d.example.com", round)
		var wg sync.WaitGroup
		var removed, made atomic.Int64
		for _, r := range all {
			for range 3 {
				wg.Go(func() {
					switch err := r.DeleteLink(t.Context(), "x.example.com", l.ID); {
					case err == nil:
						removed.Add(1)
					case !errors.Is(err, ErrNotFound):
						t.Error(err)
					}
				})
				wg.Go(func() {
					switch _, err := r.Create(t.Context(), Site{Domain: domain}); {
					case err == nil:
						made.Add(1)
					case !errors.Is(err, ErrExists):
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if removed.Load() != 1 || made.Load() != 1 {
			t.Fatalf("round %d: %d removed it, %d made the site", round, removed.Load(), made.Load())
		}
	}
}

// A record that lost against another one is followed by the one in effect, also when its writer is gone:
// after compaction a later start has the same state.
func TestRejectedRecordIsRepaired(t *testing.T) {
	w := newWorld(t)
	a := w.registry()
	a.repairDelay = time.Millisecond // before it is ready nothing reads it
	w.ready(a)
	if _, err := a.Create(t.Context(), Site{Domain: "x.example.com", RetentionDays: 7}); err != nil {
		t.Fatal(err)
	}
	const late = `{"revision":1,"write":"other","domain":"x.example.com","timezone":"UTC","public":true,` +
		`"created":"2026-11-23T12:00:00Z"}`
	w.produce("site/x.example.com", late)
	w.soon("the newest record is in effect", func() bool {
		return !strings.Contains(string(w.newest()["site/x.example.com"]), `"public":true`)
	})
	for _, r := range []*Registry{a, w.ready(w.registry()), w.compacted()} {
		if s, ok := r.Lookup("x.example.com"); !ok || s.Public || s.RetentionDays != 7 || s.Revision != 2 {
			t.Errorf("%t %+v", ok, s)
		}
	}
	// A removal is repeated too.
	if err := a.Delete(t.Context(), "x.example.com"); err != nil {
		t.Fatal(err)
	}
	w.produce("site/x.example.com", late)
	w.soon("the removal is the newest record", func() bool {
		return strings.Contains(string(w.newest()["site/x.example.com"]), `"removed"`)
	})
	if _, ok := w.compacted().Lookup("x.example.com"); ok {
		t.Error("the site is back")
	}
}

// A registry that starts from a compacted log takes a rejected record for the one in effect, until the repair
// comes; the gap in its revisions doesn't matter.
func TestRepairAfterCompaction(t *testing.T) {
	w := newWorld(t)
	const domain = `"domain":"x.example.com","timezone":"UTC","created":"2026-11-23T12:00:00Z"}`
	w.produce("site/x.example.com", `{"revision":3,"write":"loser","public":true,`+domain)
	r := w.ready(w.registry())
	if s, _ := r.Lookup("x.example.com"); !s.Public || s.Revision != 3 {
		t.Errorf("%+v", s)
	}
	w.produce("site/x.example.com", `{"revision":8,"write":"repair",`+domain)
	w.soon("the repair is in effect", func() bool { s, _ := r.Lookup("x.example.com"); return !s.Public })
}

// Records of versions before revisions are in effect in the order of the log.
func TestRecordsWithoutRevision(t *testing.T) {
	w := newWorld(t)
	rest := `"id":"k","name":"n","hash":"` + hash("nck_x") + `","created":"2026-11-23T12:00:00Z"}`
	const site = `{"domain":"x.example.com","timezone":"UTC","created":"2026-11-23T12:00:00Z","public":`
	w.produce("key/k", `{"admin":false,`+rest, "site/x.example.com", site+`true}`)
	r := w.ready(w.registry())
	if k, ok := r.Authenticate("nck_x"); !ok || !k.AllSites {
		t.Errorf("a key of a version in which no sites meant all: %t %+v", ok, k)
	}
	s, err := r.Change(t.Context(), "x.example.com", func(s *Site) error { s.Listed = true; return nil })
	if err != nil ||
		s.Revision != 1 || s.Generation != s.Created.UnixMilli() {
		t.Errorf("%v %+v", err, s)
	}
	// An old process writes, while others have revisions already.
	w.produce("site/x.example.com", site+`false}`)
	w.soon("it is in effect", func() bool { s, _ := r.Lookup("x.example.com"); return !s.Public })
	s, err = r.Change(t.Context(), "x.example.com", func(s *Site) error { s.Public = true; return nil })
	if err != nil ||
		s.Revision != 1 {
		t.Errorf("%v %+v", err, s)
	}
	w.produce("key/k", `{"revision":1,"write":"w","admin":false,`+rest)
	w.soon("a key of today without sites opens none", func() bool {
		k, ok := r.Authenticate("nck_x")
		return ok && !k.AllSites && !k.MayRead(Site{Domain: "x.example.com"})
	})
	w.produce("site/x.example.com", "-", "key/k", "-")
	w.soon("both are gone", func() bool {
		_, found := r.Lookup("x.example.com")
		return !found && len(r.Keys()) == 0
	})
}

// A record that reached the log twice, because the first answer was lost, is no conflict.
func TestRecordWrittenTwice(t *testing.T) {
	w := newWorld(t)
	r := w.ready(w.registry())
	value, err := encode(header{Revision: 1, Write: "w"}, Site{Domain: "x.example.com", Timezone: "UTC"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if v, err := r.commit(t.Context(), "site/x.example.com", value, "w"); err != nil || v != inEffect {
			t.Errorf("%d %v", v, err)
		}
	}
	if len(r.danglingKeys()) != 0 {
		t.Error("it is to be repaired")
	}
}

// A site that is made again is another one.
func TestGeneration(t *testing.T) {
	w := newWorld(t)
	a, b := w.ready(w.registry()), w.ready(w.registry())
	ctx := context.Background()
	old, err := a.Create(ctx, Site{Domain: "x.example.com", Public: true, RetentionDays: 30})
	if err != nil || old.Generation == 0 || old.Revision != 1 {
		t.Fatal(old, err)
	}
	if _, err := a.Create(ctx, Site{Domain: "x.example.com"}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	_, secret, err := a.NewLink(ctx, "x.example.com", "n")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Delete(ctx, "x.example.com"); err != nil {
		t.Fatal(err)
	}
	removed := time.Now()
	w.soon("the other knows it", func() bool { _, ok := b.Lookup("x.example.com"); return !ok })
	c := w.compacted()
	for _, r := range []*Registry{b, c} {
		made, err := r.Create(ctx, Site{Domain: "x.example.com"})
		if err != nil || made.Generation <= old.Generation || made.RetentionDays != 0 || made.Public {
			t.Errorf("%v %+v", err, made)
		}
		if made.Created.Unix() <= removed.Unix() {
			t.Errorf("removed %s, created %s", removed, made.Created)
		}
		if _, ok := r.AuthenticateLink(secret); ok {
			t.Error("a link of the former site opens it")
		}
	}
	w.soon("all see the new one", func() bool { s, ok := a.Lookup("x.example.com"); return ok && !s.Public })
}
