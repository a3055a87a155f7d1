package fold

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A check that never fails proves nothing. So the tests below break each rule of the protocol, one at a time,
// and the model check has to notice.

// mutations makes TestMutations run, which takes minutes: make test-mutations gives it a time limit of its
// own.
var mutations = flag.Bool("mutations", false, "run TestMutations")

// TestBadOwners breaks what owners have to do. The stages are the real ones.
func TestBadOwners(t *testing.T) {
	for _, m := range []struct {
		name string
		bad  func(*trial)
		kind string // the only invariant that may notice; "": any
	}{
		{"a correct owner", func(*trial) {}, "none"},
		{"half a warm-up", func(t *trial) { t.warmUp /= 2 }, ""},
		{"a warm-up as long as the memory of ids", func(t *trial) { t.warmUp = t.rules.IDMemory }, ""},
		{"half of the fold's warm-up", func(t *trial) {
			t.lazy = (2*t.rules.Active*1000 +
				t.rules.IDMemory/5) / 2
		}, ""},
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
				t.Errorf("noticed in %d of up to 8 histories, and in %d for other reasons", caught.Load(),
					other.Load())
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

// mutants are edits of the real sources, which have no hooks for tests.
func mutants() []mutant {
	return slices.Concat(classifierMutants(), idMutants(), foldMutants())
}

// classifierMutants break retries, nodes, the watermark and lateness.
func classifierMutants() []mutant {
	const file = "classifier.go"
	return []mutant{
		one("retried envelopes are not dropped", file,
			"if i >= 0 && h.Sequence <= c.nodes[i].sequence {", "if i >= 0 && h.Sequence < 1 {"),
		one("nodes are forgotten too early", file,
			"return c.watermark >= n.newest+c.rules.NodeMemory",
			"return c.watermark >= n.newest+c.rules.NodeMemory/2"),
		one("a stale envelope is taken for new", file,
			"c.time, c.stale = time, c.watermark != None && time <= c.watermark-c.rules.NodeMemory",
			"c.time, c.stale = time, false"),
		{"the reader's clock instead of the log's", []edit{
			{file, "import (", "import (\n\tclock \"time\""},
			{file, "c.logTime = max(c.logTime, time)",
				"c.logTime = max(c.logTime, time+clock.Now().UnixMicro()%1000)"}}},
		one("a promise is not clamped", file, "n.low = min(h.Low, time)", "n.low = h.Low"),
		one("an event's time is not clamped", file, "e.Time = max(0, min(e.Time, c.time))",
			"e.Time = max(0, e.Time)"),
		one("the watermark falls", file, "if w <= c.watermark {", "if w == c.watermark {"),
		one("a dead node holds the watermark", file, "low >= c.logTime-c.rules.MaxNodeLag {",
			"low != None {"),
		one("a node holds the watermark after its close marker", file, "if h.CloseMarker {",
			"if h.CloseMarker && h.Low < 0 {"),
		one("the bound on open events counts wrong", file,
			"c.openEvents -= c.openSeconds[final].events",
			"c.openEvents -= min(1, c.openSeconds[final].events)"),
		one("lateness is judged by the log's time", file,
			"(second+1)*1000 <= c.watermark:", "(second+1)*1000 <= c.logTime-c.rules.MaxNodeLag:"),
		one("late events are counted, and final rows come again with other content", file,
			"(second+1)*1000 <= c.watermark:", "(second+1)*1000 <= 0:"),
	}
}

// idMutants break duplicates and the ids' change at midnight.
func idMutants() []mutant {
	return []mutant{
		one("ids are forgotten by the log's time", "classifier.go",
			"c.ids.duplicate(idOf(e), e.Time, c.watermark)", "c.ids.duplicate(idOf(e), e.Time, c.logTime)"),
		one("ids are only forgotten by a sweep", "ids.go",
			"last != freeSlot && last+m.memory > watermark {", "last != freeSlot {"),
		one("a duplicate doesn't renew the memory", "ids.go",
			"dup = t-last < m.memory", "if dup = t-last < m.memory; dup {\n\t\t\treturn true\n\t\t}"),
		one("late events don't renew the memory", "classifier.go",
			"if c.duplicate(e) {", "if class != Late && c.duplicate(e) {"),
		one("the id of the day before is not used", "visitors.go",
			"if previous == 0 || previous == id {", "if previous == 0 || previous != id {"),
		one("an id of the day before is not known after the new one", "visitors.go",
			"if previous == 0 || previous == x.id {", "if previous != x.id {"),
	}
}

// foldMutants break rows and lists.
func foldMutants() []mutant {
	return []mutant{
		one("a provisional row has the content of when it is emitted", "fold.go",
			"Active: r.active,", "Active: f.sites.at(r.site).provisionalActive,"),
		one("a final row's version is not its own", "fold.go",
			"window.RowVersion(window.Epoch, true, offset)", "window.RowVersion(window.Epoch, true, next)"),
		one("a second in which a site only lost visitors has no row", "buckets.go",
			"f.departed = append(f.departed, x.site)", "f.departed = f.departed[:0]"),
		one("a final row comes twice when a visitor left", "fold.go", "\t\tif !has {",
			"\t\tif !has || b != nil {"),
		one("visitors leave a second early", "fold.go",
			"f.expiry[0].second <= second-f.rules.Active {",
			"f.expiry[0].second < second-f.rules.Active+2 {"),
		one("a visitor counts twice in a second", "visitors.go", "first := x.mask&bit == 0", "first := true"),
		one("lists don't change when a visitor leaves", "buckets.go", "\tf.touchLists(x.site, s)", "\t_ = s"),
		one("lists have the version of when they are emitted", "lists.go",
			"window.RowVersion(window.Epoch, false, s.changedOffset)",
			"window.RowVersion(window.Epoch, false, f.envelope)"),
		one("empty lists are held back", "lists.go",
			"if s.provisionalActive > 0 && s.emittedAt != None", "if s.emittedAt != None"),
		one("a source is kept for as long as a visit lasts", "lists.go",
			"if int64(x.sourceAge) >= f.rules.Active*1000 {", "if int64(x.sourceAge) >= noSource {"),
		one("a visitor is where the log's last event was", "lists.go",
			"if e.Time >= x.time {", "if e.Time >= x.time-1000 {"),
	}
}

// TestMutations builds the tests of this package with each mutant. The model check has to fail with it, and
// to pass with an edit that changes nothing.
func TestMutations(t *testing.T) {
	if !*mutations {
		t.Skip("takes minutes: run make test-mutations")
	}
	all := append(mutants(), one("no mutation at all", "classifier.go", "package fold",
		"package fold // the same"))
	var mu sync.Mutex
	var unnoticed []string
	each(t, len(all), func(i uint64) error {
		i -= *firstSeed
		out, err := all[i].test(t)
		if err != nil {
			return err
		}
		if test, reason, noticed := gist(out); noticed == (int(i) < len(all)-1) && noticed == (out != "") {
			t.Logf("%s: %s: %s", all[i].name, test, reason)
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		unnoticed = append(unnoticed, all[i].name+": "+out)
		return nil
	})
	for _, out := range unnoticed {
		t.Errorf("the model check should notice each mutation and nothing else: %s", out)
	}
}

// gist returns the test whose history noticed a mutant and the first line of its failure.
func gist(out string) (test, reason string, noticed bool) {
	_, out, _ = strings.Cut(out, "--- FAIL: ")
	test, out, _ = strings.Cut(out, " ")
	_, reason, noticed = strings.Cut(out, ": seed ")
	reason, _, _ = strings.Cut(reason, "\n")
	return test, fmt.Sprintf("seed %.160s", reason), noticed
}

// test builds this package's tests with a mutant and returns the output of the first one that fails, or "" if
// all pass. The model check notices nearly all mutants, so it runs first.
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
	if out, err := run("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay="+overlay, "-o", binary,
		"."); err != nil {
		return "", fmt.Errorf("build mutant %q: %w: %s", m.name, err, out)
	}
	// Few mutants need many histories.
	for _, histories := range []string{"12", "100"} {
		for _, tests := range []string{"^TestModel$", "^(TestHistories|TestWarmUp|TestLists)$"} {
			if out, err := run(binary, "-test.run", tests, "-test.timeout=5m", "-test.failfast",
				"-shrink=0s", "-histories="+histories); err != nil {
				return out, nil //nolint:nilerr // a failing test is the result
			}
		}
	}
	return "", nil
}

// overlay writes the altered copies of the sources and the file that go build's -overlay expects.
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
