package verify

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// maxDifferences bounds the differences that are kept. All are counted.
const maxDifferences = 10_000

// Report is the result of a run.
type Report struct {
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
	Through    time.Time `json:"through"` // everything before it was final and was compared
	Partitions int       `json:"partitions"`

	Records    int `json:"records"`    // read from the log, with those before and after the span
	Retried    int `json:"retried"`    // of Records, retries of others
	Unreadable int `json:"unreadable"` // of Records

	Events    int `json:"events"` // of the span; the sum of the next four
	Counted   int `json:"counted"`
	Late      int `json:"late"`
	Stale     int `json:"stale"`
	Duplicate int `json:"duplicate"`
	Erased    int `json:"erased"` // of Events: erased since, and in no table

	WindowRows int `json:"window_rows"` // recounted and compared
	EventRows  int `json:"event_rows"`  // found in ClickHouse and compared
	SealedDays int `json:"sealed_days"` // of sites, compared with their events

	Ledger LedgerReport `json:"ledger"`

	Different   int          `json:"different"` // 0: everything agrees
	Differences []Difference `json:"differences"`
	Lates       []Lateness   `json:"lates"`
	Cuts        []*LogCut    `json:"cuts"` // of the log, with the differences that they explain
	// explanations, and what retention kept from being compared
	Notes        []string `json:"notes"`
	NotCompared  []string `json:"not_compared"` // because lanes are behind
	through      int64
	lates        map[lateKey]*Lateness
	lateInSecond map[lateSecond]bool
}

// LedgerReport sums what was recounted and compared of the ledger, in the whole minutes that the span
// touches.
type LedgerReport struct {
	Minutes  int               `json:"minutes"` // counted once a site and partition
	Received uint64            `json:"received"`
	Events   uint64            `json:"events"`  // counted, late, stale or duplicate
	Dropped  map[string]uint64 `json:"dropped"` // by reason; received is the sum of them and of events
}

func (r *Report) addLedger(o *outcomes) {
	r.Ledger.Minutes++
	r.Ledger.Received += o.received
	r.Ledger.Events += o.events()
	for reason, n := range o.dropped {
		if r.Ledger.Dropped == nil {
			r.Ledger.Dropped = map[string]uint64{}
		}
		r.Ledger.Dropped[reason] += n
	}
}

// Difference is a row that disagrees with the log.
type Difference struct {
	In        string `json:"in"`
	Site      string `json:"site"`
	Second    int64  `json:"second"`    // unix
	Partition int    `json:"partition"` // or allPartitions
	Position  string `json:"position"`  // topic/partition@offset, of an event with its [index]
	What      string `json:"what"`
}

// allPartitions is the partition of a difference between sums over all partitions.
const allPartitions = -1

// Lateness explains late events of a node: it was cut off or its clock was behind until their seconds were
// final. They are in the table `events`, marked, and in no window.
type Lateness struct {
	Partition   int    `json:"partition"`
	Node        string `json:"node"`
	Events      int    `json:"events"`
	Seconds     int    `json:"seconds"`
	FirstOffset int64  `json:"first_offset"`
	LastOffset  int64  `json:"last_offset"`
	MostMS      int64  `json:"most_ms"` // behind the watermark
}

type lateKey struct {
	partition int
	node      uint64
}

type lateSecond struct {
	lateKey
	site   string
	second int64
}

func (r *Report) addEvent(c class) {
	r.Events++
	switch c {
	case inWindow:
		r.Counted++
	case late:
		r.Late++
	case stale:
		r.Stale++
	case duplicate:
		r.Duplicate++
	}
}

func (r *Report) addLate(partition int, offset int64, node uint64, site string, at, behind int64) {
	if r.lates == nil {
		r.lates, r.lateInSecond = map[lateKey]*Lateness{}, map[lateSecond]bool{}
	}
	k := lateKey{partition, node}
	l := r.lates[k]
	if l == nil {
		l = &Lateness{Partition: partition, Node: fmt.Sprintf("%016x", node), FirstOffset: offset}
		r.lates[k] = l
	}
	l.Events++
	l.LastOffset, l.MostMS = offset, max(l.MostMS, behind)
	if s := (lateSecond{k, site, at / 1000}); !r.lateInSecond[s] {
		r.lateInSecond[s] = true
		l.Seconds++
	}
}

func (r *Report) differ(d Difference) {
	if r.explainedByCut(d) {
		return
	}
	if r.Different++; len(r.Differences) < maxDifferences {
		r.Differences = append(r.Differences, d)
	}
}

func (r *Report) note(format string, a ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, a...)) }

func (r *Report) notCompared(format string, a ...any) {
	r.NotCompared = append(r.NotCompared, fmt.Sprintf(format, a...))
}

// compared records up to where a partition was compared and up to where its log is final, ms.
func (r *Report) compared(p int, final, possible int64) {
	if p == 0 || final < r.through {
		r.through = final
	}
	if final/1000 < possible/1000 {
		if final < r.From.UnixMilli() {
			r.notCompared("partition %d: the windows lane hasn't come to the span yet", p)
		} else {
			r.notCompared("partition %d: the windows lane is %d s behind the log", p,
				possible/1000-final/1000)
		}
	}
}

func (r *Report) finish() {
	r.Through = time.UnixMilli(max(r.through, r.From.UnixMilli()) / 1000 * 1000).UTC()
	for _, l := range r.lates {
		r.Lates = append(r.Lates, *l)
	}
	slices.SortFunc(r.Lates, func(a, b Lateness) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.FirstOffset, b.FirstOffset))
	})
	slices.SortFunc(r.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Second, b.Second), cmp.Compare(a.Partition, b.Partition),
			strings.Compare(a.In, b.In), strings.Compare(a.Site, b.Site),
			strings.Compare(a.Position, b.Position))
	})
}

// Err returns nil if the whole span was compared and agrees.
func (r *Report) Err() error {
	switch {
	case r.Different == 1:
		return errors.New("1 difference can't be explained")
	case r.Different > 0:
		return fmt.Errorf("%d differences can't be explained", r.Different)
	case len(r.NotCompared) > 0:
		return errors.New("not everything could be compared, since lanes are behind: " +
			"run it again when they have caught up, or give a longer --wait")
	}
	return nil
}

// Print writes the report as text, with at most limit differences.
func (r *Report) Print(w io.Writer, limit int) error {
	const clock = "2006-01-02 15:04:05"
	fmt.Fprintf(w, "Recounted %s to %s UTC from %d records of %d partitions; "+
		"final, and compared, up to %s.\n\n", r.From.Format(clock), r.To.Format(clock), r.Records,
		r.Partitions, r.Through.Format(clock))
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "events of the span\t%d\t\n= in windows\t%d\t\n+ late\t%d\t\n+ stale\t%d\t\n"+
		"+ duplicate ids\t%d\t\n", r.Events, r.Counted, r.Late, r.Stale, r.Duplicate)
	if r.Erased > 0 {
		fmt.Fprintf(t, "of them erased since\t%d\t\n", r.Erased)
	}
	fmt.Fprintf(t, "beacons of its minutes\t%d\t\n= events\t%d\t\n", r.Ledger.Received, r.Ledger.Events)
	for _, reason := range slices.Sorted(maps.Keys(r.Ledger.Dropped)) {
		fmt.Fprintf(t, "+ dropped as %s\t%d\t\n", reason, r.Ledger.Dropped[reason])
	}
	fmt.Fprintf(t, "envelopes sent again\t%d\t\nrecords unreadable\t%d\t\nwindow rows compared\t%d\t\n"+
		"event rows compared\t%d\t\nledger minutes compared\t%d\t\nsealed days compared\t%d\t\n"+
		"differences\t%d\t\n", r.Retried, r.Unreadable, r.WindowRows, r.EventRows, r.Ledger.Minutes,
		r.SealedDays, r.Different)
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.Lates) > 0 {
		fmt.Fprint(w, "\nLate events: their seconds were final when they came, as their node was cut off "+
			"or its clock was behind. They are stored, marked, in no window.\n\n")
		t = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "PARTITION\tNODE\tEVENTS\tSITE-SECONDS\tOFFSETS\tBEHIND AT MOST")
		for _, l := range r.Lates {
			fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%d to %d\t%.1f s\n", l.Partition, l.Node, l.Events, l.Seconds,
				l.FirstOffset, l.LastOffset, float64(l.MostMS)/1000)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if err := r.printCuts(w); err != nil {
		return err
	}
	for i, n := range slices.Concat(r.Notes, r.NotCompared) {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, "Note:", n)
	}
	if r.Different == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "SECOND\tPARTITION\tSITE\tIN\tPOSITION\tWHAT")
	shown := r.Differences[:min(limit, len(r.Differences))]
	for _, d := range shown {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", time.Unix(d.Second, 0).UTC().Format(clock), d.Partition,
			d.Site, d.In, d.Position, d.What)
	}
	if more := r.Different - len(shown); more > 0 {
		fmt.Fprintf(t, "and %d more\n", more)
	}
	return t.Flush()
}
