package verify

import (
	"strings"
	"testing"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

// A cut explains differing counts of its own seconds and partition, and rows of lost records. It explains no
// event that is missing or doubled.
func TestCutExplains(t *testing.T) {
	const after, at = 1_795_435_200_500, 1_795_435_206_000
	var r Report
	cut := broker.Cut{Gap: broker.Gap{Topic: topic.Windows, Partition: 1, From: 7, To: 9},
		After: after + 900, At: at}
	r.addCut(cut)
	cut.Gap, cut.After = broker.Gap{Topic: topic.Events, Partition: 1, From: 100, To: 200}, after
	r.addCut(cut)
	if len(r.Cuts) != 1 || r.Cuts[0].After.UnixMilli() != after {
		t.Fatalf("%+v", r.Cuts)
	}
	const first, last = after/1000 - cutLag/1000, at / 1000
	for _, row := range []struct {
		name      string
		d         Difference
		explained bool
	}{
		{"first second", Difference{In: inWindowsTopic, Partition: 1, Second: first}, true},
		{"last second", Difference{In: inWindowsTable, Partition: 1, Second: last}, true},
		{"minute", Difference{In: inLedgerTable, Partition: 1, Second: last / 60 * 60}, true},
		{"before", Difference{In: inWindowsTopic, Partition: 1, Second: first - 2}, false},
		{"behind", Difference{In: inWindowsTopic, Partition: 1, Second: last + 1}, false},
		{"the next minute", Difference{In: inLedgerTable, Partition: 1, Second: last/60*60 + 60}, false},
		{"another partition", Difference{In: inWindowsTable, Partition: 0, Second: last}, false},
		{"an event", Difference{In: inEventsTable, Partition: 1, Second: last, What: "doubled"}, false},
		{"an envelope", Difference{In: inEventsTopic, Partition: 1, Second: last}, false},
	} {
		before := r.Different
		r.differ(row.d)
		if explained := r.Different == before; explained != row.explained {
			t.Errorf("%s: explained %v", row.name, explained)
		}
	}
	if r.Cuts[0].Rows != 3 || r.cutAt(1, 100) == nil || r.cutAt(1, 199) == nil || r.cutAt(1, 200) != nil ||
		r.cutAt(1, 99) != nil || r.cutAt(0, 150) != nil {
		t.Errorf("%+v", r.Cuts[0])
	}
	var out strings.Builder
	if err := r.Print(&out, 0); err != nil || !strings.Contains(out.String(), "2026-11-23 12:00:00.500") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
