package process

import (
	"runtime"
	"testing"
)

var crowd [][]byte

// TestReleaseMemory lets a process need much memory for a moment, as a crowd of connections does.
func TestReleaseMemory(t *testing.T) {
	r := newMemoryReleaser()
	r.base, r.allocated = r.read()
	before := r.base
	if r.check() {
		t.Fatal("released memory although none was taken")
	}
	for range 64 {
		crowd = append(crowd, make([]byte, 1<<20))
	}
	if r.check() {
		t.Error("released memory while the process allocates it")
	}
	crowd = nil
	peak, _ := r.read()
	if peak < before+50<<20 {
		t.Fatalf("the process holds %d MB, with a crowd of 64 MB", peak>>20)
	}
	if !r.check() {
		t.Fatal("kept the memory after the crowd")
	}
	if after, _ := r.read(); after > before+8<<20 {
		t.Errorf("still holds %d MB, %d before the crowd", after>>20, before>>20)
	}
	if r.check() {
		t.Error("released twice")
	}
	runtime.KeepAlive(crowd)
}
