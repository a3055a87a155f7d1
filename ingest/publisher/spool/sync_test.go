package spool

import (
	"bufio"
	"errors"
	"flag"
	"io"
	"os"
	"testing"

	"nowcast/internal/mutationtest"
)

var mutations = flag.Bool("mutations", false, "run TestMutations")

// Append returns nil only after a sync of the file that has all of its envelopes, and fails with the sync.
func TestAppendSyncs(t *testing.T) {
	var synced []int // envelopes in the file, by sync
	var fail error
	s := open(t, t.TempDir(), func(c *Config) {
		c.sync = func(f *os.File) error {
			if fail != nil {
				return fail
			}
			r, n := bufio.NewReader(io.NewSectionReader(f, prologueSize, 1<<40)), 0
			for ; ; n++ {
				if _, _, err := readEnvelope(r); err != nil {
					break
				}
			}
			synced = append(synced, n)
			return f.Sync()
		}
	})
	q := s.Queue(1, 0)
	for i, want := range []int{3, 8, 9} {
		put(t, q, numbered([]int{0, 3, 8}[i], want, 100))
		if len(synced) != i+1 || synced[i] != want {
			t.Fatalf("after %d envelopes: syncs of %v", want, synced)
		}
	}
	fail = errors.New("the disk is gone")
	if err := q.Append(numbered(9, 10, 100)); !errors.Is(err, fail) || q.Len() != 9 {
		t.Errorf("a sync that fails: %v, %d envelopes", err, q.Len())
	}
	fail = nil
	put(t, q, numbered(9, 11, 100))
	if n := len(synced); synced[n-1] != 2 { // in a new file
		t.Errorf("syncs of %v", synced)
	}
	check(t, take(t, q), 0, 11)
}

func TestMutations(t *testing.T) {
	if !*mutations {
		t.Skip("builds this package: run make test-mutations")
	}
	const tests = "^TestAppendSyncs$"
	mutationtest.Check(t, []mutationtest.Mutant{
		{Name: "no sync", File: "queue.go", Tests: tests,
			Old: "err = q.s.cfg.sync(f.f)", Replacement: "err = nil"},
		{Name: "a failed sync is ignored", File: "queue.go", Tests: tests,
			Old: "err = q.s.cfg.sync(f.f)", Replacement: "_ = q.s.cfg.sync(f.f)"},
		{Name: "no mutation", File: "queue.go", Tests: tests, Unnoticed: true,
			Old: "err = q.s.cfg.sync(f.f)", Replacement: "err = q.s.cfg.sync(f.f) // the same"},
	})
}

// What the log refuses for good is counted again by the next process. A torn line at the end is cut off.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 3 {
		x := Refused{Partition: 1, Events: i, Reason: "too large", Data: []byte{1, 2}}
		if err := s.Refuse(x); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Close()
	f, err := os.OpenFile(dir+"/"+RefusedFile, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, `{"at":"2026`)
	f.Close()
	s = open(t, dir)
	if n, events, reason := s.RefusedCount(); n != 3 || events != 3 || reason != "too large" {
		t.Errorf("%d envelopes, %d events, %q", n, events, reason)
	}
	if err := s.Refuse(Refused{Events: 1, Reason: "again"}); err != nil {
		t.Fatal(err)
	}
	s.refused.bytes = maxRefusedBytes
	if err := s.Refuse(Refused{Events: 1}); !errors.Is(err, ErrRefusedFull) {
		t.Errorf("a full file: %v", err)
	}
	_ = s.Close()
	s = open(t, dir)
	if n, _, reason := s.RefusedCount(); n != 4 || reason != "again" {
		t.Errorf("%d envelopes, %q", n, reason)
	}
}
