package wire

import (
	"slices"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each size is that of what is appended, and zero values take nothing.
func TestSizes(t *testing.T) {
	for _, field := range []protowire.Number{1, 15, 16, 2047} {
		for _, v := range []uint64{0, 1, 127, 128, 1 << 32, 1<<64 - 1} {
			b := AppendVarint(nil, field, v)
			if SizeVarint(field, v) != len(b) || (v == 0) != (len(b) == 0) {
				t.Errorf("field %d, varint %d: size %d of %d bytes", field, v, SizeVarint(field, v), len(b))
			}
			if f := AppendFixed64(nil, field, v); (v == 0) != (len(f) == 0) {
				t.Errorf("field %d, fixed64 %d: %d bytes", field, v, len(f))
			}
		}
		for _, n := range []int{0, 1, 127, 128, 20_000} {
			s := string(slices.Repeat([]byte{'a'}, n))
			b := AppendString(nil, field, s)
			if SizeString(field, s) != len(b) || (n == 0) != (len(b) == 0) {
				t.Errorf("field %d, string of %d: size %d of %d bytes", field, n, SizeString(field, s),
					len(b))
			}
			if b := append(AppendMessageHeader(nil, field, n), s...); SizeMessage(field, n) != len(b) {
				t.Errorf("field %d, message of %d: size %d of %d bytes", field, n, SizeMessage(field, n),
					len(b))
			}
		}
	}
}

// What is appended is a field as protobuf reads it.
func TestFields(t *testing.T) {
	b := AppendBool(AppendString(AppendVarint(nil, 1, 300), 2, "text"), 3, true)
	b = AppendFixed64(AppendBool(b, 4, false), 5, 7)
	var fields []protowire.Number
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if n < 0 || m < 0 {
			t.Fatalf("after %v: %v", fields, protowire.ParseError(min(n, m)))
		}
		if num == 2 {
			if v, _ := protowire.ConsumeBytes(b[n:]); AliasString(v) != "text" {
				t.Errorf("string %q", v)
			}
		}
		fields, b = append(fields, num), b[n+m:]
	}
	if !slices.Equal(fields, []protowire.Number{1, 2, 3, 5}) {
		t.Errorf("fields %v", fields)
	}
}
