package imports

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Day is a date of the site, in days since 1970-01-01.
type Day int32

// DayOf returns the day of a date.
func DayOf(year int, month time.Month, day int) Day {
	return Day(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / 86_400)
}

// ParseDay reads 2006-01-02 or 20060102.
func ParseDay(s string) (Day, error) {
	layout := time.DateOnly
	if len(s) == len("20060102") {
		layout = "20060102"
	}
	t, err := time.Parse(layout, s)
	if err != nil || t.Year() < 1990 || t.Year() > 2100 {
		return 0, fmt.Errorf("%s is no day: want it as 2026-01-31", quoted(s))
	}
	return Day(t.Unix() / 86_400), nil
}

// Time returns midnight UTC of the date.
func (d Day) Time() time.Time { return time.Unix(int64(d)*86_400, 0).UTC() }

func (d Day) String() string { return d.Time().Format(time.DateOnly) }

// Metric is what a sum counts.
type Metric uint8

// The metrics. Durations are in milliseconds.
const (
	Visitors Metric = iota
	Visits
	Pageviews
	Events // page views and custom events
	Bounces
	Duration
	metrics // how many there are
)

var metricNames = [metrics]string{"visitors", "visits", "pageviews", "events", "bounces", "visit_duration_ms"}

// Set is a set of metrics; its bits are 1 << Metric.
type Set uint8

func setOf(list ...Metric) (s Set) {
	for _, m := range list {
		s |= 1 << m
	}
	return s
}

// Has reports whether a metric is in the set.
func (s Set) Has(m Metric) bool { return s&(1<<m) != 0 }

// allKnown is the set of all metrics.
const allKnown = Set(1<<metrics - 1)

// Sum is what a tool counted of one value of one dimension on one day.
type Sum struct {
	Day    Day
	Dim    string // a name of the query API; "" for the totals of the day
	Value  string // "" is a value too
	Known  Set    // the metrics that the tool gives; the others are unknown, not 0
	Counts [metrics]uint64
}

func (s *Sum) set(m Metric, n uint64) {
	s.Known |= 1 << m
	s.Counts[m] = n
}

// Dimensions that a sum may have.
var dimensionNames = []string{"", "event:page", "event:hostname", "event:name", "visit:entry_page",
	"visit:exit_page", "visit:source", "visit:channel", "visit:referrer", "visit:utm_source",
	"visit:utm_medium", "visit:utm_campaign", "visit:utm_content", "visit:utm_term", "visit:country",
	"visit:region", "visit:city", "visit:device", "visit:screen", "visit:browser", "visit:browser_version",
	"visit:os", "visit:os_version", "visit:language"}

// MaxValue bounds a value, in bytes.
const MaxValue = 2_000

// maxCount bounds a count: what JSON's numbers hold exactly.
const maxCount = 1 << 53

// Check returns what is wrong with a sum that comes from outside.
func (s *Sum) Check() error {
	switch {
	case s.Day < DayOf(1990, 1, 1) || s.Day > DayOf(2100, 12, 31):
		return errors.New(`"day" has to be a date from 1990 on`)
	case !slices.Contains(dimensionNames, s.Dim):
		return fmt.Errorf(`"dim" %s is no dimension of sums; there are %s`, quoted(s.Dim),
			strings.Join(dimensionNames[1:], ", "))
	case s.Dim == "" && s.Value != "":
		return errors.New(`"value" needs a "dim"`)
	case len(s.Value) > MaxValue:
		return fmt.Errorf(`"value" is over %d bytes`, MaxValue)
	case !utf8.ValidString(s.Value):
		return errors.New(`"value" isn't UTF-8`)
	case s.Known == 0:
		return errors.New("there is no count")
	}
	for _, n := range s.Counts {
		if n > maxCount {
			return errors.New("a count is over 2^53")
		}
	}
	return nil
}

// AppendJSON appends the sum as one JSON object without a line break.
func (s *Sum) AppendJSON(b []byte) []byte {
	b = append(b, `{"day":"`...)
	b = s.Day.Time().AppendFormat(b, time.DateOnly)
	b = append(b, '"')
	if s.Dim != "" {
		value, _ := json.Marshal(s.Value) // a string has no error
		b = append(append(b, `,"dim":"`...), s.Dim...)
		b = append(append(b, `","value":`...), value...)
	}
	for m := range metrics {
		if s.Known.Has(m) {
			b = append(append(b, `,"`...), metricNames[m]...)
			b = strconv.AppendUint(append(b, `":`...), s.Counts[m], 10)
		}
	}
	return append(b, '}')
}

// line is a Sum in JSON.
type line struct {
	Day       *string `json:"day"`
	Dim       string  `json:"dim"`
	Value     string  `json:"value"`
	Visitors  *uint64 `json:"visitors"`
	Visits    *uint64 `json:"visits"`
	Pageviews *uint64 `json:"pageviews"`
	Events    *uint64 `json:"events"`
	Bounces   *uint64 `json:"bounces"`
	Duration  *uint64 `json:"visit_duration_ms"`
}

// ParseSum reads what AppendJSON writes, and checks it. An unknown field is an error.
func ParseSum(b []byte) (s Sum, err error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	var l line
	if err := d.Decode(&l); err != nil {
		return s, fmt.Errorf("it is no sum: %w", err)
	}
	if d.More() {
		return s, errors.New("there is more than one sum in the line")
	}
	if l.Day == nil {
		return s, errors.New(`"day" is missing`)
	}
	if s.Day, err = ParseDay(*l.Day); err != nil {
		return s, err
	}
	s.Dim, s.Value = l.Dim, l.Value
	counts := [metrics]*uint64{l.Visitors, l.Visits, l.Pageviews, l.Events, l.Bounces, l.Duration}
	for m := range metrics {
		if n := counts[m]; n != nil {
			s.set(m, *n)
		}
	}
	return s, s.Check()
}

// key is what sums are added up by.
type key struct {
	day        Day
	dim, value string
}

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.day, o.day), cmp.Compare(k.dim, o.dim), cmp.Compare(k.value, o.value))
}

// maxSums is how many sums an adder holds.
const maxSums = 200_000

// adder adds sums up, within a bound.
type adder struct {
	emit   func(Sum) error
	held   map[key]*Sum
	limit  int
	file   int    // the number of the current file
	group  string // of the current file: files of other groups have other values of the dimension
	totals bool   // some sum is the total of a day
	// which file gives a metric of a dimension on a day: another one must not give it too
	giver map[dayDim]*[metrics]int
}

type dayDim struct {
	day        Day
	dim, group string
}

// maxGivers bounds adder.giver: 100 years of all dimensions.
const maxGivers = 1_000_000

func newAdder(emit func(Sum) error) *adder {
	return &adder{emit: emit, held: map[key]*Sum{}, limit: maxSums, giver: map[dayDim]*[metrics]int{}}
}

// add adds a sum of the current file. It leaves out the metrics that another file gave, and reports whether
// any is left.
func (a *adder) add(s Sum) (added bool, err error) {
	by := dayDim{s.Day, s.Dim, a.group}
	g := a.giver[by]
	if g == nil {
		if len(a.giver) >= maxGivers {
			return false, errors.New("the export has too many days")
		}
		g = &[metrics]int{}
		a.giver[by] = g
	}
	for m := range metrics {
		switch {
		case !s.Known.Has(m):
		case g[m] == 0:
			g[m] = a.file
		case g[m] != a.file:
			s.Known &^= 1 << m
			s.Counts[m] = 0
		}
	}
	if s.Known == 0 {
		return false, nil
	}
	if len(s.Value) > MaxValue {
		s.Value = strings.ToValidUTF8(s.Value[:MaxValue], "")
	}
	s.Value = strings.ToValidUTF8(s.Value, "\uFFFD")
	a.totals = a.totals || s.Dim == ""
	k := key{s.Day, s.Dim, s.Value}
	if held := a.held[k]; held != nil {
		held.Known |= s.Known
		for m := range metrics {
			held.Counts[m] += s.Counts[m]
		}
		return true, nil
	}
	if len(a.held) >= a.limit {
		if err := a.flush(); err != nil {
			return false, err
		}
	}
	s.Value = strings.Clone(s.Value) // not the record that it is a part of
	k.value = s.Value
	a.held[k] = &s
	return true, nil
}

// flush emits what is held, in the order of keys.
func (a *adder) flush() error {
	keys := make([]key, 0, len(a.held))
	for k := range a.held {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, key.compare)
	for _, k := range keys {
		if err := a.emit(*a.held[k]); err != nil {
			return err
		}
	}
	clear(a.held)
	return nil
}
