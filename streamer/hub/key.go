package hub

import (
	"strings"
	"time"

	"nowcast/streamer/board"
	"nowcast/streamer/frame"
)

// Rate is a pace of frames: either each has so many seconds, or they come on change.
type Rate struct {
	Name        string
	Seconds     int64         // seconds a frame; 0: on change
	MinInterval time.Duration // the least time between two frames on change
}

var rates = [...]Rate{{"100ms", 0, 100 * time.Millisecond}, {"250ms", 0, 250 * time.Millisecond}, {Name: "1s", Seconds: 1}, {Name: "5s", Seconds: 5}, {Name: "30s", Seconds: 30}}

// ParseRate finds a rate by its name.
func ParseRate(name string) (Rate, bool) {
	for _, r := range rates {
		if r.Name == name {
			return r, true
		}
	}
	return Rate{}, false
}

// boundary is the newest second up to final at which a frame ends. Spans are those of the clock, so that all instances merge alike.
func (r Rate) boundary(final int64) int64 {
	if r.Seconds <= 1 {
		return final
	}
	return (final+1)/r.Seconds*r.Seconds - 1
}

// FeedKey is what viewers have in common who are given the same bytes.
type FeedKey struct {
	Sites     string // joined by a line break
	Filter    frame.Filter
	ListValue string // the filter's value as the lists have it
	Top       int    // values in each list
	Rate      Rate
}

// JoinSites joins the names of sites for a Key.
func JoinSites(sites []string) string { return strings.Join(sites, "\n") }

func (k FeedKey) sites() []string { return strings.Split(k.Sites, "\n") }

// Dimensions are the lists that a filter can name.
var dimensions = map[string]board.Dimension{"page": board.Pages, "source": board.Sources, "country": board.Countries, "device": board.Devices}
