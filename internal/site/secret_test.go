package site

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// All who start at once agree on one secret, and so do those that start later, also after compaction.
func TestSecret(t *testing.T) {
	w := newWorld(t)
	var all []*Registry
	for range 5 {
		r := w.registry()
		all = append(all, r)
	}
	var wg sync.WaitGroup
	for _, r := range all {
		wg.Go(func() { w.ready(r) })
	}
	wg.Wait()
	w.soon("the rejected records are repaired", func() bool {
		return !slices.ContainsFunc(all, func(r *Registry) bool { return len(r.danglingKeys()) > 0 })
	})
	all = append(all, w.ready(w.registry()), w.compacted())
	first := all[0].SigningKey("ticket")
	for _, r := range all {
		if v, _ := r.SecretVersion(); r.SigningKey("ticket") != first || first == [32]byte{} || v != 1 ||
			r.PartitionKey() != all[0].PartitionKey() {
			t.Errorf("version %d: %x, %x", v, r.SigningKey("ticket"), first)
		}
		if r.SigningKey("session") == first || len(r.AcceptedKeys("ticket")) != 1 {
			t.Error("two uses have the same key, or there are more keys than one")
		}
	}
}

// A rotation makes another key for each use. What the former one signed is valid for a day or until the next
// rotation. Of rotations at once one counts.
func TestRotateSecret(t *testing.T) {
	w := newWorld(t)
	a, b := w.ready(w.registry()), w.ready(w.registry())
	first, partition := a.SigningKey("ticket"), a.PartitionKey()
	if v, err := a.RotateSecret(t.Context()); v != 2 || err != nil {
		t.Fatal(v, err)
	}
	second := a.SigningKey("ticket")
	w.soon("the other signs with it", func() bool { return b.SigningKey("ticket") == second })
	for _, r := range []*Registry{a, b, w.ready(w.registry())} {
		if got := r.AcceptedKeys("ticket"); !slices.Equal(got, [][32]byte{second, first}) || first == second {
			t.Errorf("%x", got)
		}
		if r.PartitionKey() != partition {
			t.Error("visitors move to other partitions")
		}
	}
	if v, err := b.RotateSecret(t.Context()); v != 3 || err != nil {
		t.Fatal(v, err)
	}
	third := b.SigningKey("ticket")
	if got := b.AcceptedKeys("ticket"); !slices.Equal(got, [][32]byte{third, second}) {
		t.Errorf("after two rotations: %x", got)
	}
	all := *b.secrets.versions.Load()
	all[0].created = all[0].created.Add(-secretGrace)
	if got := b.AcceptedKeys("ticket"); !slices.Equal(got, [][32]byte{third}) {
		t.Errorf("a day after a rotation: %x", got)
	}
	w.soon("the other has it too", func() bool { return a.SigningKey("ticket") == third })
	var done atomic.Int64
	var wg sync.WaitGroup
	for _, r := range []*Registry{a, b} {
		wg.Go(func() {
			switch _, err := r.RotateSecret(t.Context()); {
			case err == nil:
				done.Add(1)
			case !errors.Is(err, ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if done.Load() == 0 {
		t.Error("no rotation counts")
	}
}

// The secret of a cluster of an older program is version 0: its first record counts, and is written again when
// a different one follows.
func TestSecretOfAnOlderProgram(t *testing.T) {
	w := newWorld(t)
	old := strings.Repeat("ab", 32)
	w.produce(legacySecret, old)
	a := w.ready(w.registry())
	wantPartition := [16]byte([]byte(strings.Repeat("\xab", 16)))
	if v, at := a.SecretVersion(); v != 0 || !at.IsZero() || a.PartitionKey() != wantPartition {
		t.Errorf("version %d, partitions by %x", v, a.PartitionKey())
	}
	key := a.SigningKey("ticket")
	for _, v := range []string{strings.Repeat("cd", 32), "zz", "-"} {
		w.produce(legacySecret, v)
		w.soon("the last is the first again", func() bool { return string(w.newest()[legacySecret]) == old })
	}
	if a.SigningKey("ticket") != key || w.ready(w.registry()).SigningKey("ticket") != key {
		t.Error("the secret has changed")
	}
	if v, err := a.RotateSecret(t.Context()); v != 1 || err != nil {
		t.Fatal(v, err)
	}
	for _, r := range []*Registry{a, w.ready(w.registry()), w.compacted()} {
		if got := r.AcceptedKeys("ticket"); len(got) != 2 || got[1] != key ||
			r.PartitionKey() != wantPartition {
			t.Errorf("after a rotation: %x", got)
		}
	}
	if created := time.Now().Add(-time.Minute); (*a.secrets.versions.Load())[0].created.Before(created) {
		t.Error("the new version has no time")
	}
}
