package fold

import (
	"reflect"
	"testing"

	"nowcast/internal/event"
	"nowcast/internal/window"
)

// An erased event is in no row, and everything else is as if it were there: the watermark, the classes of
// other events, the duplicates of its id.
func TestErased(t *testing.T) {
	run := func(erased []bool, drop bool) (rows []window.Second, o Outcome, c *Classifier) {
		w := NewWindows(StandardRules())
		x := func(visitor uint64, id byte, at int64) event.Event {
			return event.Event{Site: "a", Time: at, Visitor: visitor, Kind: event.Pageview, HasID: id > 0,
				ID: [16]byte{id}}
		}
		e := &Envelope{Time: 5000, Header: event.Header{Node: 1, Sequence: 1, Low: 4000}, Erased: erased,
			Events: []event.Event{x(1, 1, 4500), x(2, 2, 4600), x(2, 3, 4700)}}
		if drop {
			e.Events = e.Events[:1]
		}
		_, o = w.Apply(e)
		finals, _ := w.Apply(&Envelope{Offset: 1, Time: 9000, Header: event.Header{Node: 1, Sequence: 2,
			Low: 8900},
			Events: []event.Event{x(3, 2, 8950)}})
		return append(rows, finals...), o, w.Classifier
	}
	all, counted, plain := run(nil, false)
	got, outcome, masked := run([]bool{false, true, true}, false)
	want, _, _ := run(nil, true)
	if !reflect.DeepEqual(got, want) || reflect.DeepEqual(got, all) || len(got) != 1 {
		t.Errorf("rows %+v, want %+v", got, want)
	}
	if outcome != counted || masked.Watermark() != plain.Watermark() ||
		masked.openEvents != plain.openEvents {
		t.Errorf("classified %+v, want %+v", outcome, counted)
	}
}
