package dialect

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzMembers compares the scanner with encoding/json: the same documents are valid and hold the same
// members.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":-0.5e+7,"b":"x","c":[1,{"d":null}],"e":true,"f":false,"g":{}}`,
		`{"a":"\u00e9\ud83d\ude00\ud83d\n\/"}`,
		`{"a":01}`, `{"a":1.}`, `{"a":+1}`, `{"a":"\x"}`,
		`{"a":"\u12"}`, `{"a" 1}`, `{"a":1,}`, `{a:1}`, `[1]`, `"x"`, ``, `{"a":1}x`, `{"a":tru}`,
		`{"\u0061":1,"a":2}`, "{\"a\":\"\t\"}", `{"a":"\ud800\u0041"}`,
		`{"a":1e}`, `{"a":-}`, `{"a":[1,]}`, `{"a":[}`, `{"`, `{"a":"\`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || strings.Count(s, "[")+strings.Count(s, "{") >= maxDepth {
			t.Skip()
		}
		got := map[string]value{}
		ok := eachMember(s, func(k string, v value) { got[k] = v })
		var want map[string]json.RawMessage
		err := json.Unmarshal([]byte(s), &want)
		if ok != (err == nil && want != nil) {
			t.Fatalf("%q: valid %v, encoding/json says %v", s, ok, err)
		}
		if !ok {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %d members, want %d", s, len(got), len(want))
		}
		for k, raw := range want {
			v := got[k]
			if v.kind != kindString {
				if v.raw != string(raw) {
					t.Fatalf("%q: member %q is %q, want %q", s, k, v.raw, raw)
				}
				continue
			}
			var w string
			if err := json.Unmarshal(raw, &w); err != nil || v.text() != w {
				t.Fatalf("%q: member %q is %q, want %q", s, k, v.text(), w)
			}
		}
	})
}

func TestDepth(t *testing.T) {
	for _, c := range []struct {
		depth int
		ok    bool
	}{{1, true}, {maxDepth - 2, true}, {maxDepth, false}, {400_000, false}} {
		s := `{"a":` + strings.Repeat("[", c.depth) + strings.Repeat("]", c.depth) + `}`
		if got := eachMember(s, nil); got != c.ok {
			t.Errorf("depth %d: valid %v, want %v", c.depth, got, c.ok)
		}
	}
}
