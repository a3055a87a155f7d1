// Package frame is the wire format of the live stream: messages of Server-Sent Events whose data is JSON, as openapi.yaml's Frame and
// Snapshot describe, and their ids.
//
// The same frame is the same bytes on every instance.
package frame

import (
	"encoding/json"
	"strconv"
	"time"

	"nowcast/internal/window"
	"nowcast/streamer/board"
)

// Frame is the data of one message.
type Frame struct {
	ActiveVisitors uint32
	Timestamp      int64 // ms UTC
	Site           string
	Filter         Filter
	UpperBound     bool // Visitors is an upper bound
	Second         *Second
	Lists          *board.Lists // nil: none are shown
	Top            int          // how many values of each list
	Skipped        uint32
	Seconds        *[]board.Second // of a snapshot
}

// Filter is the one value that a stream is about; the zero value is none.
type Filter struct {
	Name, Value string // Name is page, source, country or device
}

// Second is a second, or the sum of several.
type Second struct {
	board.Second
	From int64 // the first one; 0: At alone
}

// Sum adds up seconds, as the one that ends at to.
func Sum(seconds []board.Second, from, to int64) *Second {
	out := Second{Second: board.Second{At: to, Final: true}}
	if from < to {
		out.From = from
	}
	for _, s := range seconds {
		out.Pageviews += s.Pageviews
		out.Visitors += s.Visitors
		out.Events += s.Events
		out.Revision += s.Revision
	}
	return &out
}

// Append adds the JSON.
func (f *Frame) Append(b []byte) []byte {
	b = append(b, `{"visitors":`...)
	b = strconv.AppendUint(b, uint64(f.ActiveVisitors), 10)
	b = append(b, `,"timestamp":"`...)
	b = appendMilli(b, f.Timestamp)
	b = append(b, `","site":`...)
	b = appendText(b, f.Site)
	if f.Filter.Name != "" {
		b = append(b, `,"filter":{`...)
		b = appendText(b, f.Filter.Name)
		b = append(b, ':')
		b = appendText(b, f.Filter.Value)
		b = append(b, '}')
		if f.UpperBound {
			b = append(b, `,"upper_bound":true`...)
		}
	}
	if f.Second != nil {
		b = append(b, `,"second":`...)
		b = f.Second.append(b)
	}
	if f.Lists != nil {
		b = f.appendNow(b)
	}
	b = append(b, `,"skipped":`...)
	b = strconv.AppendUint(b, uint64(f.Skipped), 10)
	if f.Seconds != nil {
		b = append(b, `,"seconds":[`...)
		for i, s := range *f.Seconds {
			if i > 0 {
				b = append(b, ',')
			}
			b = (&Second{Second: s}).append(b)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func (s *Second) append(b []byte) []byte {
	b = append(b, `{"at":"`...)
	b = appendSecond(b, s.At)
	if s.From != 0 {
		b = append(b, `","from":"`...)
		b = appendSecond(b, s.From)
		b = append(b, `","to":"`...)
		b = appendSecond(b, s.At)
	}
	b = append(b, `","pageviews":`...)
	b = strconv.AppendUint(b, uint64(s.Pageviews), 10)
	b = append(b, `,"visitors":`...)
	b = strconv.AppendUint(b, uint64(s.Visitors), 10)
	b = append(b, `,"events":`...)
	b = strconv.AppendUint(b, uint64(s.Events), 10)
	b = append(b, `,"final":`...)
	b = strconv.AppendBool(b, s.Final)
	b = append(b, `,"revision":`...)
	b = strconv.AppendUint(b, uint64(s.Revision), 10)
	return append(b, '}')
}

func (f *Frame) appendNow(b []byte) []byte {
	l := f.Lists
	lists := [...]struct {
		name   string
		counts []window.Count
		rest   uint32
	}{{"pages", l.Pages, l.RestPages}, {"sources", l.Sources, l.RestSources}, {"countries", l.Countries, l.RestCountries}, {"devices", l.Devices, l.RestDevices}}
	b = append(b, `,"now":{`...)
	for k := range lists {
		b = append(b, '"')
		b = append(b, lists[k].name...)
		b = append(b, `":[`...)
		for i, c := range lists[k].counts {
			if i >= f.Top {
				lists[k].rest += c.Active
				continue
			}
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '[')
			b = appendText(b, c.Name)
			b = append(b, ',')
			b = strconv.AppendUint(b, uint64(c.Active), 10)
			b = append(b, ']')
		}
		b = append(b, `],`...)
	}
	b = append(b, `"rest":{`...)
	for k := range lists {
		if k > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, lists[k].name...)
		b = append(b, `":`...)
		b = strconv.AppendUint(b, uint64(lists[k].rest), 10)
	}
	return append(b, `}}`...)
}

// appendText adds a JSON string. What isn't plain ASCII is left to encoding/json, whose escapes are safe in a script too.
func appendText(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // of a string it can't fail
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendSecond(b []byte, unix int64) []byte {
	return time.Unix(unix, 0).UTC().AppendFormat(b, time.RFC3339)
}

func appendMilli(b []byte, ms int64) []byte {
	b = appendSecond(b, ms/1000)
	ms %= 1000
	return append(b[:len(b)-1], '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// Message adds one message: an event's name ("": none, which is what onmessage gets), an id (its zero value: none) and data. JSON has
// no line breaks, so one data line holds it.
func Message(b []byte, event string, id ID, f *Frame) []byte {
	if event != "" {
		b = append(b, "event: "...)
		b = append(b, event...)
		b = append(b, '\n')
	}
	if id != (ID{}) {
		b = append(b, "id: "...)
		b = id.Append(b)
		b = append(b, '\n')
	}
	b = append(b, "data: "...)
	b = f.Append(b)
	return append(b, "\n\n"...)
}
