package window

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"nowcast/internal/wire"
)

var update = flag.Bool(
	"update",
	false,
	"write golden files that are missing; one that exists is never written again",
)

func full() *Emission {
	return &Emission{
		Version: 1, Partition: 3, Epoch: 1, Offset: 123456789, Watermark: 1795435200999, Now: 1795435201250,
		Seconds: []Second{
			{
				Site:      "example.com",
				At:        1795435200,
				Pageviews: 31,
				Visitors:  27,
				Events:    35,
				Active:    128,
				Final:     true,
				Revision:  36,
				Version:   RowVersion(1, true, 123456789),
			},
			{
				Site:      "example.com",
				At:        1795435201,
				Pageviews: 1,
				Visitors:  1,
				Events:    2,
				Active:    129,
				Revision:  2,
				Version:   RowVersion(1, false, 123456789),
			},
		},
		Nows: []Now{
			{
				Site:    "example.com",
				At:      1795435201,
				Version: RowVersion(1, false, 123456789),
				Pages: []Count{
					{"/", 40},
					{"/pricing", 22},
				},
				Sources:   []Count{{"", 60}, {"Google", 2}},
				Countries: []Count{{"DE", 62}},
				Devices: []Count{
					{"Desktop", 50},
					{"Mobile", 12},
				},
				RestPages:     67,
				RestSources:   1,
				RestCountries: 2,
				RestDevices:   3,
			},
			{
				Site:    "bücher.example",
				At:      1795435201,
				Version: RowVersion(1, false, 5),
				Pages:   []Count{{"/straße/日本", 1}},
			},
		},
	}
}

type golden struct {
	name   string
	record []byte // as this program writes it
	want   *Emission
}

func goldens() []golden {
	tick := &Emission{Version: 1, Epoch: 1, Offset: 7, Watermark: 1795435201000, Now: 1795435201250}
	minimal := &Emission{
		Version:   1,
		Epoch:     1,
		Offset:    7,
		Watermark: 1795435201000,
		Now:       1795435201250,
		Seconds: []Second{
			{
				Site:      "a.example",
				At:        1795435200,
				Pageviews: 1,
				Visitors:  1,
				Events:    1,
				Active:    1,
				Revision:  1,
				Version:   RowVersion(1, false, 7),
			},
		},
	}
	all := []golden{
		{name: "tick", want: tick},
		{name: "minimal", want: minimal},
		{name: "full", want: full()},
	}
	for i, g := range all {
		all[i].record = g.want.Append(nil)
	}
	// As a program of years from now may write: fields of every wire type that nobody here knows, outside
	// and inside of a row.
	future := func(b []byte) []byte {
		b = protowire.AppendVarint(protowire.AppendTag(b, 900, protowire.VarintType), 5)
		b = protowire.AppendFixed32(protowire.AppendTag(b, 901, protowire.Fixed32Type), 5)
		b = protowire.AppendFixed64(protowire.AppendTag(b, 902, protowire.Fixed64Type), 5)
		b = protowire.AppendString(protowire.AppendTag(b, 903, protowire.BytesType), "later")
		b = protowire.AppendTag(b, 904, protowire.StartGroupType)
		return protowire.AppendTag(b, 904, protowire.EndGroupType)
	}
	record := future(tick.Append(nil))
	record = protowire.AppendBytes(
		protowire.AppendTag(record, emSeconds, protowire.BytesType),
		future(wire.AppendString(nil, secSite, "a.example")),
	)
	record = protowire.AppendBytes(
		protowire.AppendTag(record, emNows, protowire.BytesType),
		future(wire.AppendString(nil, nowSite, "a.example")),
	)
	later := *tick
	later.Seconds, later.Nows = []Second{{Site: "a.example"}}, []Now{{Site: "a.example"}}
	return append(all, golden{"future", future(record), &later})
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
		var e Emission
		if err := e.Decode(b); err != nil || !equal(&e, g.want) {
			t.Errorf("%s: got %+v, %v, want %+v", g.name, e, err, g.want)
		}
		if !bytes.Equal(b, g.record) {
			t.Errorf("%s: the encoder writes other bytes than it used to: %x, was %x", g.name, g.record, b)
		}
	}
}
