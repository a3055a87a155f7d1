package aggregator

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"nowcast/internal/event"
)

// TestLowCardinality sends columns with dictionaries of all widths, and reuses the memory.
func TestLowCardinality(t *testing.T) {
	var n lowCardinality
	for _, different := range []int{0, 1, 255, 256, 65_535, 65_536, 3} {
		n.Reset()
		var want []string
		for i := range 2*different + 3 {
			s := ""
			if i%3 != 0 && different > 0 {
				s = fmt.Sprint("n", i/2%different)
			}
			want = append(want, s)
			n.add(s)
		}
		c, err := column.Type(n.Type()).Column("", &column.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		if err := fill([]column.Interface{c}, []vector{&n}, len(want)); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if got := c.Row(i, false); got != want[i] {
				t.Fatalf("of %d: row %d is %v, want %s", different, i, got, want[i])
			}
		}
	}
}

// TestProperties checks that the last value of a key counts and that corrupt properties are dropped.
func TestProperties(t *testing.T) {
	var p properties
	twice := event.AppendProp(event.AppendProp(event.AppendProp(nil, "a", "1"), "b", ""), "a", "2")
	for range 2 {
		p.Reset()
		for _, props := range [][]byte{nil, twice, nil, append(slices.Clone(twice), 0xff),
			event.AppendProp(nil, "c", "日本")} {
			p.add(props)
		}
		c, err := column.Type(p.Type()).Column("", &column.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		if err := fill([]column.Interface{c}, []vector{&p}, 5); err != nil {
			t.Fatal(err)
		}
		var got []any
		for i := range 5 {
			got = append(got, c.Row(i, false))
		}
		ab := map[string]string{"a": "2", "b": ""}
		if want := []any{map[string]string{}, ab, map[string]string{}, ab,
			map[string]string{"c": "日本"}}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

// TestFillMismatch checks that wrong types and different lengths are errors.
func TestFillMismatch(t *testing.T) {
	for kind, want := range map[column.Type]string{
		"String":                 "column c is of type String, want LowCardinality(String)",
		"LowCardinality(String)": "column c has 1 rows, want 2",
	} {
		var n lowCardinality
		n.add("x")
		c, err := kind.Column("c", &column.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		if err := fill([]column.Interface{c}, []vector{&n}, 2); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if err := fill([]column.Interface{c, c}, []vector{&n}, 1); err == nil {
			t.Error("a column without values was filled")
		}
	}
}
