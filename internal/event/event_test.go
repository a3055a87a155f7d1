package event

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"nowcast/internal/wire"
)

// full is an event that has every field of the first release.
func full() Event {
	e := Event{
		Time:            1795435200123,
		Visitor:         0xfedcba9876543210,
		PreviousVisitor: 7,
		ID:              [16]byte{1, 2, 15: 16},
		HasID:           true,
		Interactive:     true,
		Kind:            Custom,
		ScrollDepth:     87,
		EngagedMS:       15250,
		RevenueMicros:   -12_340_000,
		Currency:        "EUR",
		Name:            "Signup",
		Site:            "example.com",
		Hostname:        "www.example.com",
		Path:            "/pricing",
		Referrer:        "https://news.example.org/item",
		Source:          "Hacker News",
		UTMSource:       "newsletter",
		UTMMedium:       "email",
		UTMCampaign:     "autumn",
		UTMContent:      "button",
		UTMTerm:         "analytics",
		Country:         "DE",
		Region:          "DE-BE",
		Device:          "Desktop",
		Browser:         "Firefox",
		BrowserVersion:  "144.0",
		OS:              "GNU/Linux",
		OSVersion:       "6.1",
		Language:        "de-DE",
	}
	e.Props = AppendProp(AppendProp(nil, "plan", "team"), "seats", "12")
	return e
}

// acquired is an event that has also the fields that came after the first release.
func acquired() Event {
	e := full()
	e.City, e.Channel, e.Screen = "Köln", "Paid Search", "Laptop"
	return e
}

// dated is an event that has also the fields of the site's day.
func dated() Event {
	e := acquired()
	e.Day, e.UTCOffset, e.User = 20780, -12600, 0x0123456789abcdef
	return e
}

func envelope(h Header, events ...Event) []byte {
	b := AppendHeader(nil, h)
	for i := range events {
		b = AppendEvent(b, &events[i])
	}
	return b
}

func decode(t testing.TB, b []byte) (Header, []Event) {
	t.Helper()
	return decodeBy(t, &Decoder{}, b)
}

func decodeBy(t testing.TB, d *Decoder, b []byte) (Header, []Event) {
	t.Helper()
	h, err := d.Reset(b)
	if err != nil {
		t.Fatalf("Reset: %v", err)
	}
	var all []Event
	for e := (Event{Name: "left over", Props: []byte("x")}); d.Next(&e); {
		all = append(all, e)
	}
	if d.Err() != nil {
		t.Fatalf("Err: %v", d.Err())
	}
	return h, all
}

func TestRoundTripOfLengths(t *testing.T) {
	for _, n := range []int{0, 1, 90, 125, 126, 127, 128, 129, 16381, 16383, 16384, 16385, 1 << 21, 1<<21 +
		5} {
		a, z := Event{Time: 1, Path: strings.Repeat("p", n)}, Event{Time: 2, Path: "/z"}
		h, got := decode(t, envelope(Header{Version: 1, Node: 1, Sequence: 1}, z, a, z))
		if h.Node != 1 || !reflect.DeepEqual(got, []Event{z, a, z}) {
			t.Errorf("%d bytes: got %d events back, or others", n, len(got))
		}
	}
}

func TestRefuses(t *testing.T) {
	ok := Header{Version: 1, Node: 9, Sequence: 1, Low: 5}
	event := func(b ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(envelope(ok), fieldEvent, protowire.BytesType), b)
	}
	for name, c := range map[string]struct {
		record []byte
		want   error
	}{
		"empty":              {nil, ErrCorrupt},
		"text":               {[]byte(`{"name":"pageview"}`), ErrCorrupt},
		"newer":              {envelope(Header{Version: 2, Node: 9, Sequence: 1}), ErrVersion},
		"newer, other shape": {envelope(Header{Version: 9}), ErrVersion},
		"no version":         {envelope(ok)[2:], ErrCorrupt},
		"no node":            {envelope(Header{Version: 1, Sequence: 1}), ErrCorrupt},
		"no sequence":        {envelope(Header{Version: 1, Node: 1}), ErrCorrupt},
		"cut":                {envelope(ok, full())[:40], ErrCorrupt},
		"length too long":    {append(envelope(ok), 0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f), ErrCorrupt},
		"event cut inside":   {event(0x08), ErrCorrupt},
		"event, short id":    {event(0xc2, 0x01, 1, 7), ErrCorrupt},
		"event, group":       {event(0x0b), ErrCorrupt},
		"tally cut inside":   {append(envelope(ok), 0x3a, 1, 0x0a), ErrCorrupt},
	} {
		var d Decoder
		var e Event
		_, err := d.Reset(c.record)
		for err == nil && d.Next(&e) {
		}
		if err == nil {
			err = d.Err()
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestVersionDefaults(t *testing.T) {
	if h, _ := decode(t, AppendHeader(nil, Header{Node: 1, Sequence: 1})); h.Version != Version {
		t.Errorf("version %d", h.Version)
	}
}

func TestTallies(t *testing.T) {
	want := []Tally{
		{"example.com", 29923920, "", 1 << 40},
		{"example.com", 29923920, "bot", 3},
		{Reason: "ünknown"},
	}
	b := envelope(Header{Node: 1, Sequence: 1}, full())
	for _, x := range want {
		b = AppendTally(b, x)
	}
	b = AppendEvent(b, &Event{Time: 1})
	var d Decoder
	for range 2 { // nothing is left of the envelope before
		if _, events := decodeBy(t, &d, b); len(events) != 2 || !reflect.DeepEqual(d.Tallies(), want) {
			t.Errorf("%d events, tallies %+v", len(events), d.Tallies())
		}
	}
	if decodeBy(t, &d, envelope(Header{Node: 1, Sequence: 2})); len(d.Tallies()) != 0 {
		t.Errorf("of a tick: %+v", d.Tallies())
	}
}

func TestProps(t *testing.T) {
	read := func(b []byte) (s []string) {
		if err := EachProp(
			b,
			func(k, v string) bool { s = append(s, k+"="+v); return k != "stop" },
		); err != nil {
			s = append(s, err.Error())
		}
		return s
	}
	var b []byte
	for _, p := range [][2]string{{"a", "1"}, {"", "nameless"}, {"empty", ""}, {"stop", "here"},
		{"not", "reached"}} {
		b = AppendProp(b, p[0], p[1])
	}
	if got := strings.Join(read(b), " "); got != "a=1 =nameless empty= stop=here" {
		t.Errorf("got %q", got)
	}
	if got := strings.Join(
		read(b[:len(AppendProp(nil, "a", "1"))+3]),
		" ",
	); got != "a=1 read properties: corrupt envelope" {
		t.Errorf("cut: got %q", got)
	}
}

func TestScatteredProps(t *testing.T) {
	// Another encoder may write the properties of an event anywhere between its other fields.
	a, b, c := AppendProp(nil, "a", "1"), AppendProp(nil, "b", "2"), AppendProp(nil, "c", "3")
	path := wire.AppendString(nil, fieldPath, "/")
	for _, parts := range [][][]byte{{a, b, c, path}, {a, path, b, c}, {a, b, path, c}, {a, path, b, path, c},
		{path, a, path, b, path, c, path}} {
		var body []byte
		for _, p := range parts {
			body = append(body, p...)
		}
		record := protowire.AppendBytes(
			protowire.AppendTag(envelope(Header{Node: 1, Sequence: 1}), fieldEvent, protowire.BytesType),
			body,
		)
		before := string(record)
		_, got := decode(t, record)
		keys := ""
		_ = EachProp(got[0].Props, func(k, v string) bool { keys += k + v; return true })
		if keys != "a1b2c3" || got[0].Path != "/" || string(record) != before {
			t.Errorf("%q: got %q", body, keys)
		}
	}
}

func TestAllocations(t *testing.T) {
	record := envelope(Header{Node: 1, Sequence: 1}, full(), full(), full())
	var d Decoder
	var e Event
	n := 0
	if a := testing.AllocsPerRun(100, func() {
		if _, err := d.Reset(record); err != nil {
			t.Error(err)
		}
		for d.Next(&e) {
			_ = EachProp(e.Props, func(k, _ string) bool { n += len(k); return true })
		}
	}); a != 0 {
		t.Errorf("decoding allocates %v times", a)
	}
	buf := make([]byte, 0, 4096)
	if a := testing.AllocsPerRun(
		100,
		func() { buf = AppendEvent(AppendHeader(buf[:0], Header{Node: 1, Sequence: 1}), &e) },
	); a != 0 {
		t.Errorf("encoding allocates %v times", a)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(envelope(Header{Node: 1, Sequence: 1}))
	f.Add(envelope(Header{Node: 1, Sequence: 1, Low: -1, CloseMarker: true}, full(), Event{Time: 1}))
	f.Add([]byte(`{"n":"pageview"}`))
	for _, g := range goldens() {
		f.Add(g.record)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Decoder
		h, err := d.Reset(b)
		if err != nil {
			return
		}
		var all []Event
		for e := (Event{}); d.Next(&e); {
			all = append(all, e)
			_ = EachProp(e.Props, func(_, _ string) bool { return true })
		}
		if d.Err() != nil {
			return
		}
		// What was understood must survive being written again.
		record := envelope(h, all...)
		for _, x := range d.Tallies() {
			record = AppendTally(record, x)
		}
		var d2 Decoder
		if h2, again := decodeBy(
			t,
			&d2,
			record,
		); h2 != h || !slices.Equal(d.Tallies(), d2.Tallies()) || len(again) != len(all) ||
			len(all) > 0 && !reflect.DeepEqual(again, all) {
			t.Errorf("%x: %+v %+v, then %+v %+v", b, h, all, h2, again)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	e := Event{
		Time:           1795435200123,
		Visitor:        1 << 63,
		Kind:           Pageview,
		Name:           "pageview",
		Site:           "example.com",
		Hostname:       "example.com",
		Path:           "/pricing",
		Source:         "Google",
		Country:        "DE",
		Device:         "Desktop",
		Browser:        "Firefox",
		BrowserVersion: "144.0",
		OS:             "Windows",
		OSVersion:      "11",
		Language:       "de",
		Interactive:    true,
	}
	events := make([]Event, 100)
	for i := range events {
		events[i] = e
	}
	record := envelope(Header{Node: 1, Sequence: 1}, events...)
	b.ReportMetric(float64(len(record))/100, "B/event")
	var d Decoder
	n := 0
	for b.Loop() {
		_, _ = d.Reset(record)
		for d.Next(&e) {
			n++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}
