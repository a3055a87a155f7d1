package window

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func TestRowVersion(t *testing.T) {
	for _, c := range []struct {
		epoch  uint32
		final  bool
		offset int64
	}{{0, false, 0}, {1, false, 1}, {1, true, 1<<51 - 1}, {4095, true, 12345}, {4095, false, 1<<51 - 1}} {
		e, f, o := SplitVersion(RowVersion(c.epoch, c.final, c.offset))
		if e != c.epoch || f != c.final || o != c.offset {
			t.Errorf("%+v became %d %v %d", c, e, f, o)
		}
	}
	rising := []uint64{
		RowVersion(1, false, 0),
		RowVersion(1, false, 9),
		RowVersion(1, true, 3),
		RowVersion(1, true, 1<<51-1),
		RowVersion(2, false, 0),
	}
	for i := 1; i < len(rising); i++ {
		if rising[i] <= rising[i-1] {
			t.Errorf("version %d is not above the one before", i)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, g := range goldens() {
		for _, s := range g.want.Seconds {
			if got := len((&Emission{Seconds: []Second{s}}).Append(nil)); got != s.Size() {
				t.Errorf("%s: a second takes %d bytes, Size says %d", g.name, got, s.Size())
			}
		}
		for _, n := range g.want.Nows {
			if got := len((&Emission{Nows: []Now{n}}).Append(nil)); got != n.Size() {
				t.Errorf("%s: a now takes %d bytes, Size says %d", g.name, got, n.Size())
			}
		}
	}
}

func TestRefuses(t *testing.T) {
	ok := (&Emission{Version: 1, Offset: 3}).Append(nil)
	row := func(num protowire.Number, b ...byte) []byte {
		return protowire.AppendBytes(
			protowire.AppendTag(append([]byte{}, ok...), num, protowire.BytesType),
			b,
		)
	}
	for name, c := range map[string]struct {
		record []byte
		want   error
	}{
		"empty":               {nil, ErrCorrupt},
		"text":                {[]byte(`{"version":1}`), ErrCorrupt},
		"newer":               {(&Emission{Version: 2}).Append(nil), ErrVersion},
		"newer by far":        {protowire.AppendVarint([]byte{0x08}, 1<<32+1), ErrVersion},
		"no version":          {(&Emission{Offset: 3}).Append(nil), ErrCorrupt},
		"cut":                 {full().Append(nil)[:60], ErrCorrupt},
		"length too long":     {append(row(emSeconds), 0x3a, 0xff, 0xff, 0xff, 0x7f), ErrCorrupt},
		"second without site": {row(emSeconds), ErrCorrupt},
		"now without site":    {row(emNows), ErrCorrupt},
		"count cut":           {row(emNows, 0x22, 5, 1), ErrCorrupt},
	} {
		if err := new(Emission).Decode(c.record); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

// A field of another wire type than the schema's is an unknown one.
func TestOtherWireType(t *testing.T) {
	b := protowire.AppendString(
		protowire.AppendTag((&Emission{Version: 1, Offset: 3}).Append(nil), emOffset, protowire.BytesType),
		"x",
	)
	b = protowire.AppendVarint(protowire.AppendTag(b, emSeconds, protowire.VarintType), 1)
	var e Emission
	if err := e.Decode(b); err != nil || e.Offset != 3 || len(e.Seconds) != 0 {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestDecodeReuses(t *testing.T) {
	big, small := full().Append(
		nil,
	), (&Emission{Version: 1, Nows: []Now{{Site: "b", At: 1}}, Seconds: []Second{{Site: "b"}}}).Append(
		nil,
	)
	var e Emission
	for range 2 {
		if err := e.Decode(big); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Decode(small); err != nil {
		t.Fatal(err)
	}
	if n := e.Nows[0]; len(e.Nows) != 1 || n.Site != "b" ||
		len(n.Pages)+len(n.Sources)+len(n.Countries)+len(n.Devices) != 0 ||
		n.RestPages != 0 ||
		e.Seconds[0] != (Second{Site: "b"}) {
		t.Errorf("left over from the record before: %+v", e)
	}
	if a := testing.AllocsPerRun(100, func() { _ = e.Decode(big); _ = e.Decode(small) }); a != 0 {
		t.Errorf("decoding allocates %v times", a)
	}
	f, buf := full(), make([]byte, 0, 4096)
	if a := testing.AllocsPerRun(100, func() { buf = f.Append(buf[:0]) }); a != 0 {
		t.Errorf("encoding allocates %v times", a)
	}
}

func FuzzDecode(f *testing.F) {
	for _, g := range goldens() {
		f.Add(g.record)
	}
	f.Add([]byte(strings.Repeat("\x42\x00", 100)))
	var reused Emission
	f.Fuzz(func(t *testing.T, b []byte) {
		var fresh, again Emission
		if reused.Decode(b) != nil {
			return
		}
		if err := fresh.Decode(b); err != nil {
			t.Fatal(err)
		}
		if err := again.Decode(
			fresh.Append(nil),
		); err != nil || !equal(&fresh, &again) ||
			!equal(&fresh, &reused) {
			t.Errorf("%x: %+v, then %+v, reused %+v: %v", b, fresh, again, reused, err)
		}
	})
}

// equal compares, empty lists being equal to none.
func equal(a, b *Emission) bool {
	for _, e := range []*Emission{a, b} {
		e.Seconds, e.Nows = append([]Second(nil), e.Seconds...), append([]Now(nil), e.Nows...)
		for i := range e.Nows {
			for _, l := range e.Nows[i].lists() {
				*l = append([]Count(nil), *l...)
			}
		}
	}
	return reflect.DeepEqual(a, b)
}
