package broker

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"nowcast/internal/topic"
)

// The record of a cut isn't handed over: it is reported, as a gap where nobody asks for cuts, and not again
// to a reader that begins behind it.
func TestFollowCut(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "t"))
	for i := range 6 {
		key, value := []byte(nil), []byte("x")
		if i == 3 {
			key, value = topic.LogCut{From: 2, After: 1234}.Key(), []byte{}
		}
		if _, err := c.ProduceKeyed(t.Context(), "t", key, value); err != nil {
			t.Fatal(err)
		}
	}
	stop := errors.New("enough")
	for from, want := range []string{"0 1 2 cut 3-3 4 5", "1 2 cut 3-3 4 5", "2 cut 3-3 4 5", "cut 3-3 4 5",
		"4 5"} {
		for _, asGap := range []bool{false, true} {
			var got []string
			f := Follower{Topic: "t", From: int64(from), RecreationGrace: time.Second,
				Record: func(r Record) error {
					got = append(got, fmt.Sprint(r.Offset))
					if r.Offset == 5 {
						return stop
					}
					return nil
				}}
			if asGap {
				f.Gap = func(g Gap) { got = append(got, fmt.Sprintf("gap %d-%d", g.From, g.To)) }
			} else {
				f.Cut = func(c Cut) {
					got = append(got, fmt.Sprintf("cut %d-%d", c.From, c.To))
					if c.After != 1234 || time.Since(time.UnixMilli(c.At)) > time.Minute {
						t.Errorf("%+v: %s", c, c)
					}
				}
			}
			if err := c.Follow(t.Context(), f); !errors.Is(err, stop) {
				t.Fatal(err)
			}
			want := want
			if asGap { // nothing is lost of what this reader has read
				want = strings.ReplaceAll(want, "cut 3-3 ", "")
			}
			if strings.Join(got, " ") != want {
				t.Errorf("from %d: %v, want %s", from, got, want)
			}
		}
	}
	for _, key := range []string{"", "nowcast/log-cut", "nowcast/log-cut/x/y", "other"} {
		if _, ok := topic.ParseLogCut([]byte(key)); ok {
			t.Errorf("%q is a cut", key)
		}
	}
}
