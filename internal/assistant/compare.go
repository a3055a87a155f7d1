package assistant

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// What compare lists, unless it is asked for less or more.
const (
	defaultContributions, maxContributions = 10, 50
	maxCompared                            = 10_000 // values in each range, the API's limit
	maxMetrics                             = 10
)

type compareIn struct {
	Site      string   `json:"site_id" jsonschema:"the domain of a site, as example.com"`
	Metrics   []string `json:"metrics,omitempty" jsonschema:"what to compare (visitors); contributions are of the first one"`
	DateRange any      `json:"date_range" jsonschema:"the range in question: a name as for query, or yesterday, or a list of two dates or times"`
	CompareTo any      `json:"compare_to,omitempty" jsonschema:"the range before: previous_period (as long, right before; the default), previous_week (the same weekdays), year_over_year, or a list of two dates or times"`
	By        string   `json:"by,omitempty" jsonschema:"a dimension, as visit:source: how much each of its values contributed to the change"`
	Filters   []any    `json:"filters,omitempty" jsonschema:"all have to hold, as for query"`
	Limit     int      `json:"limit,omitempty" jsonschema:"how many contributions to list, up to 50 (10)"`
}

type compareOut struct {
	DateRange     [2]string      `json:"date_range" jsonschema:"by the site's clocks, both ends included"`
	CompareTo     [2]string      `json:"compare_to"`
	Totals        []difference   `json:"totals"`
	Contributions []contribution `json:"contributions,omitempty" jsonschema:"of the first metric, the largest change first"`
	Others        *others        `json:"others,omitempty"`
	Notes         []string       `json:"notes,omitempty"`
}

type difference struct {
	Metric string `json:"metric"`
	change
}

type contribution struct {
	Value string `json:"value"`
	change
	Share *float64 `json:"share_percent,omitempty" jsonschema:"of the change of the total"`
}

// change is a number in both ranges. A mean of nothing is null.
type change struct {
	Before  *float64 `json:"before"`
	Now     *float64 `json:"now"`
	Change  *float64 `json:"change"`
	Percent *float64 `json:"change_percent,omitempty"`
}

// others are the values that aren't listed.
type others struct {
	Values int     `json:"values"`
	Change float64 `json:"change"`
}

// counted are the metrics that are 0 where there is no row, and whose changes can be shares of a change.
var counted = []string{"visitors", "visits", "pageviews", "events"}

func (s *Server) compare(ctx context.Context, key string, in compareIn) (compareOut, error) {
	if len(in.Metrics) == 0 {
		in.Metrics = []string{"visitors"}
	}
	switch {
	case len(in.Metrics) > maxMetrics:
		return compareOut{}, fmt.Errorf("metrics: at most %d", maxMetrics)
	case strings.HasPrefix(in.By, "time"):
		return compareOut{},
			errors.New("by: the ranges have no time in common; name an event: or visit: dimension")
	}
	c := comparison{api: s.api, key: key, in: in}
	if err := c.resolve(ctx); err != nil {
		return compareOut{}, err
	}
	if err := c.total(ctx); err != nil {
		return compareOut{}, err
	}
	if in.By != "" {
		if err := c.contribute(ctx); err != nil {
			return compareOut{}, err
		}
	}
	return c.out, nil
}

// comparison is a call of compare while it is answered.
type comparison struct {
	api *client
	key string
	in  compareIn
	out compareOut
}

// resolve finds the two ranges.
func (c *comparison) resolve(ctx context.Context) error {
	whole, now, err := c.period(ctx, c.in.DateRange)
	if err != nil {
		return err
	}
	p, open := whole.cut(now)
	if open {
		c.note("date_range isn't over: it is compared until now, with the same span of the other range")
	}
	c.out.DateRange = p.dateRange()
	ends, given, err := givenEnds(c.in.CompareTo)
	switch {
	case err != nil:
		return fmt.Errorf("compare_to: %w", err)
	case given:
		c.out.CompareTo = ends
		return nil
	}
	name, _ := c.in.CompareTo.(string)
	other, err := p.before(whole, cmp.Or(name, previousPeriod))
	if err != nil {
		return err
	}
	c.out.CompareTo = other.dateRange()
	return nil
}

// period asks the API which range is meant, by the site's clocks, and what they show now.
func (c *comparison) period(ctx context.Context, dateRange any) (period, time.Time, error) {
	asked := dateRange
	if dateRange == yesterday {
		asked = "day"
	}
	r, err := c.query(ctx, asked, "", 0)
	if err != nil {
		return period{}, time.Time{}, err
	}
	p, offset, err := periodOf(r.Query.DateRange)
	if dateRange == yesterday {
		p = period{p.from.AddDate(0, 0, -1), p.to.AddDate(0, 0, -1)}
	}
	return p, r.at.UTC().Add(offset), err
}

func (c *comparison) total(ctx context.Context) error {
	var rows [2][]*float64
	for i, dates := range [][2]string{c.out.CompareTo, c.out.DateRange} {
		r, err := c.query(ctx, dates, "", 0)
		if err != nil {
			return err
		}
		if len(r.Results) != 1 || len(r.Results[0].Metrics) != len(c.in.Metrics) {
			return errors.New("the server answers with no total")
		}
		rows[i] = r.Results[0].Metrics
	}
	for i, m := range c.in.Metrics {
		c.out.Totals = append(c.out.Totals, difference{m, newChange(rows[0][i], rows[1][i])})
	}
	return nil
}

// contribute compares the first metric by the values of a dimension.
func (c *comparison) contribute(ctx context.Context) error {
	metric, total := c.in.Metrics[0], c.out.Totals[0]
	counts := slices.Contains(counted, metric)
	values := map[string]*[2]*float64{}
	for i, dates := range [][2]string{c.out.CompareTo, c.out.DateRange} {
		r, err := c.query(ctx, dates, c.in.By, maxCompared)
		if err != nil {
			return err
		}
		if r.Meta.TotalRows > len(r.Results) {
			c.note(fmt.Sprintf("%d values from %s to %s, of which the smallest are left out",
				r.Meta.TotalRows, dates[0], dates[1]))
		}
		for _, row := range r.Results {
			if len(row.Dimensions) != 1 || len(row.Metrics) == 0 {
				return errors.New("the server answers with rows of another kind")
			}
			v := values[row.Dimensions[0]]
			if v == nil {
				v = &[2]*float64{}
				if counts {
					v[0], v[1] = new(float64), new(float64)
				}
				values[row.Dimensions[0]] = v
			}
			v[i] = row.Metrics[0]
		}
	}
	all := make([]contribution, 0, len(values))
	for value, v := range values {
		x := contribution{Value: value, change: newChange(v[0], v[1])}
		if counts && total.Change != nil && *total.Change != 0 && x.Change != nil {
			x.Share = rounded(100 * *x.Change / *total.Change)
		}
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b contribution) int {
		return cmp.Or(cmp.Compare(b.size(), a.size()), cmp.Compare(a.Value, b.Value))
	})
	c.list(all, counts)
	return nil
}

// list keeps the largest contributions and sums the others up.
func (c *comparison) list(all []contribution, counts bool) {
	n := min(len(all), within(c.in.Limit, defaultContributions, maxContributions))
	for i := range all[:n] {
		all[i].Value = shorten(all[i].Value, maxValue)
	}
	c.out.Contributions = all[:n]
	sum := 0.0
	for _, x := range all {
		if x.Change != nil {
			sum += *x.Change
		}
	}
	if !counts {
		c.note("the changes of " + c.in.Metrics[0] + " don't add up: it is no count")
		return
	}
	if n < len(all) {
		c.out.Others = &others{Values: len(all) - n, Change: sum}
		for _, x := range all[:n] {
			c.out.Others.Change -= *x.Change
		}
	}
	if total := c.out.Totals[0].Change; total != nil && sum != *total {
		c.note(fmt.Sprintf("the changes add up to %v, not to %v: "+
			"what has several values of %s counts for each", sum, *total, c.in.By))
	}
}

// size is how far the number changed.
func (c change) size() float64 {
	if c.Change == nil {
		return -1
	}
	return math.Abs(*c.Change)
}

func newChange(before, now *float64) change {
	c := change{Before: before, Now: now}
	if before == nil || now == nil {
		return c
	}
	c.Change = rounded(*now - *before)
	if *before != 0 {
		c.Percent = rounded(100 * (*now - *before) / *before)
	}
	return c
}

// rounded has two decimals, as the API's means have.
func rounded(x float64) *float64 {
	x = math.Round(x*100) / 100
	return &x
}

// response is what is read of an answer of the API.
type response struct {
	at      time.Time
	Results []struct {
		Metrics    []*float64
		Dimensions []string
	}
	Meta struct {
		TotalRows int `json:"total_rows"`
		Warnings  []struct{ Warning string }
	}
	Query struct {
		DateRange [2]string `json:"date_range"`
	}
}

// query asks for the metrics in a date range: for the total of all, or by a dimension, for that of the first
// metric.
func (c *comparison) query(ctx context.Context, dateRange any, by string, limit int) (r response, err error) {
	q := map[string]any{"site_id": c.in.Site, "metrics": c.in.Metrics, "date_range": dateRange}
	if len(c.in.Filters) > 0 {
		q["filters"] = c.in.Filters
	}
	if by != "" {
		q["metrics"] = c.in.Metrics[:1]
		q["dimensions"] = []string{by}
		q["order_by"] = [][]string{{c.in.Metrics[0], "desc"}}
		q["pagination"] = map[string]int{"limit": limit}
		q["include"] = map[string]bool{"total_rows": true}
	}
	a, err := c.api.query(ctx, c.key, q)
	if err != nil {
		return r, err
	}
	r.at = a.at
	err = json.Unmarshal(a.body, &r)
	if kind := new(json.UnmarshalTypeError); errors.As(err, &kind) {
		err = fmt.Errorf("a metric has values that are no numbers (%s): compare others", kind.Value)
	}
	for _, w := range r.Meta.Warnings {
		c.note(w.Warning)
	}
	return r, err
}

// note adds a note once.
func (c *comparison) note(sentence string) {
	if sentence = shorten(sentence, maxSentence); !slices.Contains(c.out.Notes, sentence) {
		c.out.Notes = append(c.out.Notes, sentence)
	}
}
