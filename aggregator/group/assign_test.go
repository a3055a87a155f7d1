package group

import (
	"reflect"
	"testing"
)

func TestAssign(t *testing.T) {
	type claims = map[string][]int
	for _, c := range []struct {
		n            int
		claims, want claims
	}{
		{4, claims{"a": nil}, claims{"a": {0, 1, 2, 3}}},
		{4, claims{"a": nil, "b": nil}, claims{"a": {0, 2}, "b": {1, 3}}},
		{4, claims{"a": {0, 1, 2, 3}, "b": nil}, claims{"a": {0, 1}, "b": {2, 3}}},
		{4, claims{"b": {0, 1, 2, 3}, "a": nil}, claims{"b": {0, 1}, "a": {2, 3}}},
		{3, claims{"a": nil, "b": {0, 1}}, claims{"a": {2}, "b": {0, 1}}},
		// both claim 1: one of them was cut off
		{3, claims{"a": {0, 1}, "b": {1, 2}}, claims{"a": {0, 1}, "b": {2}}},
		{2, claims{"a": {0}, "b": {1}, "c": nil}, claims{"a": {0}, "b": {1}, "c": nil}},
		// claims of another topic's life
		{4, claims{"a": {0, 1}, "c": {7, -1}}, claims{"a": {0, 1}, "c": {2, 3}}},
		{5, claims{"a": {0, 1}, "b": {2, 3}, "c": nil}, claims{"a": {0, 1}, "b": {2, 3}, "c": {4}}},
		{6, claims{"a": {0, 1, 2}, "b": {3, 4, 5}, "c": nil}, claims{"a": {0, 1}, "b": {3, 4}, "c": {2, 5}}},
	} {
		if got := assign(c.n, c.claims); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%d %v: got %v, want %v", c.n, c.claims, got, c.want)
		}
	}
}
