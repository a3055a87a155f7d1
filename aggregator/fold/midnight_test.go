package fold

import (
	"testing"

	"nowcast/internal/event"
)

// The id of an event depends on the day: at the begin of a day an event has two, and a retry over midnight,
// or over the end of that time, is a duplicate.
func TestRetryOverMidnight(t *testing.T) {
	const midnight = int64(1795478400000)
	id := func(day, client byte) [16]byte { return [16]byte{day, client, 15: 1} }
	c := NewClassifier(StandardRules())
	sequence := uint64(0)
	for _, row := range []struct {
		name   string
		at     int64 // s after midnight
		client byte
		want   Class
	}{
		{"before midnight", -2, 'a', Counted},
		{"its retry", -1, 'a', Duplicate},
		{"its retry after midnight", 1, 'a', Duplicate},
		{"another event after midnight", 1, 'b', Counted},
		{"the third use of the first one", 200, 'a', Duplicate},
		{"the fourth, more than five minutes after the first two", 400, 'a', Duplicate},
		{"in the last second with two ids", 599, 'c', Counted},
		{"its retry with one id", 600, 'c', Duplicate},
		{"an event of later with the client's id of one before midnight", 1000, 'a', Counted},
	} {
		e := event.Event{Time: midnight + row.at*1000, Site: "example.com", HasID: true}
		e.ID = id(2, row.client)
		switch {
		case row.at < 0:
			e.ID = id(1, row.client)
		case row.at < 600:
			e.PreviousID, e.HasPreviousID = id(1, row.client), true
		}
		sequence++
		if !c.Begin(event.Header{Node: 1, Sequence: sequence, Low: e.Time}, e.Time) {
			t.Fatal("a retried envelope")
		}
		c.Prefetch([]event.Event{e})
		if got := c.Classify(&e); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
		c.End()
	}
}
