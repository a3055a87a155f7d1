package embedded_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"nowcast/internal/embedded"
	"nowcast/internal/warehouse"
)

const crashes = 4

// load calls a step with 0, 1, 2, … until it is stopped, and repeats a step that fails.
type load struct {
	*testing.T
	done    atomic.Int64 // steps that succeeded
	quit    chan struct{}
	running sync.WaitGroup
}

func startLoad(t *testing.T, step func(n int) error) *load {
	l := &load{T: t, quit: make(chan struct{})}
	l.running.Go(func() {
		for {
			if step(int(l.done.Load())) == nil {
				l.done.Add(1)
			}
			select {
			case <-l.quit:
				return
			default:
			}
		}
	})
	return l
}

// waitFor waits until n further steps have succeeded.
func (l *load) waitFor(n int64) {
	l.Helper()
	want := l.done.Load() + n
	eventually(l.T, 30*time.Second, func() (bool, string) {
		done := l.done.Load()
		return done >= want, fmt.Sprintf("%d steps, want %d", done, want)
	})
}

// stop ends the load and returns how many steps succeeded.
func (l *load) stop() int {
	close(l.quit)
	l.running.Wait()
	return int(l.done.Load())
}

func TestBrokerSurvivesKill(t *testing.T) {
	t.Parallel()
	b := newBroker(t, t.TempDir())
	run(t, b)
	k := newClient(t, b.Addr())
	create(t, k, "ev")
	last := -1
	l := startLoad(t, func(n int) error {
		err := produce(t, k, "ev", time.Now(), binary.BigEndian.AppendUint64(nil, uint64(n)))
		if err == nil {
			last = n
		}
		return err
	})
	for range crashes {
		l.waitFor(200)
		t.Logf("ready again after %v", crash(t, b))
	}
	done := l.stop()
	if done < 100 || last != done-1 {
		t.Fatalf("only %d records were acknowledged", done)
	}
	found := make([]bool, done)
	for _, v := range fetch(t, k, "ev", 0) {
		if n := binary.BigEndian.Uint64(v); n < uint64(done) {
			found[n] = true
		}
	}
	for n, ok := range found {
		if !ok {
			t.Fatalf("acknowledged record %d of %d is gone", n, done)
		}
	}
	t.Logf("%d acknowledged records are in the log", done)
}

// fetch reads a partition from an offset to its end.
func fetch(t *testing.T, k *kafka.Client, topic string, from int64) (values [][]byte) {
	t.Helper()
	for {
		r, err := k.Fetch(t.Context(), &kafka.FetchRequest{Topic: topic, Offset: from,
			MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 100 * time.Millisecond})
		if err == nil {
			err = r.Error
		}
		if err != nil {
			t.Fatal(err)
		}
		for {
			record, err := r.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			v, err := kafka.ReadAll(record.Value)
			if err != nil {
				t.Fatal(err)
			}
			values, from = append(values, v), record.Offset+1
		}
		if from >= r.HighWatermark {
			return values
		}
	}
}

func TestClickHouseSurvivesKill(t *testing.T) {
	t.Parallel()
	h := newClickHouse(t, t.TempDir())
	run(t, h)
	db := open(t, h.DSN())
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	const rows = 5000
	l := startLoad(t, func(n int) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return insertMany(token(ctx, strconv.Itoa(n)), db, n*rows, rows)
	})
	for range crashes {
		l.waitFor(2)
		t.Logf("ready again after %v", crash(t, h))
	}
	done := l.stop()
	if done < crashes {
		t.Fatalf("only %d batches were acknowledged", done)
	}
	// Each batch was sent until it was acknowledged, each time with the same token, so each row exists
	// exactly once.
	var count, distinct uint64
	err := db.QueryRow(t.Context(), "SELECT count(), uniqExact(visitor) FROM events").Scan(&count, &distinct)
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(done * rows); count != want || distinct != want {
		t.Errorf("got %d rows, %d distinct, want %d", count, distinct, want)
	}
	t.Logf("%d acknowledged batches are in the table, once", done)
}

func insertMany(ctx context.Context, db *warehouse.DB, from, n int) error {
	b, err := db.PrepareBatch(ctx, "INSERT INTO events (site, ts, visitor, id)")
	if err != nil {
		return err
	}
	at := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for i := from; i < from+n; i++ {
		ts := at.Add(time.Duration(i) * time.Millisecond)
		if err := b.Append("kill.example", ts, uint64(i), fmt.Sprintf("%016d", i)); err != nil {
			return err
		}
	}
	return b.Send()
}

// parentCommand runs both parts in a process that the test kills.
const parentCommand = "test-parent"

func parentMain(dir, library string) int {
	ctx := context.Background()
	c := embedded.Config{Dir: dir, Log: discard, Library: library}
	b, err := embedded.NewBroker(c)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	h, err := embedded.NewClickHouse(c)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	go b.Run(ctx)
	go h.Run(ctx)
	for ; ; time.Sleep(5 * time.Millisecond) {
		if ok, _ := b.Ready(); !ok {
			continue
		}
		if ok, _ := h.Ready(); ok {
			break
		}
	}
	fmt.Println(b.PID(), h.PID(), b.Addr(), h.DSN())
	select {}
}

// The children of a killed parent end. The next parent can use the data dir at once, and finds the data
// in it.
func TestParentKilled(t *testing.T) {
	t.Parallel()
	dir, library := t.TempDir(), library(t)
	parent := exec.Command(os.Args[0], parentCommand, dir, library)
	parent.Stderr = t.Output()
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) != 4 {
		t.Fatalf("the parent printed %q, %v", line, err)
	}
	k, db := newClient(t, words[2]), open(t, words[3])
	create(t, k, "ev")
	err = errors.Join(produce(t, k, "ev", time.Now(), []byte("kept")),
		db.Migrate(t.Context()), insertMany(t.Context(), db, 0, 10))
	if err != nil {
		t.Fatal(err)
	}

	inUse := fmt.Sprintf("%s is in use by another nowcast (pid %d)", dir, parent.Process.Pid)
	var wg sync.WaitGroup // both wait in case that the parent is ending
	wg.Go(func() {
		_, err := embedded.NewBroker(config(t, dir))
		if err == nil || !strings.Contains(err.Error(), inUse) {
			t.Errorf("second broker on one data dir: got %v", err)
		}
	})
	_, err = embedded.NewClickHouse(config(t, dir))
	if err == nil || !strings.Contains(err.Error(), inUse) {
		t.Errorf("second ClickHouse on one data dir: got %v", err)
	}
	wg.Wait()

	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	b, h := newBroker(t, dir), newClickHouse(t, dir) // while the children may still drain
	run(t, b)
	run(t, h)
	for _, pid := range words[:2] {
		eventually(t, 10*time.Second, func() (bool, string) {
			state, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
			zombie := strings.Contains(string(state), ") Z ")
			return err != nil || zombie, "a child outlived its parent"
		})
	}
	if v := fetch(t, newClient(t, b.Addr()), "ev", 0); len(v) != 1 || string(v[0]) != "kept" {
		t.Errorf("log has %q", v)
	}
	if n := one[uint64](t, open(t, h.DSN()), "SELECT count() FROM events"); n != 10 {
		t.Errorf("table has %d rows", n)
	}
}

// A child has a process group of its own, so a terminal's Ctrl-C doesn't reach it.
func TestChildProcessGroup(t *testing.T) {
	b := newBroker(t, t.TempDir())
	run(t, b)
	if group, err := syscall.Getpgid(b.PID()); err != nil || group != b.PID() {
		t.Errorf("process group %d of process %d, %v", group, b.PID(), err)
	}
}

// A child that hangs is killed and started again.
func TestHungChild(t *testing.T) {
	t.Parallel() // three probes of 3 s fail before the child is killed
	b := newBroker(t, t.TempDir())
	run(t, b)
	old := b.PID()
	if err := syscall.Kill(old, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() (bool, string) {
		ok, reason := b.Ready()
		return ok && b.PID() != old, reason
	})
}

func TestUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.NewBroker(config(t, filepath.Join(file, "dir")))
	if err == nil || !strings.Contains(err.Error(), "make data dir") {
		t.Errorf("data dir below a file: got %v", err)
	}
	_, err = embedded.FindLibrary(filepath.Join(file, "libchdb.so"))
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("no library: got %v", err)
	}
	library(t)
	c := config(t, t.TempDir())
	c.Library = file // an empty file
	h, err := embedded.NewClickHouse(c)
	if err != nil {
		t.Fatal(err)
	}
	err = h.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "start embedded ClickHouse: load "+file) {
		t.Errorf("broken library: got %v", err)
	}
}

// The path of the data dir may be longer than a unix socket's path.
func TestLongDataDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long directory ", 10))
	h, b := newClickHouse(t, dir), newBroker(t, dir)
	stopClickHouse, stopBroker := start(t, h), start(t, b)
	if err := open(t, h.DSN()).Ping(t.Context()); err != nil {
		t.Error(err)
	}
	create(t, newClient(t, b.Addr()), "ev")
	if err := errors.Join(stopClickHouse(), stopBroker()); err != nil {
		t.Error(err)
	}
	for _, socket := range []string{strings.TrimPrefix(h.DSN(), "unix://"),
		strings.TrimPrefix(b.Addr(), "unix:")} {
		if _, err := os.Stat(filepath.Dir(socket)); err == nil {
			t.Errorf("%s wasn't removed", filepath.Dir(socket))
		}
	}
}

// A killed process leaves a directory for a socket behind, which the next one removes.
func TestLongDataDirKilled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long directory ", 10))
	parent := exec.Command(os.Args[0], parentCommand, dir, library(t))
	parent.Stderr = t.Output()
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) != 4 {
		t.Fatalf("the parent printed %q, %v", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	left := filepath.Dir(strings.TrimPrefix(words[2], "unix:"))
	if _, err := os.Stat(left); err != nil {
		t.Fatal(err)
	}
	run(t, newBroker(t, dir))
	if _, err := os.Stat(left); err == nil {
		t.Errorf("%s wasn't removed", left)
	}
	run(t, newClickHouse(t, dir))
}

// A start waits for the lock of a process that is ending.
func TestLockOfDyingProcess(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := embedded.Lock(t.Context(), file, 0)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(time.Second, unlock)
	start := time.Now()
	unlock, err = embedded.Lock(t.Context(), file, embedded.LockTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if waited := time.Since(start); waited < 900*time.Millisecond || waited > 3*time.Second {
		t.Errorf("waited %v", waited)
	}
	var inUse *embedded.InUseError
	_, err = embedded.Lock(t.Context(), file, 50*time.Millisecond)
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Errorf("got %v", err)
	}
}

// A data dir that others may enter is closed to them.
func TestLooseDataDir(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Join(dir, "broker")} {
		if err := errors.Join(os.MkdirAll(d, 0o755), os.Chmod(d,
			0o775)); err != nil { //nolint:gosec // the point
			t.Fatal(err)
		}
	}
	if err := embedded.MakePrivate(dir); err != nil {
		t.Fatal(err)
	}
	run(t, newBroker(t, dir))
	for _, d := range []string{dir, filepath.Join(dir, "broker")} {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", d, info.Mode(), err)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("LEFT OUT: a data dir of another user needs root")
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := embedded.MakePrivate(dir); err == nil || !strings.Contains(err.Error(), "user with id 65534") {
		t.Errorf("data dir of another user: %v", err)
	}
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
}
