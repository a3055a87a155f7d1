package event

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"nowcast/internal/wire"
)

var update = flag.Bool(
	"update",
	false,
	"write golden files that are missing; one that exists is never written again",
)

type golden struct {
	name    string
	record  []byte // as this program writes it
	header  Header
	events  []Event
	tallies []Tally
}

func goldens() []golden {
	h := Header{Version: 1, Node: 0x1122334455667788, Sequence: 42, Low: 1795435200000}
	bye := h
	bye.CloseMarker = true
	minimal := Event{
		Time:    1795435200123,
		Visitor: 1,
		Kind:    Pageview,
		Name:    "pageview",
		Site:    "example.com",
		Path:    "/",
	}
	unicode := Event{
		Time:     1795435200123,
		Visitor:  2,
		Kind:     Custom,
		Name:     "購入 🛒",
		Site:     "xn--bcher-kva.example",
		Hostname: "bücher.example",
		Path:     "/straße/ё/日本",
		Props:    AppendProp(nil, "größe", "\u202eXL\u0000"),
	}
	all := []golden{
		{name: "tick", header: h},
		{name: "close_marker", header: bye},
		{name: "minimal", header: h, events: []Event{minimal}},
		{name: "full", header: h, events: []Event{full(), minimal, full()}},
		{name: "unicode", header: h, events: []Event{unicode}},
		{name: "acquired", header: h, events: []Event{acquired(), minimal, acquired()}},
		{name: "dated", header: h, events: []Event{dated(), acquired(), dated()}},
		{
			name:    "tally",
			header:  h,
			events:  []Event{minimal},
			tallies: []Tally{{"example.com", 29923920, "", 3}, {"example.com", 29923920, "bot", 2}},
		},
	}
	for i, g := range all {
		b := envelope(g.header, g.events...)
		for _, x := range g.tallies {
			b = AppendTally(b, x)
		}
		all[i].record = b
	}

	// As a program of years from now may write: fields of every wire type that nobody here knows, in the
	// header and in an event.
	future := func(b []byte) []byte {
		b = protowire.AppendVarint(protowire.AppendTag(b, 900, protowire.VarintType), 5)
		b = protowire.AppendFixed32(protowire.AppendTag(b, 901, protowire.Fixed32Type), 5)
		b = protowire.AppendFixed64(protowire.AppendTag(b, 902, protowire.Fixed64Type), 5)
		b = protowire.AppendString(protowire.AppendTag(b, 903, protowire.BytesType), "later")
		b = protowire.AppendTag(b, 904, protowire.StartGroupType)
		return protowire.AppendTag(b, 904, protowire.EndGroupType)
	}
	body := wire.AppendString(
		future(wire.AppendVarint(nil, fieldTime, 1795435200123)),
		fieldSite,
		"example.com",
	)
	record := future(AppendHeader(nil, h))
	record = protowire.AppendBytes(protowire.AppendTag(record, fieldEvent, protowire.BytesType), future(body))
	return append(
		all,
		golden{
			name:   "future",
			record: future(record),
			header: h,
			events: []Event{{Time: 1795435200123, Site: "example.com"}},
		},
	)
}

// What a released version has written must decode for ever: add files here, never change one.
func TestGolden(t *testing.T) {
	for _, g := range goldens() {
		file := filepath.Join("testdata", g.name+".bin")
		if _, err := os.Stat(file); *update && os.IsNotExist(err) {
			if err := os.WriteFile(file, g.record, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d Decoder
		h, events := decodeBy(t, &d, b)
		if h != g.header || !reflect.DeepEqual(events, g.events) || !slices.Equal(d.Tallies(), g.tallies) {
			t.Errorf("%s: got %+v %+v, want %+v %+v", g.name, h, events, g.header, g.events)
		}
		if !bytes.Equal(b, g.record) {
			t.Errorf("%s: the encoder writes other bytes than it used to: %x, was %x", g.name, g.record, b)
		}
	}
}
