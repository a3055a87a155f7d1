// Package wire appends protobuf fields with implicit presence, and tells their size: a field that has the
// zero value of its type takes no bytes. Source: https://protobuf.dev/programming-guides/encoding/
package wire

import (
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// AppendString appends a string field.
func AppendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

// AppendVarint appends a field of an integer or enum type that is not zigzag-encoded.
func AppendVarint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

// AppendBool appends a bool field.
func AppendBool(b []byte, field protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return AppendVarint(b, field, 1)
}

// AppendFixed64 appends a fixed64 field.
func AppendFixed64(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), v)
}

// AppendMessageHeader appends the tag and length of a message field, whose size bytes the caller appends
// next.
func AppendMessageHeader(b []byte, field protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(size))
}

// SizeString returns the number of bytes that AppendString appends.
func SizeString(field protowire.Number, s string) int {
	if s == "" {
		return 0
	}
	return sizeTag(field) + protowire.SizeBytes(len(s))
}

// SizeVarint returns the number of bytes that AppendVarint appends.
func SizeVarint(field protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return sizeTag(field) + protowire.SizeVarint(v)
}

// SizeMessage returns the number of bytes of a message field whose content has size bytes.
func SizeMessage(field protowire.Number, size int) int {
	return sizeTag(field) + protowire.SizeBytes(size)
}

// AliasString returns b as a string that shares its bytes: b must not change while the string is in use.
func AliasString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// sizeTag returns the size of a tag, for fields below 2,048. It is short, so that the compiler inlines the
// size functions.
func sizeTag(field protowire.Number) int {
	if field < 16 {
		return 1
	}
	return 2
}
