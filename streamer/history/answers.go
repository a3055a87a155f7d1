package history

import (
	"container/list"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
)

// answers keeps the rows of statements that read only sealed days. The statement names its seals, whose rows
// never change, so that a kept answer stays right; one whose seals are replaced isn't asked for again. What
// was used longest ago goes first once the answers exceed a number of bytes. Of equal statements at one time
// one runs, and the others wait for it.
type answers struct {
	limit int64 // bytes

	mu      sync.Mutex
	bytes   int64
	kept    map[answerKey]*list.Element // of *keptAnswer
	used    list.List                   // the newest first
	running map[answerKey]*flight
}

type answerKey [sha256.Size]byte

type keptAnswer struct {
	key   answerKey
	rows  []Row
	total uint64
	bytes int64
}

// A flight is a statement that runs. Its fields are set once done is closed.
type flight struct {
	done   chan struct{}
	answer *keptAnswer
	err    error
	left   bool // its client went away
}

func newAnswers(limit int64) *answers {
	return &answers{limit: limit, kept: map[answerKey]*list.Element{}, running: map[answerKey]*flight{}}
}

func keyOf(s statement) answerKey {
	return sha256.Sum256(fmt.Appendf([]byte(s.sql), "\x00%#v", s.args))
}

// get returns the kept answer of a statement, or that of run.
func (a *answers) get(
	ctx context.Context, s statement, run func() ([]Row, uint64, error),
) (rows []Row, total uint64, kept bool, err error) {
	key := keyOf(s)
	for {
		a.mu.Lock()
		if e, ok := a.kept[key]; ok {
			a.used.MoveToFront(e)
			x := e.Value.(*keptAnswer) //nolint:forcetypeassert // the list has no others
			a.mu.Unlock()
			return x.copyRows(), x.total, true, nil
		}
		f, ok := a.running[key]
		if !ok {
			f = &flight{done: make(chan struct{})}
			a.running[key] = f
			a.mu.Unlock()
			a.fly(ctx, key, f, run)
			if f.err != nil {
				return nil, 0, false, f.err
			}
			return f.answer.copyRows(), f.answer.total, false, nil
		}
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, 0, false, ctx.Err()
		case <-f.done:
		}
		switch {
		case f.left:
		case f.err != nil:
			return nil, 0, false, f.err
		default:
			return f.answer.copyRows(), f.answer.total, true, nil
		}
	}
}

// fly runs a statement and keeps its answer.
func (a *answers) fly(ctx context.Context, key answerKey, f *flight, run func() ([]Row, uint64, error)) {
	f.left = true // also if run panics
	defer func() {
		a.mu.Lock()
		delete(a.running, key)
		a.mu.Unlock()
		close(f.done)
	}()
	rows, total, err := run()
	f.err, f.left = err, ctx.Err() != nil
	if err != nil {
		return
	}
	f.left = false
	f.answer = &keptAnswer{key: key, rows: rows, total: total, bytes: sizeOf(rows)}
	a.keep(f.answer)
}

func (a *answers) keep(x *keptAnswer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if x.bytes > a.limit/8 { // one answer doesn't displace most of the others
		return
	}
	a.kept[x.key] = a.used.PushFront(x)
	a.bytes += x.bytes
	for a.bytes > a.limit {
		oldest := a.used.Back()
		a.used.Remove(oldest)
		y := oldest.Value.(*keptAnswer) //nolint:forcetypeassert // the list has no others
		delete(a.kept, y.key)
		a.bytes -= y.bytes
	}
}

// copyRows returns the rows for one response, which may change their metrics.
func (x *keptAnswer) copyRows() []Row {
	out := slices.Clone(x.rows)
	for i := range out {
		out[i].Metrics = slices.Clone(out[i].Metrics)
	}
	return out
}

// sizeOf returns about how many bytes rows take.
func sizeOf(rows []Row) int64 {
	n := 500 // the answer itself, and its place in map and list
	for _, r := range rows {
		n += 48 + 16*len(r.Metrics)
		for _, d := range r.Dimensions {
			n += 16 + len(d)
		}
	}
	return int64(n)
}
