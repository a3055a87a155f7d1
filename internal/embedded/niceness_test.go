package embedded_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// All threads of the engine's process, also those created by a query, have a higher niceness than this
// process.
func TestEngineNiceness(t *testing.T) {
	h := newClickHouse(t, t.TempDir())
	run(t, h)
	db := open(t, h.DSN())
	if err := db.Wait(t.Context(), discard); err != nil {
		t.Fatal(err)
	}
	if n := one[uint64](t, db, "SELECT uniqExact(number) FROM numbers_mt(1000000)"); n != 1_000_000 {
		t.Errorf("got %d", n)
	}
	own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	want, threads := min(19, 20-own+10), 0
	stats, err := filepath.Glob("/proc/[0-9]*/task/*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ") // state, ppid, …; niceness is the 19th field of the line
		f := strings.Fields(rest)
		cmd, err := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		if err != nil || len(f) < 17 || f[1] != fmt.Sprint(os.Getpid()) ||
			!strings.Contains(string(cmd), "clickhouse") {
			continue
		}
		threads++
		if f[16] == "-20" { // the engine's memory watcher, where it may take the highest priority
			continue
		}
		if nice, err := strconv.Atoi(f[16]); err != nil || nice < want {
			t.Errorf("%s has niceness %s, want %d", stat, f[16], want)
		}
	}
	if threads < 5 {
		t.Errorf("found %d threads of the engine", threads)
	}
}
