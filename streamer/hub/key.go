package hub

import (
	"strings"
	"time"

	"nowcast/streamer/board"
	"nowcast/streamer/frame"
)

// Rate is a pace of frames: either each has so many seconds, or they come on change.
type Rate struct {
	Name string
	Span int64         // seconds a frame; 0: on change
	Pace time.Duration // the least time between two frames on change
}

var rates = [...]Rate{{"100ms", 0, 100 * time.Millisecond}, {"250ms", 0, 250 * time.Millisecond}, {Name: "1s", Span: 1}, {Name: "5s", Span: 5}, {Name: "30s", Span: 30}}

// RateOf finds a rate by its name.
func RateOf(name string) (Rate, bool) {
	for _, r := range rates {
		if r.Name == name {
			return r, true
		}
	}
	return Rate{}, false
}

// boundary is the newest second up to final at which a frame ends. Spans are those of the clock, so that all instances merge alike.
func (r Rate) boundary(final int64) int64 {
	if r.Span <= 1 {
		return final
	}
	return (final+1)/r.Span*r.Span - 1
}

// Key is what viewers have in common who are given the same bytes.
type Key struct {
	Sites  string // joined by a line break
	Filter frame.Filter
	Listed string // the filter's value as the lists have it
	Top    int    // values in each list
	Rate   Rate
}

// Join joins the names of sites for a Key.
func Join(sites []string) string { return strings.Join(sites, "\n") }

func (k Key) sites() []string { return strings.Split(k.Sites, "\n") }

// Dimensions are the lists that a filter can name.
var dimensions = map[string]board.Dimension{"page": board.Pages, "source": board.Sources, "country": board.Countries, "device": board.Devices}
