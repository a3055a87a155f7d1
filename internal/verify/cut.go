package verify

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

// LogCut is a place where a partition's log has lost its newest records, with a loss of power. What was
// streamed and stored of them stays, and can't be recounted: the numbers of the seconds from After to At may
// be higher or lower than those of the log that is left.
type LogCut struct {
	Partition    int       `json:"partition"`
	After        time.Time `json:"after"`         // of the newest record that is left
	At           time.Time `json:"at"`            // when the log went on
	Rows         int       `json:"rows"`          // of windows and ledger, that differ from the recount
	StoredEvents int       `json:"stored_events"` // in ClickHouse, of records that are lost

	from, to int64 // offsets of the events topic
}

// cutLag is how long before the newest record that is left a second may have been open.
const cutLag = maxNodeLag + 5_000

func (r *Report) addCut(c broker.Cut) {
	var cut *LogCut
	for _, x := range r.Cuts {
		if x.Partition == c.Partition && x.At.UnixMilli() == c.At {
			cut = x
		}
	}
	after := time.UnixMilli(c.After).UTC()
	if cut == nil {
		cut = &LogCut{Partition: c.Partition, At: time.UnixMilli(c.At).UTC(), After: after}
		r.Cuts = append(r.Cuts, cut)
	}
	if after.Before(cut.After) {
		cut.After = after
	}
	if c.Topic == topic.Events {
		cut.from, cut.to = c.From, c.To
	}
}

// cutAt returns the cut that has lost an offset of the events topic.
func (r *Report) cutAt(partition int, offset int64) *LogCut {
	for _, c := range r.Cuts {
		if c.Partition == partition && offset >= c.from && offset < c.to {
			return c
		}
	}
	return nil
}

// explainedByCut reports whether a difference is one of counts of a cut's seconds.
func (r *Report) explainedByCut(d Difference) bool {
	span := int64(1)
	switch d.In {
	case inLedgerTable, inRollupTable:
		span = 60
	case inWindowsTopic, inWindowsTable:
	default:
		return false
	}
	for _, c := range r.Cuts {
		if c.Partition == d.Partition && (d.Second+span)*1000 > c.After.UnixMilli()-cutLag &&
			d.Second <= c.At.Unix() {
			c.Rows++
			return true
		}
	}
	return false
}

func (r *Report) printCuts(w io.Writer) error {
	if len(r.Cuts) == 0 {
		return nil
	}
	fmt.Fprint(w, "\nThe log has lost its newest records, with a loss of power. What was streamed and "+
		"stored of them stays and can't be recounted.\n\n")
	const clock = "2006-01-02 15:04:05.000"
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "PARTITION\tLOST AFTER\tTHE LOG GOES ON AT\tROWS THAT DIFFER\tEVENTS IN CLICKHOUSE ALONE")
	for _, c := range r.Cuts {
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\n", c.Partition, c.After.Format(clock), c.At.Format(clock), c.Rows,
			c.StoredEvents)
	}
	return t.Flush()
}
