package fold

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A check that nothing fails is worth nothing. So every rule of the protocol is broken here, one at a time, and the checks have to notice.

// What an owner could do wrong. The stages are the real ones.
func TestBadOwners(t *testing.T) {
	for _, m := range []struct {
		name string
		bad  func(*trial)
		kind string // which invariant has to notice, if only one can
	}{
		{"an owner as it should be", func(*trial) {}, "none"},
		{"half a warm-up", func(t *trial) { t.warmUp /= 2 }, ""},
		{"a warm-up that is as long as the ids are remembered", func(t *trial) { t.warmUp = t.rules.IDs }, ""},
		{"a fold that is warmed up by half of what it needs", func(t *trial) { t.lazy = (2*t.rules.Active*1000 + t.rules.IDs/5) / 2 }, ""},
		{"a commit before the acknowledgement", func(t *trial) { t.early = true }, "8"},
		{"a commit inside an envelope", func(t *trial) { t.inside = true }, "8"},
	} {
		t.Run(m.name, func(t *testing.T) {
			var caught, other atomic.Int64
			each(t, 8, func(seed uint64) error {
				if caught.Load() > 0 {
					return nil // once is enough
				}
				trial := newTrial(seed)
				m.bad(trial)
				err := trial.run(&tally{})
				switch {
				case err == nil:
				case m.kind == "" || m.kind == kind(err):
					caught.Add(1)
				default:
					other.Add(1)
					t.Logf("seed %d: %v", seed, err)
				}
				return nil
			})
			if (caught.Load() > 0) != (m.kind != "none") || other.Load() > 0 {
				t.Errorf("noticed in %d of up to 8 histories, and in %d for other reasons", caught.Load(), other.Load())
			}
		})
	}
}

// edit replaces the only occurrence of a text in a file of this package.
type edit struct{ file, old, replacement string }

type mutant struct {
	name  string
	edits []edit
}

func one(name, file, old, replacement string) mutant {
	return mutant{name, []edit{{file, old, replacement}}}
}

// What the stages could do wrong. The mutants are made of the real sources, which have no hooks for it.
func mutants() []mutant {
	return []mutant{
		// The log and its time.
		one("retried envelopes are not dropped", "reader.go", "if i >= 0 && h.Sequence <= r.nodes[i].sequence {", "if i >= 0 && h.Sequence < 1 {"),
		one("nodes are forgotten too early", "reader.go", "return r.watermark >= n.seen+r.rules.Nodes", "return r.watermark >= n.seen+r.rules.Nodes/2"),
		one("an envelope too old to know is news", "reader.go", "r.time, r.stale = time, r.watermark != None && time <= r.watermark-r.rules.Nodes",
			"r.time, r.stale = time, false"),
		{"the reader's clock instead of the log's", []edit{
			{"reader.go", "import (", "import (\n\tclock \"time\""},
			{"reader.go", "r.now = max(r.now, time)", "r.now = max(r.now, time+clock.Now().UnixMicro()%1000)"}}},
		one("a promise is not clamped", "reader.go", "n.low = min(h.Low, time)", "n.low = h.Low"),
		one("an event's time is not clamped", "reader.go", "e.Time = max(0, min(e.Time, r.time))", "e.Time = max(0, e.Time)"),
		one("the watermark falls", "reader.go", "if w <= r.watermark {", "if w == r.watermark {"),
		one("a dead node holds the watermark", "reader.go", "low >= r.now-r.rules.Lag {", "low != None {"),
		one("a node with a close marker holds the watermark", "reader.go", "if h.CloseMarker {", "if h.CloseMarker && h.Low < 0 {"),
		one("what waits is not bounded alike", "reader.go", "r.waitingN -= r.waiting[over].events", "r.waitingN -= min(1, r.waiting[over].events)"),
		one("late is judged by the log's time", "reader.go", "(second+1)*1000 <= r.watermark:", "(second+1)*1000 <= r.now-r.rules.Lag:"),
		one("late events are counted, and final rows come again with other content", "reader.go", "(second+1)*1000 <= r.watermark:", "(second+1)*1000 <= 0:"),
		// Repeats.
		one("ids are forgotten by the log's time", "reader.go", "r.ids.repeated(idOf(e), e.Time, r.watermark)", "r.ids.repeated(idOf(e), e.Time, r.now)"),
		one("ids are forgotten when there is need", "ids.go", "last != free && last+m.memory > watermark {", "last != free {"),
		one("a repeat doesn't renew the memory", "ids.go", "again = t-last < m.memory", "if again = t-last < m.memory; again {\n\t\t\treturn true\n\t\t}"),
		one("late events don't renew the memory", "reader.go", "if e.HasID && r.ids", "if e.HasID && class != Late && r.ids"),
		// The seam at midnight.
		one("the id of the day before is not used", "visitors.go", "if former == 0 || former == id {", "if former == 0 || former != id {"),
		one("an id of the day before is not known after the new one", "visitors.go", "if former == 0 || former == x.id {", "if former != x.id {"),
		// Rows and lists.
		one("a provisional row is what it is when taken", "fold.go", "Active: r.present,", "Active: f.sites.at(r.site).present,"),
		one("a final row's version is not its own", "fold.go", "window.RowVersion(window.Epoch, true, offset)", "window.RowVersion(window.Epoch, true, next)"),
		one("a second in which somebody only left has no row", "fold.go", "f.left = append(f.left, x.site)", "f.left = f.left[:0]"),
		one("a final row comes twice when somebody left", "fold.go", "\t\tif !has {", "\t\tif !has || b != nil {"),
		one("visitors leave a second early", "fold.go", "f.passed[0].second <= second-f.rules.Active {", "f.passed[0].second < second-f.rules.Active+2 {"),
		one("a visitor counts twice in a second", "visitors.go", "first := x.mask&bit == 0", "first := true"),
		one("a list that somebody left isn't news", "fold.go", "\tf.list(x.site, s)", "\t_ = s"),
		one("a list has the version of when it is taken", "lists.go", "window.RowVersion(window.Epoch, false, s.listedOffset)",
			"window.RowVersion(window.Epoch, false, f.envelope)"),
		one("that everybody left is held back", "lists.go", "if s.present > 0 && s.given != None", "if s.given != None"),
		one("a source is kept for as long as a visit lasts", "lists.go", "if int64(x.sourceAge) >= f.rules.Active*1000 {", "if int64(x.sourceAge) >= never {"),
		one("a visitor is where the log's last event was", "lists.go", "if e.Time >= x.time {", "if e.Time >= x.time-1000 {"),
	}
}

func TestMutations(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	all := append(mutants(), one("no mutation at all", "reader.go", "package fold", "package fold // the same"))
	var mu sync.Mutex
	var unnoticed []string
	each(t, len(all), func(i uint64) error {
		i -= *firstSeed
		out, err := all[i].test(t)
		if err != nil {
			return err
		}
		if test, said, noticed := gist(out); noticed == (int(i) < len(all)-1) && noticed == (out != "") {
			t.Logf("%s: %s: %s", all[i].name, test, said)
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		unnoticed = append(unnoticed, all[i].name+": "+out)
		return nil
	})
	for _, out := range unnoticed {
		t.Errorf("the model should notice a mutation and nothing else: %s", out)
	}
}

// gist is which test has noticed a mutant by a history, and what it says of it.
func gist(out string) (test, said string, noticed bool) {
	_, out, _ = strings.Cut(out, "--- FAIL: ")
	test, out, _ = strings.Cut(out, " ")
	_, said, noticed = strings.Cut(out, ": seed ")
	said, _, _ = strings.Cut(said, "\n")
	return test, fmt.Sprintf("seed %.160s", said), noticed
}

// test builds the tests with a mutant of the stages and gives what the first that fails says, which is nothing when all pass. The model alone
// notices nearly all of them.
func (m mutant) test(t *testing.T) (string, error) {
	dir := t.TempDir()
	overlay, err := m.overlay(dir)
	if err != nil {
		return "", fmt.Errorf("make mutant %q: %w", m.name, err)
	}
	run := func(name string, a ...string) (string, error) {
		c := exec.CommandContext(t.Context(), name, a...)
		c.Env = append(os.Environ(), "GOMAXPROCS=1") // as many mutants as cores are tested at a time
		c.WaitDelay = time.Second
		out, err := c.CombinedOutput()
		return string(out), err
	}
	binary := filepath.Join(dir, "mutant.test")
	if out, err := run("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay="+overlay, "-o", binary, "."); err != nil {
		return "", fmt.Errorf("build mutant %q: %w: %s", m.name, err, out)
	}
	for _, tests := range []string{"^TestModel$", "^(TestHistories|TestWarmUp|TestLists)$"} {
		if out, err := run(binary, "-test.run", tests, "-test.timeout=5m", "-test.failfast", "-shrink=0s", "-histories=12"); err != nil {
			return out, nil //nolint:nilerr // that it fails is what is wanted
		}
	}
	return "", nil
}

// overlay makes the altered copies, and the file by which go takes them for the sources.
func (m mutant) overlay(dir string) (string, error) {
	texts, replace := map[string]string{}, map[string]string{}
	for _, e := range m.edits {
		path, err := filepath.Abs(e.file)
		if err != nil {
			return "", err
		}
		if texts[path] == "" {
			source, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			texts[path] = string(source)
		}
		if n := strings.Count(texts[path], e.old); n != 1 {
			return "", fmt.Errorf("%q is in %s %d times, want once: has the code changed?", e.old, e.file, n)
		}
		texts[path] = strings.Replace(texts[path], e.old, e.replacement, 1)
	}
	for path, text := range texts {
		replace[path] = filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, overlay, 0o600)
}
