package frame

import (
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"nowcast/internal/window"
	"nowcast/streamer/board"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMessage(t *testing.T) {
	f := Frame{ActiveVisitors: 128, Timestamp: 1795435201050, Site: "example.com", Top: 1, Skipped: 2,
		Second: Sum([]board.Second{
			{At: 1795435199, Pageviews: 1, Events: 2, Revision: 3},
			{At: 1795435200, Pageviews: 30, Visitors: 27, Events: 33, Revision: 34},
		}, 1795435199, 1795435200),
		Lists: &board.Lists{
			Pages:     []window.Count{{Name: "/", Active: 40}, {Name: "/<b>\"\n\u2028é", Active: 3}},
			RestPages: 2,
		}}
	const want = "id: 1-1795435200-0\n" +
		`data: {"visitors":128,"timestamp":"2026-11-23T12:00:01.050Z","site":"example.com",` +
		`"second":{"at":"2026-11-23T12:00:00Z","from":"2026-11-23T11:59:59Z","to":"2026-11-23T12:00:00Z",` +
		`"pageviews":31,"visitors":27,"events":35,"final":true,"revision":37},` +
		`"now":{"pages":[["/",40]],"sources":[],"countries":[],"devices":[],` +
		`"rest":{"pages":5,"sources":0,"countries":0,"devices":0}},"skipped":2}` + "\n\n"
	if got := string(Message(nil, "", ID{LastSecond: 1795435200}, &f)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	f = Frame{Site: "x", Timestamp: 1, Filter: Filter{"page", "/a"}, UpperBound: true,
		Seconds: &[]board.Second{{At: 1}, {At: 2, Final: true}}, Cut: board.Cut{After: 1, At: 3}}
	const snapshot = "event: snapshot\n" +
		`data: {"visitors":0,"timestamp":"1970-01-01T00:00:00.001Z","site":"x","filter":{"page":"/a"},` +
		`"upper_bound":true,"skipped":0,"seconds":[` +
		`{"at":"1970-01-01T00:00:01Z","pageviews":0,"visitors":0,"events":0,"final":false,"revision":0},` +
		`{"at":"1970-01-01T00:00:02Z","pageviews":0,"visitors":0,"events":0,"final":true,"revision":0}` +
		`],"cut":{"after":"1970-01-01T00:00:01Z","at":"1970-01-01T00:00:03Z"}}` + "\n\n"
	if got := string(Message(nil, "snapshot", ID{}, &f)); got != snapshot {
		t.Errorf("got  %s\nwant %s", got, snapshot)
	}
}

// A frame is one line of JSON with the name in it, whatever bytes the name has.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "/", "\n\ndata: x", "\xff", "</script>", "\u2028", `"\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		fr := Frame{Site: name, Top: 10, Lists: &board.Lists{Pages: []window.Count{{Name: name, Active: 1}}}}
		b := fr.Append(nil)
		var out struct {
			Site string
			Now  struct{ Pages [][]any }
		}
		if err := json.Unmarshal(b, &out); err != nil || strings.ContainsAny(string(b), "\n\r") {
			t.Fatalf("%q: %v", b, err)
		}
		if valid := strings.ToValidUTF8(name, "\ufffd"); len(valid) == len(name) && out.Site != name {
			t.Fatalf("%q became %q", name, out.Site)
		}
	})
}

func TestID(t *testing.T) {
	for _, row := range []struct {
		text string
		id   ID
		ok   bool
	}{
		{"1-1795435200-0", ID{LastSecond: 1795435200}, true},
		{"1-1795435200-7", ID{LastSecond: 1795435200, Revision: 7}, true},
		{"1-1795435200-0-2-1795435199", ID{1795435200, 0, 2, 1795435199}, true},
		{"1-1795435200-0-1-0", ID{1795435200, 0, 1, 0}, true},
		{"1-1795435200-0-0-5", ID{}, false},
		{"1-1795435200-0-1", ID{}, false},
		{"1-5-0-1-6", ID{}, false},
		{"2-1795435200-0", ID{}, false},
		{"1-0-0", ID{}, false},
		{"1--5-0", ID{}, false},
		{"1-99999999999999999999-0", ID{}, false},
		{"", ID{}, false},
	} {
		id, ok := ParseID(row.text)
		if ok != row.ok || ok && (id != row.id || id.String() != row.text) {
			t.Errorf("%q: %+v %v", row.text, id, ok)
		}
	}
}

func FuzzParseID(f *testing.F) {
	const partial = "1-1795435200-0-2-1795435199"
	for _, s := range []string{"1-1795435200-0", partial, "", "1--0", "1-1-1-1", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := ParseID(text)
		if !ok {
			return
		}
		if id.LastSecond <= 0 || id.SentSites < 0 || id.PrevSecond > id.LastSecond {
			t.Errorf("%q: %+v", text, id)
		}
		if parsed, ok := ParseID(id.String()); !ok || parsed != id {
			t.Errorf("%q: %+v", text, id)
		}
	})
}

func BenchmarkMessage(b *testing.B) {
	f := Frame{ActiveVisitors: 128, Timestamp: 1795435201050, Site: "example.com", Top: 10,
		Second: &Second{}, Lists: &board.Lists{}}
	for i := range 10 {
		c := window.Count{Name: "/some/path/" + string(rune('a'+i)), Active: 10}
		f.Lists.Pages, f.Lists.Sources = append(f.Lists.Pages, c), append(f.Lists.Sources, c)
	}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = Message(buf[:0], "", ID{LastSecond: 1795435200}, &f)
	}
}
