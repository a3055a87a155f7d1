package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func open(t *testing.T, dir string, change ...func(*Config)) *Spool {
	t.Helper()
	cfg := Config{Dir: dir, MinFreeBytes: 1, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// numbered returns envelopes with the numbers from, inclusive, to to, exclusive, and data of size bytes.
func numbered(from, to, size int) (all []Envelope) {
	for i := from; i < to; i++ {
		all = append(all, Envelope{At: time.Now().UnixMilli(), Events: i,
			Data: bytes.Repeat([]byte{byte(i)}, size)})
	}
	return all
}

func put(t *testing.T, q *Queue, all []Envelope) {
	t.Helper()
	if err := q.Append(all); err != nil {
		t.Fatal(err)
	}
}

// take reads and removes all envelopes.
func take(t *testing.T, q *Queue) (events []int) {
	t.Helper()
	for {
		e, ok := q.Head()
		if !ok {
			return events
		}
		if second, _ := q.Head(); second.Events != e.Events {
			t.Fatalf("head %d, then %d", e.Events, second.Events)
		}
		if len(e.Data) > 0 && e.Data[0] != byte(e.Events) {
			t.Fatalf("envelope %d has the data of another", e.Events)
		}
		events = append(events, e.Events)
		q.Pop()
	}
}

func check(t *testing.T, got []int, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Fatalf("%d envelopes, want %d", len(got), to-from)
	}
	for i, g := range got {
		if g != from+i {
			t.Fatalf("envelope %d at %d, want %d", g, i, from+i)
		}
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestQueue(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	q := s.Queue(7, 3)
	if _, ok := q.Head(); ok || s.Oldest() != 0 || len(files(t, dir)) != 0 {
		t.Error("a new queue isn't empty")
	}
	put(t, q, numbered(0, 10, 100))
	put(t, q, numbered(10, 20, 0))
	if s.Envelopes() != 20 || q.Len() != 20 || s.Bytes() != 20*headerSize+10*100 || s.Oldest() == 0 {
		t.Errorf("%d envelopes, %d bytes, oldest %d", s.Envelopes(), s.Bytes(), s.Oldest())
	}
	check(t, take(t, q), 0, 20)
	if s.Envelopes() != 0 || s.Bytes() != 0 || s.Oldest() != 0 || len(files(t, dir)) != 0 {
		t.Errorf("after all: %d envelopes, %d bytes, files %v", s.Envelopes(), s.Bytes(), files(t, dir))
	}
	put(t, q, numbered(20, 30, 1)) // reuse the empty queue
	check(t, take(t, q), 20, 30)
}

// What was appended is there for the next process, whatever this one had read, in the order of its
// queues.
func TestRecovered(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	a, b := s.Queue(1, 0), s.Queue(2, 1)
	for i := 0; i < 40; i += 8 { // three files
		put(t, a, numbered(i, i+8, 1<<20))
	}
	put(t, b, numbered(0, 3, 10))
	for range 25 {
		a.Head()
		a.Pop()
	}
	if n := len(files(t, dir)); n != 3 {
		t.Errorf("%d files", n)
	}
	if _, err := Open(Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}); err == nil ||
		!strings.Contains(err.Error(), "--spool-dir") {
		t.Errorf("opened twice: %v", err)
	}
	_ = s.Close()
	s = open(t, dir)
	recovered := s.Recovered()
	if len(recovered) != 2 || recovered[0].node != 1 || recovered[0].Partition() != 0 ||
		recovered[1].node != 2 || recovered[1].Partition() != 1 {
		t.Fatalf("recovered: %v", recovered)
	}
	got := take(t, recovered[0])
	check(t, got, got[0], 40)
	if got[0] != 25 {
		t.Errorf("the next process begins at envelope %d", got[0])
	}
	check(t, take(t, recovered[1]), 0, 3)
	if len(files(t, dir)) != 0 || s.Bytes() != 0 {
		t.Errorf("%v, %d bytes", files(t, dir), s.Bytes())
	}
}

// TestDamage opens files with a torn or altered tail: it is cut off and counted, and what is before it
// stays.
func TestDamage(t *testing.T) {
	const at = int(prologueSize) + 5*(headerSize+50)
	for name, x := range map[string]struct {
		harm func(b []byte) []byte
		want int
	}{
		"cut in a header":     {func(b []byte) []byte { return b[:at+7] }, 5},
		"cut in the data":     {func(b []byte) []byte { return b[:at+headerSize+9] }, 5},
		"a flipped bit":       {func(b []byte) []byte { b[at+headerSize+9] ^= 1; return b }, 5},
		"a long length":       {func(b []byte) []byte { b[at+7] = 0xff; return b }, 5},
		"zeros behind":        {func(b []byte) []byte { return append(b, make([]byte, 4096)...) }, 10},
		"cut in the prologue": {func(b []byte) []byte { return b[:9] }, 0},
		"a mark in between":   {func(b []byte) []byte { b[len(magic)] += 7; return b }, 10},
		"a mark": {func(b []byte) []byte {
			binary.LittleEndian.PutUint64(b[len(magic):],
				uint64(at))
			return b
		}, -5},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			put(t, s.Queue(1, 0), numbered(0, 10, 50))
			_ = s.Close()
			file := files(t, dir)[0]
			b, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, x.harm(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
			var got []int
			for _, q := range s.Recovered() {
				got = append(got, take(t, q)...)
			}
			if x.want < 0 {
				check(t, got, -x.want, 10)
			} else {
				check(t, got, 0, x.want)
			}
			if damaged := !strings.HasPrefix(name, "a mark"); damaged != (s.UnreadableBytes() > 0) {
				t.Errorf("%d bytes are counted as unreadable", s.UnreadableBytes())
			}
			if s.Bytes() != 0 || s.Envelopes() != 0 {
				t.Errorf("%d bytes, %d envelopes", s.Bytes(), s.Envelopes())
			}
		})
	}
}

// TestForeignFile leaves a file of another program as it is.
func TestForeignFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, fmt.Sprintf(fileName, 1, 0, 0))
	content := []byte("nowcast9 with a prologue of its own")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if s := open(t, dir); len(s.Recovered()) != 0 {
		t.Error(s.Recovered())
	}
	if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, content) {
		t.Error(b, err)
	}
}

// TestDamageWhileRunning flips a bit: the rest of its file is lost, the other files aren't.
func TestDamageWhileRunning(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	q := s.Queue(1, 0)
	put(t, q, numbered(0, 17, 1<<20))
	put(t, q, numbered(17, 20, 10))
	f, err := os.OpenFile(files(t, dir)[0], os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{0xff}, prologueSize+3*(headerSize+1<<20)+100)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := take(t, q)
	if fmt.Sprint(got) != "[0 1 2 17 18 19]" || s.UnreadableBytes() != 14*(headerSize+1<<20) ||
		s.Envelopes() != 0 || s.Bytes() != 0 {
		t.Errorf("got %v, %d unreadable, %d left", got, s.UnreadableBytes(), s.Envelopes())
	}
}

// TestFull reaches each bound: appending fails until the queue is empty again.
func TestFull(t *testing.T) {
	for name, x := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"size":      {func(c *Config) { c.MaxBytes = 1000 }, "wait on disk"},
		"age":       {func(c *Config) { c.MaxAge = time.Nanosecond }, "oldest event has waited"},
		"free disk": {func(c *Config) { c.MinFreeBytes = 1 << 60 }, "have to stay free"},
	} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, dir, x.change)
			q := s.Queue(1, 0)
			var err error
			n := 0
			for ; n < 100 && err == nil; n++ {
				time.Sleep(15 * time.Millisecond)
				err = q.Append(numbered(n, n+1, 100))
			}
			if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), x.want) ||
				!errors.Is(s.Full(), ErrFull) {
				t.Errorf("%s: %v", name, err)
			}
			check(t, take(t, q), 0, n-1) // what was appended before stays
			if name != "free disk" {
				time.Sleep(110 * time.Millisecond)
				if err := q.Append(numbered(0, 1, 1)); err != nil {
					t.Errorf("%s: once it is empty: %v", name, err)
				}
			}
		})
	}
}

// TestWriteFails lets a write fail: it returns the error and appends nothing, and the next write
// succeeds.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	q := s.Queue(1, 0)
	put(t, q, numbered(0, 3, 10))
	good := q.files[0].f
	q.files[0].f = func() *os.File { f, _ := os.Open(q.files[0].name); return f }() // opened to read
	if err := q.Append(numbered(3, 5, 10)); err == nil {
		t.Fatal("written to a file that is only read")
	}
	q.files[0].f.Close()
	q.files[0].f = good
	put(t, q, numbered(3, 6, 10))
	check(t, take(t, q), 0, 6)
}

// TestTogether appends while another goroutine reads.
func TestTogether(t *testing.T) {
	s := open(t, t.TempDir())
	q := s.Queue(1, 0)
	const n = 600
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; i < n; i += 4 {
			if err := q.Append(numbered(i, i+4, 30_000)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var got []int
	for end := time.Now().Add(60 * time.Second); len(got) < n && time.Now().Before(end); {
		got = append(got, take(t, q)...)
	}
	wg.Wait()
	check(t, got, 0, n)
	if s.Bytes() != 0 || s.Envelopes() != 0 {
		t.Errorf("%d bytes, %d envelopes", s.Bytes(), s.Envelopes())
	}
}
