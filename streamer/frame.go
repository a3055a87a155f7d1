package streamer

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"nowcast/internal/window"
	"nowcast/streamer/board"
)

// frame is the JSON of one message, as openapi.yaml's Frame and Snapshot say.
type frame struct {
	Visitors  uint32    `json:"visitors"`
	Timestamp string    `json:"timestamp"`
	Site      string    `json:"site"`
	Second    *second   `json:"second,omitempty"`
	Now       *now      `json:"now,omitempty"`
	Skipped   int       `json:"skipped"`
	Seconds   *[]second `json:"seconds,omitempty"`
}

type second struct {
	At        string `json:"at"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	Pageviews uint32 `json:"pageviews"`
	Visitors  uint32 `json:"visitors"`
	Events    uint32 `json:"events"`
	Final     bool   `json:"final"`
	Revision  uint32 `json:"revision"`
}

type now struct {
	Pages     []count `json:"pages"`
	Sources   []count `json:"sources"`
	Countries []count `json:"countries"`
	Devices   []count `json:"devices"`
	Rest      rest    `json:"rest"`
}

type rest struct {
	Pages     uint32 `json:"pages"`
	Sources   uint32 `json:"sources"`
	Countries uint32 `json:"countries"`
	Devices   uint32 `json:"devices"`
}

// count is written as ["/pricing", 22].
type count window.Count

func (c count) MarshalJSON() ([]byte, error) {
	name, err := json.Marshal(c.Name)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "[%s,%d]", name, c.Active), nil
}

func stamp(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02T15:04:05Z") }

func newSecond(s board.Second) second {
	return second{At: stamp(s.At), Pageviews: s.Pageviews, Visitors: s.Visitors, Events: s.Events, Final: s.Final, Revision: s.Revision}
}

// merged adds up the seconds from and to, both included.
func merged(seconds []board.Second, from, to int64) second {
	out := second{At: stamp(to), From: stamp(from), To: stamp(to), Final: true}
	for _, s := range seconds {
		if s.At >= from && s.At <= to {
			out.Pageviews += s.Pageviews
			out.Visitors += s.Visitors
			out.Events += s.Events
			out.Revision += s.Revision
		}
	}
	return out
}

// one is the final second at, which is all zero when nothing happened in it.
func one(seconds []board.Second, at int64) second {
	for _, s := range seconds {
		if s.At == at {
			return newSecond(s)
		}
	}
	return second{At: stamp(at), Final: true}
}

// newFrame is a frame without its second.
func newFrame(site string, v board.View, top int) frame {
	f := frame{Visitors: v.Visitors, Timestamp: time.UnixMilli(v.Now).UTC().Format("2006-01-02T15:04:05.000Z"), Site: site}
	if top > 0 && v.Lists != nil {
		n := &now{}
		n.Pages, n.Rest.Pages = cut(v.Lists.Pages, v.Lists.RestPages, top)
		n.Sources, n.Rest.Sources = cut(v.Lists.Sources, v.Lists.RestSources, top)
		n.Countries, n.Rest.Countries = cut(v.Lists.Countries, v.Lists.RestCountries, top)
		n.Devices, n.Rest.Devices = cut(v.Lists.Devices, v.Lists.RestDevices, top)
		f.Now = n
	}
	return f
}

func cut(all []window.Count, left uint32, top int) ([]count, uint32) {
	out := make([]count, 0, min(top, len(all)))
	for i, c := range all {
		if i < top {
			out = append(out, count(c))
		} else {
			left += c.Active
		}
	}
	return out, left
}

// eventID is the id of a frame: epoch, newest final second given, revision of the open second shown (0: none).
func eventID(final int64, revision uint32) string {
	return fmt.Sprintf("%d-%d-%d", window.Epoch, final, revision)
}

// parseID reads an id. Whatever is no id of this epoch isn't ok.
func parseID(id string) (final int64, ok bool) {
	epoch, rest, _ := strings.Cut(id, "-")
	at, revision, found := strings.Cut(rest, "-")
	if _, err := strconv.ParseUint(revision, 10, 32); err != nil || !found || epoch != strconv.Itoa(window.Epoch) {
		return 0, false
	}
	final, err := strconv.ParseInt(at, 10, 64)
	return final, err == nil && final > 0
}

// message is one SSE message. JSON has no line breaks, so one data line holds it.
func message(event, id string, f frame) ([]byte, error) {
	data, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	b := make([]byte, 0, len(data)+64)
	if event != "" {
		b = append(append(append(b, "event: "...), event...), '\n')
	}
	b = append(append(append(b, "id: "...), id...), '\n')
	b = append(append(append(b, "data: "...), data...), "\n\n"...)
	return b, nil
}
