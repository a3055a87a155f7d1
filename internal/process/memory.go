package process

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"nowcast/internal/retry"
)

const (
	memoryCheckInterval = 20 * time.Second
	minMemoryGrowth     = 16 << 20 // bytes
)

// ReleaseMemory returns memory to the system after a crowd, until ctx ends. A connection needs tens of KB
// while it is accepted and far less afterwards. Without a release the rest stays resident as garbage and
// free heap, because the runtime collects only when the heap has doubled, and keeps free heap for the goal
// of the last collection.
//
// It releases when the process's memory has grown by half (and by at least minMemoryGrowth) since the last
// release, and the process allocates little at the moment. A release costs two garbage collections.
func ReleaseMemory(ctx context.Context) error {
	r := newMemoryReleaser()
	for retry.Sleep(ctx, retry.UntilNext(memoryCheckInterval)) == nil {
		r.check()
	}
	return nil
}

// memoryReleaser holds the state between two checks, in bytes.
type memoryReleaser struct {
	samples   []metrics.Sample
	base      uint64 // memory after the last release
	allocated uint64 // in all, at the last check
}

func newMemoryReleaser() *memoryReleaser {
	return &memoryReleaser{samples: []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
	}}
}

// check releases memory if that pays, and reports whether it has.
func (r *memoryReleaser) check() bool {
	held, allocated := r.read()
	recently := allocated - r.allocated
	r.allocated = allocated
	if held < r.base+max(r.base/2, minMemoryGrowth) || recently > held/4 {
		return false
	}
	runtime.GC() // the first one leaves what a sync.Pool holds
	debug.FreeOSMemory()
	r.base, r.allocated = r.read()
	return true
}

// read returns the memory that the runtime holds and what it has allocated in all.
func (r *memoryReleaser) read() (held, allocated uint64) {
	metrics.Read(r.samples)
	total, released := r.samples[0].Value.Uint64(), r.samples[1].Value.Uint64()
	return total - released, r.samples[2].Value.Uint64()
}
