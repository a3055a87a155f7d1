// Package frame is the wire format of the live stream: Server-Sent Events (WHATWG HTML, section 9.2)
// with JSON data, as openapi.yaml describes in Frame and Snapshot, and their ids. Equal frames have
// equal bytes on every instance.
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
	UpperBound     bool  // ActiveVisitors is an upper bound
	Incomplete     bool  // ActiveVisitors and Lists lack a partition that is missing
	Timestamp      int64 // log time, ms UTC
	Site           string
	Filter         Filter
	Second         *Second         // nil: the frame has none
	Lists          *board.Lists    // nil: the frame has none
	Top            int             // number of values of each list
	Skipped        uint32          // frames that this one stands for, itself not counted
	Seconds        *[]board.Second // nil: the frame isn't a snapshot
	Cut            board.Cut       // of the log, within the last minutes; only of a snapshot
}

// Filter restricts a stream to the visitors with one value of a dimension. The zero value is no filter.
type Filter struct {
	Name, Value string // Name is page, source, country or device
}

// Second is one second, or the sum of the seconds from From to At.
type Second struct {
	board.Second
	From int64 // unix; 0: At alone
}

// Sum adds up final seconds. The result covers all seconds from from to through, unix.
func Sum(seconds []board.Second, from, through int64) *Second {
	out := Second{Second: board.Second{At: through, Final: true}}
	if from < through {
		out.From = from
	}
	for _, s := range seconds {
		out.Pageviews += s.Pageviews
		out.Visitors += s.Visitors
		out.Events += s.Events
		out.Revision += s.Revision
		out.Incomplete = out.Incomplete || s.Incomplete
	}
	return &out
}

// Append appends the frame's JSON.
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
	if f.Incomplete {
		b = append(b, `,"incomplete":true`...)
	}
	if f.Second != nil {
		b = append(b, `,"second":`...)
		b = f.Second.append(b)
	}
	if f.Lists != nil {
		b = f.appendLists(b)
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
	if f.Cut.At != 0 {
		b = append(b, `,"cut":{"after":"`...)
		b = appendSecond(b, f.Cut.After)
		b = append(b, `","at":"`...)
		b = appendSecond(b, f.Cut.At)
		b = append(b, `"}`...)
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
	if s.Incomplete {
		b = append(b, `,"incomplete":true`...)
	}
	return append(b, '}')
}

// appendLists appends the first Top values of each list; the others are added to the rest.
func (f *Frame) appendLists(b []byte) []byte {
	l := f.Lists
	lists := [...]struct {
		name   string
		counts []window.Count
		rest   uint32
	}{
		{"pages", l.Pages, l.RestPages},
		{"sources", l.Sources, l.RestSources},
		{"countries", l.Countries, l.RestCountries},
		{"devices", l.Devices, l.RestDevices},
	}
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

// appendText appends a JSON string. Text with other than plain ASCII goes through encoding/json, whose
// escapes are safe in an HTML script too.
func appendText(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // it can't fail for a string
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

// Message appends one SSE message: its event's name ("": none, so that a browser calls onmessage), its
// id (the zero value: none) and its data, which is one line since JSON has no line breaks.
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
