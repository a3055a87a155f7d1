package hub

import (
	"fmt"
	"strings"
	"time"

	"nowcast/streamer/board"
	"nowcast/streamer/frame"
)

// Rate is how often a feed has frames: one for every Seconds final seconds, or, where Seconds is 0, on
// each change.
type Rate struct {
	Name        string
	Seconds     int64
	MinInterval time.Duration // between two frames on change; 0 where Seconds isn't
}

func rates() [5]Rate {
	return [...]Rate{
		{Name: "100ms", MinInterval: 100 * time.Millisecond},
		{Name: "250ms", MinInterval: 250 * time.Millisecond},
		{Name: "1s", Seconds: 1},
		{Name: "5s", Seconds: 5},
		{Name: "30s", Seconds: 30},
	}
}

// ParseRate returns the rate with a name of the contract.
func ParseRate(name string) (Rate, bool) {
	for _, r := range rates() {
		if r.Name == name {
			return r, true
		}
	}
	return Rate{}, false
}

// RateNames returns the names of the rates, the fastest first.
func RateNames() []string {
	var names []string
	for _, r := range rates() {
		names = append(names, r.Name)
	}
	return names
}

// boundary is the newest second up to lastFinal with which a frame ends. Frames are aligned to multiples
// of Seconds of Unix time, so that all instances merge the same seconds.
func (r Rate) boundary(lastFinal int64) int64 {
	if r.Seconds <= 1 {
		return lastFinal
	}
	return (lastFinal+1)/r.Seconds*r.Seconds - 1
}

// FeedKey identifies a feed: viewers with equal keys get the same bytes.
type FeedKey struct {
	Sites     string // see JoinSites
	Lives     string // see JoinLives; "": all seconds are the sites'
	Filter    frame.Filter
	ListValue string // Filter.Value as the board's lists spell it
	Top       int    // values in each list; 0: no lists
	Rate      Rate
}

// JoinSites makes FeedKey.Sites of the sites' domains. Their order is that of the messages.
func JoinSites(domains []string) string { return strings.Join(domains, "\n") }

// JoinLives makes FeedKey.Lives of the lives of the sites, in the order of JoinSites.
func JoinLives(lives []board.Life) string {
	var b strings.Builder
	for _, l := range lives {
		fmt.Fprintf(&b, "%d %d\n", l.Since, l.MixedUntil)
	}
	return b.String()
}

// life returns the life of site i.
func (k FeedKey) life(i int) (l board.Life) {
	lines := strings.Split(k.Lives, "\n")
	if i < len(lines) {
		_, _ = fmt.Sscan(lines[i], &l.Since, &l.MixedUntil)
	}
	return l
}

func (k FeedKey) sites() []string { return strings.Split(k.Sites, "\n") }

// dimension is the board's list that the filter is about; ok is false where there is no filter.
func (k FeedKey) dimension() (d board.Dimension, ok bool) {
	switch k.Filter.Name {
	case "page":
		return board.Pages, true
	case "source":
		return board.Sources, true
	case "country":
		return board.Countries, true
	case "device":
		return board.Devices, true
	default:
		return 0, false
	}
}
