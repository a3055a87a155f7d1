// Package mutationtest breaks a rule in a package's source and checks that the package's tests notice it,
// every time they run.
package mutationtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Mutant is an edit of the package under test. Old is in the file exactly once.
type Mutant struct {
	Name             string
	File             string // in the package's directory
	Old, Replacement string
	Tests            string // a pattern of the tests that have to notice
	Unnoticed        bool   // no test may fail: it changes nothing
}

const runs = 3 // of the tests, each of which has to fail

// Check builds the tests of the package in the current directory with each mutant, and runs those that have
// to notice it.
func Check(t *testing.T, mutants []Mutant) {
	t.Helper()
	for _, m := range mutants {
		t.Run(m.Name, func(t *testing.T) {
			binary := m.build(t)
			for range runs {
				c := exec.CommandContext(t.Context(), binary, "-test.run", m.Tests, "-test.timeout=2m",
					"-test.v")
				c.WaitDelay = time.Second
				out, err := c.CombinedOutput()
				switch failed := strings.Contains(string(out), "--- FAIL: "); {
				case !strings.Contains(string(out), "=== RUN"):
					t.Fatalf("no test ran: %s", out)
				case failed == m.Unnoticed:
					t.Fatalf("noticed: %v, %v\n%s", failed, err, out)
				}
			}
		})
	}
}

// build builds the tests with the mutant and returns the binary's path.
func (m Mutant) build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, err := filepath.Abs(m.File)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.Old); n != 1 {
		t.Fatalf("%q is in %s %d times, want once: has the code changed?", m.Old, m.File, n)
	}
	altered := filepath.Join(dir, filepath.Base(m.File))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: altered}})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{altered: strings.Replace(string(text), m.Old, m.Replacement, 1),
		filepath.Join(dir, "overlay.json"): string(overlay)}
	for name, b := range files {
		if err := os.WriteFile(name, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "mutant.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-ldflags=-s -w",
		"-overlay="+filepath.Join(dir, "overlay.json"), "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return binary
}
