package dialect

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deep a beacon's JSON may nest. The JSON of real beacons nests twice.
const maxDepth = 64

// kind is the type of a JSON value, named by the byte that it starts with.
type kind byte

const (
	kindNone   kind = 0 // the member is missing
	kindNull   kind = 'n'
	kindBool   kind = 't'
	kindNumber kind = '0'
	kindString kind = '"'
	kindObject kind = '{'
	kindArray  kind = '['
)

// value is a JSON value: its kind and its source text. The text of a string is without the quotes and
// still escaped. It shares the memory of the document.
type value struct {
	kind kind
	raw  string
}

// truthy is false for a missing member, null and false.
func (v value) truthy() bool {
	return v.kind != kindNone && v.kind != kindNull && v.raw != "false"
}

// text returns a string value, unescaped. It copies only a string that has escapes.
func (v value) text() string {
	if strings.IndexByte(v.raw, '\\') < 0 {
		return v.raw
	}
	return unescape(v.raw)
}

// integer returns an integer, given as a number or as a string of digits.
func (v value) integer() (int64, bool) {
	if v.kind != kindNumber && v.kind != kindString {
		return 0, false
	}
	n, err := strconv.ParseInt(v.raw, 10, 64)
	return n, err == nil
}

// object returns the JSON of an object, or of what may be one in a string.
func (v value) object() (raw string, ok bool) {
	switch v.kind {
	case kindObject:
		return v.raw, true
	case kindString:
		return v.text(), true
	}
	return "", false
}

// scanner reads one strict JSON document (RFC 8259) in valid UTF-8. A beacon is a flat object with few
// keys, each read once, for which encoding/json takes five times as long.
type scanner struct {
	s string
	i int
}

// eachMember calls f for each member of the object that is the whole of s, also for each of several with
// the same key. It returns false if s isn't one valid JSON object.
func eachMember(s string, f func(key string, v value)) bool {
	sc := scanner{s: s}
	sc.space()
	if !sc.object(0, f) {
		return false
	}
	sc.space()
	return sc.i == len(s)
}

// eachElement calls f for each element of the array that is the whole of s. It returns false if s isn't
// one valid JSON array.
func eachElement(s string, f func(v value)) bool {
	sc := scanner{s: s}
	sc.space()
	if !sc.array(0, f) {
		return false
	}
	sc.space()
	return sc.i == len(s)
}

// pair returns the members first and second of the object that is the whole of s. It returns false if s
// isn't one valid JSON object.
func pair(s, first, second string) (a, b value, ok bool) {
	ok = eachMember(s, func(key string, v value) {
		switch key {
		case first:
			a = v
		case second:
			b = v
		}
	})
	return a, b, ok
}

func (sc *scanner) space() {
	for sc.i < len(sc.s) {
		switch sc.s[sc.i] {
		case ' ', '\t', '\n', '\r':
			sc.i++
		default:
			return
		}
	}
}

// take moves past c and returns true if c is the next byte.
func (sc *scanner) take(c byte) bool {
	if sc.i < len(sc.s) && sc.s[sc.i] == c {
		sc.i++
		return true
	}
	return false
}

func (sc *scanner) object(depth int, f func(key string, v value)) bool {
	if depth >= maxDepth || !sc.take('{') {
		return false
	}
	sc.space()
	if sc.take('}') {
		return true
	}
	for {
		sc.space()
		key, ok := sc.quoted()
		if !ok {
			return false
		}
		sc.space()
		if !sc.take(':') {
			return false
		}
		v, ok := sc.value(depth)
		if !ok {
			return false
		}
		if f != nil {
			f(value{kindString, key}.text(), v)
		}
		sc.space()
		if sc.take('}') {
			return true
		}
		if !sc.take(',') {
			return false
		}
	}
}

func (sc *scanner) array(depth int, f func(v value)) bool {
	if depth >= maxDepth || !sc.take('[') {
		return false
	}
	sc.space()
	if sc.take(']') {
		return true
	}
	for {
		v, ok := sc.value(depth)
		if !ok {
			return false
		}
		if f != nil {
			f(v)
		}
		sc.space()
		if sc.take(']') {
			return true
		}
		if !sc.take(',') {
			return false
		}
	}
}

// value reads white space and any value.
func (sc *scanner) value(depth int) (v value, ok bool) {
	sc.space()
	if sc.i == len(sc.s) {
		return value{}, false
	}
	from := sc.i
	switch sc.s[sc.i] {
	case '"':
		raw, ok := sc.quoted()
		return value{kindString, raw}, ok
	case '{':
		v.kind, ok = kindObject, sc.object(depth+1, nil)
	case '[':
		v.kind, ok = kindArray, sc.array(depth+1, nil)
	case 't':
		v.kind, ok = kindBool, sc.word("true")
	case 'f':
		v.kind, ok = kindBool, sc.word("false")
	case 'n':
		v.kind, ok = kindNull, sc.word("null")
	default:
		v.kind, ok = kindNumber, sc.number()
	}
	v.raw = sc.s[from:sc.i]
	return v, ok
}

func (sc *scanner) word(w string) bool {
	if !strings.HasPrefix(sc.s[sc.i:], w) {
		return false
	}
	sc.i += len(w)
	return true
}

func (sc *scanner) digits() bool {
	from := sc.i
	for sc.i < len(sc.s) && sc.s[sc.i]-'0' <= 9 {
		sc.i++
	}
	return sc.i > from
}

func (sc *scanner) number() bool {
	sc.take('-')
	if !sc.take('0') && !sc.digits() {
		return false
	}
	if sc.take('.') && !sc.digits() {
		return false
	}
	if sc.take('e') || sc.take('E') {
		if !sc.take('+') {
			sc.take('-')
		}
		return sc.digits()
	}
	return true
}

// quoted reads a string and returns what is between its quotes.
func (sc *scanner) quoted() (string, bool) {
	if !sc.take('"') {
		return "", false
	}
	from := sc.i
	for sc.i < len(sc.s) {
		switch c := sc.s[sc.i]; {
		case c == '"':
			sc.i++
			return sc.s[from : sc.i-1], true
		case c == '\\':
			if !sc.escape() {
				return "", false
			}
		case c < ' ':
			return "", false
		default:
			sc.i++
		}
	}
	return "", false
}

func (sc *scanner) escape() bool {
	if sc.i+1 >= len(sc.s) {
		return false
	}
	switch sc.s[sc.i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		sc.i += 2
		return true
	case 'u':
		if _, ok := hex4(sc.s[sc.i+2:]); !ok {
			return false
		}
		sc.i += 6
		return true
	}
	return false
}

func hex4(s string) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for i := range 4 {
		d, ok := hexDigit(s[i])
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c-'0' <= 9:
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return (c | 0x20) - 'a' + 10, true
	}
	return 0, false
}

// unescape resolves the escapes of a valid string. A lone surrogate becomes U+FFFD.
func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b = append(b, s[i])
			i++
			continue
		}
		c := s[i+1]
		i += 2
		switch c {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, _ := hex4(s[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(utf8.RuneError)
				if strings.HasPrefix(s[i:], `\u`) {
					low, _ = hex4(s[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			b = utf8.AppendRune(b, r)
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
