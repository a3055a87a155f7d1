package board

// history is a value of one partition and what it was a little earlier: two instances that make a second final at different moments have
// to show the same with it, so each shows what was known when the partition itself had passed that second.
type history[T any] struct {
	moments []moment[T]
	cut     bool // there was more before
}

// moment is a value since the partition's newest final second was the one given.
type moment[T any] struct {
	since int64
	value T
}

// Bounds of a history. A partition may run ahead of the slowest by so many changes, and whoever makes frames may be so many seconds
// behind the board; beyond, instances may differ for as long as that lasts.
const (
	moments   = 16
	slack     = 8
	unwatched = 2 // for a site that nobody watches
)

// now is the newest value.
func (h *history[T]) now() (v T) {
	if n := len(h.moments); n > 0 {
		v = h.moments[n-1].value
	}
	return v
}

// at is the value when the partition had just passed the second, or the oldest that is known.
func (h *history[T]) at(second int64) (v T) {
	for i := len(h.moments) - 1; i >= 0; i-- {
		if h.moments[i].since < second || i == 0 && h.cut {
			return h.moments[i].value
		}
	}
	return v
}

// set takes a new value, and drops those that no second after oldest asks for any more.
func (h *history[T]) set(since, oldest int64, v T) {
	s := h.moments
	if n := len(s); n > 0 && s[n-1].since == since {
		s[n-1].value = v
		return
	}
	drop := 0
	for len(s)-drop >= 2 && s[drop+1].since < oldest || len(s)-drop >= moments {
		drop++
	}
	h.cut = h.cut || drop > 0
	n := copy(s, s[drop:])
	clear(s[n:])
	h.moments = append(s[:n], moment[T]{since, v})
}
