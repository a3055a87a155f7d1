package window

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"nowcast/internal/schematest"
)

// What the codec writes is what window.proto says, and what any other encoder writes by window.proto the
// codec reads.
func TestSchema(t *testing.T) {
	emission := schematest.Message(t, "window.proto", "Emission")
	for _, g := range goldens() {
		m := dynamicpb.NewMessage(emission)
		if err := proto.Unmarshal(g.record, m); err != nil {
			t.Fatalf("%s: %v", g.name, err)
		}
		e := read(t, m, g.name != "future")
		if !equal(&e, g.want) {
			t.Errorf("%s by the schema: %+v, want %+v", g.name, e, g.want)
		}
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var again Emission
		if err := again.Decode(b); err != nil || !equal(&again, g.want) {
			t.Errorf("%s: another encoder's bytes: got %+v, %v", g.name, again, err)
		}
	}
}

// message reads fields by their names in the schema.
type message struct{ protoreflect.Message }

func (m message) get(name protoreflect.Name) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(name))
}
func (m message) u32(name protoreflect.Name) uint32 { return uint32(m.get(name).Uint()) }
func (m message) each(name protoreflect.Name, f func(message)) {
	for i, l := 0, m.get(name).List(); i < l.Len(); i++ {
		f(message{l.Get(i).Message()})
	}
}

func read(t *testing.T, top protoreflect.Message, strict bool) Emission {
	known := func(m message) {
		if len(m.GetUnknown()) > 0 && strict {
			t.Errorf("not in the schema of %s: %x", m.Descriptor().Name(), m.GetUnknown())
		}
	}
	m := message{top}
	known(m)
	e := Emission{
		Version:   m.u32("version"),
		Partition: m.u32("partition"),
		Epoch:     m.u32("epoch"),
		Offset:    m.get("offset").Int(),
		Watermark: m.get("watermark").Int(),
		Now:       m.get("now").Int(),
	}
	m.each("seconds", func(s message) {
		known(s)
		e.Seconds = append(
			e.Seconds,
			Second{
				Site:      s.get("site").String(),
				At:        s.get("at").Int(),
				Pageviews: s.u32("pageviews"),
				Visitors:  s.u32("visitors"),
				Events: s.u32(
					"events",
				),
				Active:   s.u32("active"),
				Final:    s.get("final").Bool(),
				Revision: s.u32("revision"),
				Version:  s.get("row_version").Uint(),
			},
		)
	})
	m.each("nows", func(n message) {
		known(n)
		counts := func(name protoreflect.Name) (all []Count) {
			n.each(name, func(c message) {
				known(c)
				all = append(all, Count{c.get("name").String(), c.u32("active")})
			})
			return all
		}
		e.Nows = append(
			e.Nows,
			Now{
				Site:    n.get("site").String(),
				At:      n.get("at").Int(),
				Version: n.get("row_version").Uint(),
				Pages: counts(
					"pages",
				),
				Sources:   counts("sources"),
				Countries: counts("countries"),
				Devices:   counts("devices"),
				RestPages: n.u32(
					"rest_pages",
				),
				RestSources:   n.u32("rest_sources"),
				RestCountries: n.u32("rest_countries"),
				RestDevices:   n.u32("rest_devices"),
			},
		)
	})
	return e
}
