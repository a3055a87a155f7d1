package event

import (
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"nowcast/internal/schematest"
)

// What the codec writes is what event.proto says, and what any other encoder writes by event.proto the
// codec reads.
func TestSchema(t *testing.T) {
	envelope := schematest.Message(t, "event.proto", "Envelope")
	for _, g := range goldens() {
		m := dynamicpb.NewMessage(envelope)
		if err := proto.Unmarshal(g.record, m); err != nil {
			t.Fatalf("%s: %v", g.name, err)
		}
		if g.name != "future" {
			noUnknown(t, g.name, m)
		}
		header(t, m, g.header)
		list := m.Get(byName(m, "event")).List()
		if list.Len() != len(g.events) {
			t.Fatalf("%s: %d events, want %d", g.name, list.Len(), len(g.events))
		}
		for i, e := range g.events {
			same(t, list.Get(i).Message(), e)
		}

		tallies := m.Get(byName(m, "tally")).List()
		for i, x := range g.tallies {
			y := tallies.Get(i).Message()
			get := func(name protoreflect.Name) protoreflect.Value { return y.Get(byName(y, name)) }
			if got := (Tally{get("site").String(), int64(get("minute").Uint()), get("reason").String(),
				get("count").Uint()}); got != x {
				t.Errorf("%s: tally by the schema: %+v, want %+v", g.name, got, x)
			}
		}

		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var d Decoder
		h, events := decodeBy(t, &d, b)
		for i := range events { // a map's order is another each time
			if len(events[i].Props) == len(g.events[i].Props) {
				events[i].Props = g.events[i].Props
			}
		}
		if h != g.header || !reflect.DeepEqual(events, g.events) || !slices.Equal(d.Tallies(), g.tallies) {
			t.Errorf("%s: another encoder's bytes: got %+v %+v", g.name, h, events)
		}
	}
}

func header(t *testing.T, m protoreflect.Message, h Header) {
	t.Helper()
	got := Header{
		Version:     uint32(m.Get(byName(m, "version")).Uint()),
		Node:        m.Get(byName(m, "node")).Uint(),
		Sequence:    m.Get(byName(m, "sequence")).Uint(),
		Low:         m.Get(byName(m, "low")).Int(),
		CloseMarker: m.Get(byName(m, "close_marker")).Bool(),
	}
	if got != h {
		t.Errorf("header by the schema: %+v, want %+v", got, h)
	}
}

// same compares an event field by field with what the schema's reader makes of it.
func same(t *testing.T, m protoreflect.Message, e Event) {
	t.Helper()
	want := map[protoreflect.Name]any{
		"time":             e.Time,
		"visitor":          e.Visitor,
		"previous_visitor": e.PreviousVisitor,
		"kind":             protoreflect.EnumNumber(e.Kind),
		"name":             e.Name,
		"site":             e.Site,
		"hostname":         e.Hostname,
		"path":             e.Path,
		"source":           e.Source,
		"referrer":         e.Referrer,
		"country":          e.Country,
		"region":           e.Region,
		"device":           e.Device,
		"browser":          e.Browser,
		"browser_version":  e.BrowserVersion,
		"os":               e.OS,
		"os_version":       e.OSVersion,
		"language":         e.Language,
		"utm_source":       e.UTMSource,
		"utm_medium":       e.UTMMedium,
		"utm_campaign":     e.UTMCampaign,
		"utm_content":      e.UTMContent,
		"utm_term":         e.UTMTerm,
		"revenue_micros":   e.RevenueMicros,
		"currency":         e.Currency,
		"scroll_depth":     e.ScrollDepth,
		"engaged_ms":       e.EngagedMS,
		"interactive":      e.Interactive,
		"city":             e.City,
		"channel":          e.Channel,
		"screen":           e.Screen,
		"day":              e.Day,
		"utc_offset":       e.UTCOffset,
		"user":             e.User,
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch f.Name() {
		case "id":
			var id []byte
			if e.HasID {
				id = e.ID[:]
			}
			if string(m.Get(f).Bytes()) != string(id) {
				t.Errorf("id by the schema: %x, want %x", m.Get(f).Bytes(), id)
			}
		case "previous_id":
			var id []byte
			if e.HasPreviousID {
				id = e.PreviousID[:]
			}
			if string(m.Get(f).Bytes()) != string(id) {
				t.Errorf("previous id by the schema: %x, want %x", m.Get(f).Bytes(), id)
			}
		case "props":
			n := 0
			_ = EachProp(e.Props, func(k, v string) bool {
				n++
				if got := m.Get(
					f,
				).Map().Get(
					protoreflect.ValueOfString(k).MapKey(),
				); !got.IsValid() ||
					got.String() != v {
					t.Errorf("property %q by the schema: %v, want %q", k, got, v)
				}
				return true
			})
			if m.Get(f).Map().Len() != n {
				t.Errorf("properties by the schema: %v", m.Get(f))
			}
		default:
			if got := m.Get(f).Interface(); got != want[f.Name()] {
				t.Errorf("%s by the schema: %v, want %v", f.Name(), got, want[f.Name()])
			}
		}
		delete(want, f.Name())
	}
	if len(want) > 0 {
		t.Errorf("not in the schema: %v", want)
	}
}

func byName(m protoreflect.Message, name protoreflect.Name) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(name)
}

func noUnknown(t *testing.T, name string, m protoreflect.Message) {
	t.Helper()
	if len(m.GetUnknown()) > 0 {
		t.Errorf("%s: not in the schema: %x", name, m.GetUnknown())
	}
	list := m.Get(byName(m, "event")).List()
	for i := range list.Len() {
		if u := list.Get(i).Message().GetUnknown(); len(u) > 0 {
			t.Errorf("%s: not in the schema of an event: %x", name, u)
		}
	}
}
