package board

// Bounds of a timeline. A partition may run ahead of the slowest one by maxChanges changes, and the hub
// may be hubLagSeconds behind the board. Beyond these bounds instances may show different values, for as
// long as that lasts.
const (
	maxChanges          = 16
	hubLagSeconds       = 8
	unwatchedLagSeconds = 2 // for a site that nobody watches
)

// timeline is a value of one partition and its recent changes. Two instances make a second final at
// different moments, but have to show the same with it. So both show the value as of the moment when the
// partition's own watermark passed it.
type timeline[T any] struct {
	changes   []change[T]
	truncated bool // earlier changes were dropped
}

// change is the value that a partition had while since was the newest second that its watermark had
// passed.
type change[T any] struct {
	since int64
	value T
}

// latest is the newest value; the zero value when there is none.
func (t *timeline[T]) latest() (v T) {
	if n := len(t.changes); n > 0 {
		v = t.changes[n-1].value
	}
	return v
}

// asOf is the value when the partition's watermark passed the second, or the oldest one that is kept.
func (t *timeline[T]) asOf(second int64) (v T) {
	for i := len(t.changes) - 1; i >= 0; i-- {
		if t.changes[i].since < second || i == 0 && t.truncated {
			return t.changes[i].value
		}
	}
	return v
}

// set appends a value and drops those that are not needed for any second after oldest.
func (t *timeline[T]) set(since, oldest int64, v T) {
	all := t.changes
	if n := len(all); n > 0 && all[n-1].since == since {
		all[n-1].value = v
		return
	}
	drop := 0
	for len(all)-drop >= 2 && all[drop+1].since < oldest || len(all)-drop >= maxChanges {
		drop++
	}
	t.truncated = t.truncated || drop > 0
	n := copy(all, all[drop:])
	clear(all[n:])
	t.changes = append(all[:n], change[T]{since, v})
}
