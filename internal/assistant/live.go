package assistant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// What live answers, unless it is asked for less or more.
const (
	defaultSeconds, maxSeconds = 60, 300
	defaultTop, maxTop         = 10, 25
)

type liveIn struct {
	Site    string `json:"site_id" jsonschema:"the domain of a site, as example.com"`
	Seconds int    `json:"seconds,omitempty" jsonschema:"how many of the last seconds to list, up to 300 (60)"`
	Top     int    `json:"top,omitempty" jsonschema:"how many pages, sources, countries and devices to list, up to 25 (10)"`
	Page    string `json:"page,omitempty" jsonschema:"count only the active visitors on this page; at most one of page, source, country and device"`
	Source  string `json:"source,omitempty" jsonschema:"count only the active visitors from this source"`
	Country string `json:"country,omitempty" jsonschema:"count only the active visitors in this country, as DE"`
	Device  string `json:"device,omitempty" jsonschema:"count only the active visitors with this kind of device, as Desktop"`
}

// liveOut is a moment of a site.
type liveOut struct {
	Site       string    `json:"site_id"`
	At         time.Time `json:"at"`
	Visitors   int       `json:"active_visitors" jsonschema:"distinct visitors of the last five minutes"`
	UpperBound bool      `json:"upper_bound,omitempty" jsonschema:"active_visitors may be too high"`
	Incomplete bool      `json:"incomplete,omitempty" jsonschema:"a part of the pipeline stands still: its visitors are left out"`
	Pages      []count   `json:"pages,omitempty"`
	Sources    []count   `json:"sources,omitempty"`
	Countries  []count   `json:"countries,omitempty"`
	Devices    []count   `json:"devices,omitempty"`
	Pageviews  int       `json:"pageviews_of_seconds" jsonschema:"page views in the listed seconds"`
	Seconds    []second  `json:"seconds,omitempty" jsonschema:"the last seconds, oldest first; those without an event are left out"`
}

type count struct {
	Value    string `json:"value"`
	Visitors int    `json:"visitors"`
}

type second struct {
	At        time.Time `json:"at"`
	Pageviews int       `json:"pageviews"`
	Visitors  int       `json:"visitors"`
	Events    int       `json:"events"`
	Final     bool      `json:"final" jsonschema:"the second can't change any more"`
}

// snapshot is the first frame of a stream.
type snapshot struct {
	Visitors   int
	Timestamp  time.Time
	Site       string
	UpperBound bool `json:"upper_bound"`
	Incomplete bool
	Now        struct{ Pages, Sources, Countries, Devices []pair }
	Seconds    []second
}

// pair is a value and its count as a stream has them.
type pair count

// UnmarshalJSON reads [value, count].
func (p *pair) UnmarshalJSON(b []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil || len(parts) != 2 {
		return fmt.Errorf("%s is no value with a count", shorten(string(b), maxValue))
	}
	return errors.Join(json.Unmarshal(parts[0], &p.Value), json.Unmarshal(parts[1], &p.Visitors))
}

func (s *Server) live(ctx context.Context, key string, in liveIn) (liveOut, error) {
	seconds, top := within(in.Seconds, defaultSeconds, maxSeconds), within(in.Top, defaultTop, maxTop)
	q := url.Values{"site": {in.Site}, "rate": {"1s"}, "top": {strconv.Itoa(top)}}
	for name, value := range map[string]string{
		"page": in.Page, "source": in.Source, "country": in.Country, "device": in.Device,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	var f snapshot
	if err := s.api.snapshot(ctx, key, "/api/events?"+q.Encode(), &f); err != nil {
		return liveOut{}, err
	}
	out := liveOut{Site: f.Site, At: f.Timestamp, Visitors: f.Visitors, UpperBound: f.UpperBound,
		Incomplete: f.Incomplete, Pages: counts(f.Now.Pages), Sources: counts(f.Now.Sources),
		Countries: counts(f.Now.Countries), Devices: counts(f.Now.Devices)}
	begin := f.Timestamp.Add(-time.Duration(seconds) * time.Second)
	for _, x := range f.Seconds {
		if !x.At.Before(begin) {
			out.Seconds = append(out.Seconds, x)
			out.Pageviews += x.Pageviews
		}
	}
	return out, nil
}

func counts(pairs []pair) (out []count) {
	for _, p := range pairs {
		p.Value = shorten(p.Value, maxValue)
		out = append(out, count(p))
	}
	return out
}

// within returns n, or what stands for it: unset if it is not positive, most if it is more.
func within(n, unset, most int) int {
	if n <= 0 {
		return unset
	}
	return min(n, most)
}
