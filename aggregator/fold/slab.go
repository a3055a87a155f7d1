package fold

// slab keeps values of one type side by side and gives out their places, which are used again: no pointers for the garbage collector
// to follow, no allocation where as many go as come. A pointer from at is good until the next add.
type slab[T any] struct {
	all  []T
	free []int32
}

func (s *slab[T]) at(i int32) *T { return &s.all[i] }

func (s *slab[T]) add(v T) int32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		s.all[i] = v
		return i
	}
	s.all = append(s.all, v)
	return int32(len(s.all) - 1)
}

func (s *slab[T]) remove(i int32) {
	var zero T
	s.all[i] = zero
	s.free = append(s.free, i)
}
