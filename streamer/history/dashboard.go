package history

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"nowcast/streamer/api"
)

// Limits of a dashboard.
const (
	maxCards     = 20
	maxCardRows  = 1000
	usualCardRow = 10
)

var usualTiles = []Metric{Visitors, Visits, Pageviews, ViewsPerVisit, BounceRate, VisitDuration}

// DashboardQuery is the body of `POST /api/v2/dashboard`. Decoding it returns *Invalid where it is not valid
// by itself.
type DashboardQuery struct {
	Query                 // its metrics, date range and filters
	Interval   string     // a time dimension
	Comparison Comparison // Mode "": none
	Cards      []Card
}

// Card asks for the first rows by a dimension.
type Card struct {
	Dimension string
	Metrics   []Metric
	Limit     int
}

// Dashboard is what a page of a dashboard shows.
type Dashboard struct {
	Tiles      []*float64     `json:"tiles"`
	Comparison *ComparedTiles `json:"comparison,omitempty"`
	Line       Line           `json:"line"`
	Cards      []CardRows     `json:"cards"`
	Meta       Meta           `json:"meta"`
	Query      dashboardEcho  `json:"query"`
}

// ComparedTiles are the tiles of the range that is compared with.
type ComparedTiles struct {
	DateRange [2]string  `json:"date_range"`
	Tiles     []*float64 `json:"tiles"`
}

// Line has a row for each bucket of time with events, and the labels of all buckets.
type Line struct {
	Interval string   `json:"interval"`
	Labels   []string `json:"labels"`
	Results  []Row    `json:"results"`
}

// CardRows are the rows of a card; TotalRows counts those there are.
type CardRows struct {
	Dimension string   `json:"dimension"`
	Metrics   []Metric `json:"metrics"`
	Results   []Row    `json:"results"`
	TotalRows uint64   `json:"total_rows"`
}

type dashboardEcho struct {
	SiteID    string    `json:"site_id"`
	Metrics   []Metric  `json:"metrics"`
	DateRange [2]string `json:"date_range"`
	Filters   []Filter  `json:"filters"`
}

// UnmarshalJSON decodes the body of a request. Its errors are *Invalid.
func (q *DashboardQuery) UnmarshalJSON(b []byte) error {
	*q = DashboardQuery{}
	var raw struct{ site, metrics, dates, filters, interval, comparison, cards json.RawMessage }
	err := decodeObject("", b, fields{
		"site_id": &raw.site, "metrics": &raw.metrics, "date_range": &raw.dates, "filters": &raw.filters,
		"interval": &raw.interval, "comparison": &raw.comparison, "cards": &raw.cards,
	})
	if err != nil {
		return err
	}
	if q.SiteID, err = decodeString("site_id", raw.site); err != nil {
		return err
	}
	if err := q.DateRange.read(raw.dates); err != nil {
		return err
	}
	q.Metrics = usualTiles
	if !absent(raw.metrics) {
		q.Metrics = nil
		if err := q.readMetrics(raw.metrics); err != nil {
			return err
		}
	}
	if err := q.readFilters(raw.filters); err != nil {
		return err
	}
	if q.Interval = auto.String(); !absent(raw.interval) {
		if q.Interval, err = decodeString("interval", raw.interval); err != nil {
			return err
		}
		if !isTime(q.Interval) {
			return invalid("interval", "%s is no dimension of time; choose time or one of time:second, "+
				"time:minute, time:hour, time:day, time:week, time:month", quote(q.Interval))
		}
	}
	if err := q.Comparison.read(raw.comparison); err != nil {
		return err
	}
	return q.readCards(raw.cards)
}

func (q *DashboardQuery) readCards(b json.RawMessage) error {
	if absent(b) {
		return nil
	}
	list, err := decodeArray("cards", b)
	if err != nil {
		return err
	}
	if len(list) > maxCards {
		return invalid("cards", "at most %d", maxCards)
	}
	for i, x := range list {
		field := element("cards", i)
		var dimension, metrics, limit json.RawMessage
		keys := fields{"dimension": &dimension, "metrics": &metrics, "limit": &limit}
		if err := decodeObject(field, x, keys); err != nil {
			return err
		}
		c := Card{Limit: usualCardRow, Metrics: []Metric{Visitors}}
		if c.Dimension, err = decodeString(field+".dimension", dimension); err != nil {
			return err
		}
		d, ok := lookup(c.Dimension)
		if c.Dimension != goalDimension && (!ok || d.Grain != none) {
			return invalid(field+".dimension", "%s is not known; name an event: or visit: dimension",
				quote(c.Dimension))
		}
		if !absent(metrics) {
			var own Query
			if err := own.readMetrics(metrics); err != nil {
				return err
			}
			c.Metrics = own.Metrics
		}
		if !absent(limit) {
			if err := json.Unmarshal(limit, &c.Limit); err != nil || c.Limit < 1 || c.Limit > maxCardRows {
				return invalid(field+".limit", "want a whole number from 1 to %d", maxCardRows)
			}
		}
		q.Cards = append(q.Cards, c)
	}
	return nil
}

// Dashboard answers all that a page shows, in one of the principal's slots. The errors are those of Run.
func (e *Engine) Dashboard(
	ctx context.Context, p api.Principal, s Site, q DashboardQuery,
) (d Dashboard, err error) {
	err = e.admit(ctx, p, func(ctx context.Context) error {
		d, err = e.dashboard(ctx, s, q)
		return err
	})
	return d, err
}

func (e *Engine) dashboard(ctx context.Context, s Site, q DashboardQuery) (d Dashboard, err error) {
	q.Dimensions, q.OrderBy, q.Limit, q.Offset = nil, nil, 1, 0
	tiles, err := e.plan(ctx, s, q.Query)
	if err != nil {
		return d, err
	}
	var dimensions []string
	for _, c := range q.Cards {
		dimensions = append(dimensions, c.Dimension)
	}
	if tiles.calendar, err = e.sealed(ctx, tiles, dimensions...); err != nil {
		return d, err
	}
	rows, _, err := e.answer(ctx, tiles)
	if err != nil {
		return d, err
	}
	d.Tiles = rows[0].Metrics
	d.Query = dashboardEcho{q.SiteID, q.Metrics, tiles.span.echo(), q.Filters}
	if d.Query.Filters == nil {
		d.Query.Filters = []Filter{}
	}
	if d.Comparison, err = e.compare(ctx, s, q, tiles.span); err != nil {
		return d, err
	}
	line := q.Query
	line.Dimensions, line.Limit = []string{q.Interval}, 0
	p, err := e.plan(ctx, s, line)
	if err != nil {
		return d, err
	}
	p.calendar = tiles.calendar
	d.Line = Line{Interval: p.grain.String(), Labels: p.span.labels(p.grain)}
	if d.Line.Results, _, err = e.answer(ctx, p); err != nil {
		return d, err
	}
	if d.Cards, err = e.cards(ctx, s, q, tiles); err != nil {
		return d, err
	}
	d.Meta.Warnings, err = e.warnings(ctx, tiles)
	return d, err
}

// cards answers the cards of a dashboard, whose tiles have the calendar.
func (e *Engine) cards(ctx context.Context, s Site, q DashboardQuery, tiles plan) ([]CardRows, error) {
	out := []CardRows{}
	for i, c := range q.Cards {
		ask := q.Query
		ask.Dimensions, ask.Metrics, ask.Limit = []string{c.Dimension}, c.Metrics, c.Limit
		p, err := e.plan(ctx, s, ask)
		if err != nil {
			return nil, inCard(err, i)
		}
		p.calendar = tiles.calendar
		r := CardRows{Dimension: c.Dimension, Metrics: c.Metrics}
		if r.Results, r.TotalRows, err = e.answer(ctx, p); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// inCard says in which card of a request an error is.
func inCard(err error, i int) error {
	if bad, ok := err.(*Invalid); ok { //nolint:errorlint // plan returns it unwrapped
		return invalid(element("cards", i), "%s", bad)
	}
	return err
}

// compare answers the tiles of the range that is compared with.
func (e *Engine) compare(ctx context.Context, s Site, q DashboardQuery, of span) (*ComparedTiles, error) {
	if q.Comparison.Mode == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	r, err := q.Comparison.of(of, e.cfg.Now())
	if err != nil {
		return nil, err
	}
	ask := q.Query
	ask.DateRange, ask.Limit = r, 1
	p, err := e.plan(ctx, s, ask)
	if err != nil {
		return nil, err
	}
	if p.calendar, err = e.sealed(ctx, p); err != nil {
		return nil, err
	}
	rows, _, err := e.answer(ctx, p)
	if err != nil {
		return nil, err
	}
	return &ComparedTiles{DateRange: p.span.echo(), Tiles: rows[0].Metrics}, nil
}

// Comparison says with which range to compare one.
type Comparison struct {
	Mode           string // previous_period, year_over_year, custom; "": none
	DateRange      DateRange
	MatchDayOfWeek bool
}

const (
	previousPeriod = "previous_period"
	yearOverYear   = "year_over_year"
	customRange    = "custom"
)

func (c *Comparison) read(b json.RawMessage) error {
	if absent(b) {
		return nil
	}
	var mode, dates, match json.RawMessage
	keys := fields{"mode": &mode, "date_range": &dates, "match_day_of_week": &match}
	err := decodeObject("comparison", b, keys)
	if err != nil {
		return err
	}
	modes := []string{previousPeriod, yearOverYear, customRange}
	if c.Mode, err = decodeString("comparison.mode", mode); err != nil || !slices.Contains(modes, c.Mode) {
		return invalid("comparison.mode", "want one of %s", join(modes))
	}
	if !absent(match) {
		if err := json.Unmarshal(match, &c.MatchDayOfWeek); err != nil {
			return invalid("comparison.match_day_of_week", "want true or false")
		}
	}
	if c.Mode != customRange {
		if !absent(dates) {
			return invalid("comparison.date_range", `goes with the mode "custom"`)
		}
		return nil
	}
	if c.MatchDayOfWeek {
		return invalid("comparison.match_day_of_week",
			"goes with the other modes; give the dates to compare with")
	}
	if absent(dates) || dates[0] != '[' {
		return invalid("comparison.date_range", "want two dates or times")
	}
	return c.DateRange.read(dates)
}

// of returns the range to compare a span with. Of a span that isn't over, it ends as long after its begin, by
// the clocks of the site.
func (c Comparison) of(s span, now time.Time) (DateRange, error) {
	if c.Mode == customRange {
		return c.DateRange, nil
	}
	if !s.whole() && c.Mode == previousPeriod && !c.MatchDayOfWeek {
		from := s.From.Add(-s.To.Sub(s.From))
		to := s.From.Add(-time.Second)
		return DateRange{From: from.Format(time.RFC3339), To: to.Format(time.RFC3339)}, nil
	}
	first, last := civil(s.From), civil(s.To.Add(-1).In(s.Zone))
	moved := first.AddDate(-1, 0, 0)
	if c.Mode == previousPeriod {
		moved = first.AddDate(0, 0, -(int(last.Sub(first)/(24*time.Hour)) + 1))
	}
	if c.MatchDayOfWeek {
		// To the same day of the week: of a year before at most three days away, else further back.
		back := (int(moved.Weekday()) - int(first.Weekday()) + 7) % 7
		if c.Mode == yearOverYear && back > 3 {
			back -= 7
		}
		moved = moved.AddDate(0, 0, -back)
	}
	shift := int(first.Sub(moved) / (24 * time.Hour))
	local := func(t time.Time) string { return s.wall(t).AddDate(0, 0, -shift).Format(localLayout) }
	switch {
	case !s.whole():
		return DateRange{From: local(s.From), To: local(s.To.Add(-time.Second))}, nil
	case now.Before(s.To) && !now.Before(s.From):
		return DateRange{From: moved.Format(localLayout), To: local(now)}, nil
	}
	to := last.AddDate(0, 0, -shift)
	return DateRange{From: moved.Format(time.DateOnly), To: to.Format(time.DateOnly)}, nil
}
