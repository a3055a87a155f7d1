package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

func TestReadRange(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "t"))
	for i := range 6 {
		if _, err := c.Produce(t.Context(), "t", 0, time.Now(), fmt.Appendf(nil, "v%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []struct {
		name     string
		from, to int64
		limit    int // iterations until the loop breaks
		want     string
	}{
		{"all", 0, 6, 9, "0:v0 1:v1 2:v2 3:v3 4:v4 5:v5"},
		{"inside", 1, 4, 9, "1:v1 2:v2 3:v3"},
		{"one", 5, 6, 9, "5:v5"},
		{"none", 3, 3, 9, ""},
		{"none, reversed", 4, 2, 9, ""},
		{"none, behind the end", 9, 9, 9, ""},
		{"break inside", 1, 6, 2, "1:v1 2:v2"},
		{"break at the last", 4, 6, 2, "4:v4 5:v5"},
		{"no end", 2, math.MaxInt64, 4, "2:v2 3:v3 4:v4 5:v5"},
	} {
		var got []string
		for x, err := range ReadRange(t.Context(), c, Range{Topic: "t", From: r.from, To: r.to}) {
			if err != nil {
				t.Fatal(r.name, err)
			}
			got = append(got, fmt.Sprintf("%d:%s", x.Offset, x.Value))
			if len(got) == r.limit {
				break
			}
		}
		if strings.Join(got, " ") != r.want {
			t.Errorf("%s: read %v, want %s", r.name, got, r.want)
		}
	}
}

// TestReadRangeWaits reads a range whose last record comes while it is read, and one whose last record
// never comes.
func TestReadRangeWaits(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "t"))
	produce := func() {
		if _, err := c.Produce(t.Context(), "t", 0, time.Now(), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	produce()
	n := 0
	for _, err := range ReadRange(t.Context(), c, Range{Topic: "t", To: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 1 {
			produce()
		}
	}
	if n != 2 {
		t.Errorf("read %d records, want 2", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	n = 0
	for _, err := range ReadRange(ctx, c, Range{Topic: "t", To: 3}) {
		n, last = n+1, err
		if n == 2 {
			cancel()
		}
	}
	if n != 3 || !errors.Is(last, context.Canceled) {
		t.Errorf("%d iterations, the last with %v; want 3, the last with the context's error", n, last)
	}
}

// TestReadRangeGap reads a range that begins before the log does: the gap is reported, and the records
// behind it are read.
func TestReadRangeGap(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "t"))
	if _, err := c.Produce(t.Context(), "t", 0, time.Now(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	var gap Gap
	for _, err := range ReadRange(t.Context(), c,
		Range{Topic: "t", From: -5, To: 1, Gap: func(g Gap) { gap = g }}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if gap != (Gap{"t", 0, -5, 0}) {
		t.Errorf("gap %v", gap)
	}
}
