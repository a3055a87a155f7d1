package hub

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nowcast/internal/window"
	"nowcast/streamer/board"
	"nowcast/streamer/frame"
)

// client reads a stream of several sites until it breaks, again and again.
type client struct {
	t           *rapid.T
	names       []string
	sentThrough map[string]int64 // by site
	from        Resume           // for the next stream
}

// read takes the messages in m one by one. It reports false when the stream breaks before the last one.
func (c *client) read(m []byte) (whole bool) {
	for message := range strings.SplitAfterSeq(string(m), "\n\n") {
		if message == "" {
			continue
		}
		if rapid.IntRange(0, 3).Draw(c.t, "breaks") == 0 {
			return false
		}
		c.message(message)
	}
	return true
}

// message checks that each site's seconds follow those before, and that the id says how far each site
// is.
func (c *client) message(message string) {
	var id, data string
	for line := range strings.SplitSeq(message, "\n") {
		if value, ok := strings.CutPrefix(line, "id: "); ok {
			id = value
		} else if value, ok := strings.CutPrefix(line, "data: "); ok {
			data = value
		}
	}
	if id == "" || data == "" {
		c.t.Fatalf("%q", message)
	}
	c.from = Resume{Requested: true}
	c.from.ID, c.from.Valid = frame.ParseID(id)
	site, last := c.data(data)
	if n := c.from.ID.SiteSecond(slices.Index(c.names, site)); c.from.Valid && n != last {
		c.t.Fatalf("%s: after %s it has seconds up to %d, not %d", site, c.from.ID, last-T, n-T)
	}
	c.sentThrough[site] = last
}

// data checks a message's seconds and returns the newest final one of its site.
func (c *client) data(text string) (site string, last int64) {
	var f struct {
		Site   string
		Second *struct {
			At, From  time.Time
			Final     bool
			Pageviews int
		}
		Seconds *[]struct {
			At    time.Time
			Final bool
		}
	}
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		c.t.Fatal(err)
	}
	last, known := c.sentThrough[f.Site]
	switch {
	case f.Seconds != nil:
		for _, x := range *f.Seconds {
			if known && x.At.Unix() != last+1 {
				c.t.Fatalf("%s: a snapshot gives second %d after %d", f.Site, x.At.Unix()-T, last-T)
			}
			last, known = x.At.Unix(), true
		}
	case f.Second != nil && f.Second.Final:
		from, through := f.Second.At.Unix(), f.Second.At.Unix()
		if !f.Second.From.IsZero() {
			from = f.Second.From.Unix()
		}
		if n := f.Second.Pageviews; from != last+1 || n != int(through-last) {
			c.t.Fatalf("%s: seconds %d to %d with %d after %d", f.Site, from-T, through-T, n, last-T)
		}
		last = through
	}
	return f.Site, last
}

// A stream of several sites that breaks after any of its messages, also within those that bring it up to
// date, gives each second of each site exactly once.
func TestSeveralSitesResume(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	rapid.Check(t, func(t *rapid.T) {
		b := board.New(1)
		h := New(b)
		var s queueSink
		all := rates()
		key := FeedKey{Sites: JoinSites(names)}
		key.Rate = all[rapid.IntRange(0, len(all)-1).Draw(t, "rate")]
		at := int64(T)
		emit := func() {
			var rows []window.Second
			for _, name := range names {
				row := window.Second{Site: name, Pageviews: 1, Visitors: 1, Events: 1, Revision: 2}
				rows = append(rows, row)
			}
			b.Apply(0, at, emission(at, rows...))
			h.deliverChanges()
			at++
		}
		for range 40 {
			emit()
		}
		c := &client{t: t, names: names, sentThrough: map[string]int64{}}
		for range 40 {
			first := join(t, h, key, c.from, &s)
			s.queue = nil
			cursor := Cursor{SentThrough: first.Through}
			open := c.read(first.Bytes)
			for open && rapid.IntRange(0, 9).Draw(t, "goes on") > 0 {
				emit()
				for _, d := range s.queue {
					for i := range d.frames {
						open = open && c.read(first.Feed.Next(&cursor, &d.frames[i]))
					}
				}
				s.queue = nil
			}
			first.Feed.Leave(&s)
			for range rapid.IntRange(0, 3).Draw(t, "meanwhile") {
				emit()
			}
		}
	})
}
