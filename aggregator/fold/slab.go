package fold

// slab is a slab allocator for values of one type. Values lie side by side in pages and are addressed by an
// index that is reused after remove. Indexes give the garbage collector no pointers to follow, adding
// allocates nothing while as many values go as come, and growing copies nothing. A pointer from at is valid
// until the value is removed.
type slab[T any] struct {
	pages [][]T
	used  int32 // indexes ever handed out
	free  []int32
}

const pageBits = 10

func (s *slab[T]) at(i int32) *T { return &s.pages[i>>pageBits][i&(1<<pageBits-1)] }

func (s *slab[T]) add(v T) int32 {
	i := s.used
	if n := len(s.free); n > 0 {
		i, s.free = s.free[n-1], s.free[:n-1]
	} else {
		if int(i)>>pageBits == len(s.pages) {
			s.pages = append(s.pages, make([]T, 1<<pageBits))
		}
		s.used++
	}
	*s.at(i) = v
	return i
}

func (s *slab[T]) remove(i int32) {
	var zero T
	*s.at(i) = zero
	s.free = append(s.free, i)
}

// len returns the number of values.
func (s *slab[T]) len() int { return int(s.used) - len(s.free) }
