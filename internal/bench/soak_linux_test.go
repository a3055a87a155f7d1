package main

import (
	"strings"
	"testing"
)

func TestJudgeSoak(t *testing.T) {
	curve := func(grow func(s *sample, i int)) (all []sample) {
		for i := range 120 {
			s := sample{rss: 100 << 10, inUse: 90 << 10, goroutines: 1000, files: 500}
			grow(&s, i)
			all = append(all, s)
		}
		return all
	}
	for _, c := range []struct {
		name  string
		curve []sample
		want  string
	}{
		{"level", curve(func(*sample, int) {}), ""},
		{"warming up", curve(func(s *sample, i int) { s.rss += 20 << 10 * min(i, 10) / 10 }), ""},
		{"memory", curve(func(s *sample, i int) { s.rss += i << 10; s.inUse += i << 10 }),
			"KB resident and in use grew"},
		{"goroutines", curve(func(s *sample, i int) { s.goroutines += 5 * i }), "goroutines grew"},
		{"files", curve(func(s *sample, i int) { s.files += 5 * i }), "open files grew"},
		{"too short", curve(func(*sample, int) {})[:5], "too few"},
	} {
		err := judgeSoak(c.curve)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
