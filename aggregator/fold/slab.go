package fold

// slab keeps values of one type side by side and gives out their places, which are used again: no pointers for the garbage collector
// to follow, no allocation where as many go as come, and no copying when it grows. A pointer from at is good until the value is removed.
type slab[T any] struct {
	pages [][]T
	used  int32 // places that were ever given out
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

// len is how many values there are.
func (s *slab[T]) len() int { return int(s.used) - len(s.free) }
