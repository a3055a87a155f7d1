package site

import (
	"errors"
	"strings"
	"testing"
)

func TestCleanName(t *testing.T) {
	for _, row := range []struct{ in, want string }{
		{" the newsroom's screen ", "the newsroom's screen"},
		{"Büro 📊 日本語 עברית", "Büro 📊 日本語 עברית"},
		{strings.Repeat("n", 100), strings.Repeat("n", 100)},
		{strings.Repeat("n", 101), ""},
		{"", ""},
		{" \t\n", ""},
		{"a\x00b", ""},
		{"a\nb", ""},
		{"a\tb", ""},
		{"a\x1b[31mb", ""},
		{"a\u009bb", ""},
		{"a\u200bb", ""},
		{"a\u202eb", ""},
		{"a\u2066b", ""},
		{"a\ufeffb", ""},
		{"a\u00adb", ""},
		{"a\u2028b", ""},
		{"a\u2029b", ""},
		{"a\U000e0041b", ""},
		{"a\xffb", ""},
	} {
		got, err := cleanName("key", row.in)
		if got != row.want || (err == nil) != (row.want != "") || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("cleanName(%+q) = %q, %v", row.in, got, err)
		}
		if err != nil && strings.ContainsFunc(err.Error(), isHidden) {
			t.Errorf("cleanName(%+q): the error shows it: %+q", row.in, err)
		}
	}
}

// An error about a domain shows what can't be seen in it.
func TestDomainErrorIsReadable(t *testing.T) {
	for _, in := range []string{"exa\u200bmple.com", "a\x1b[2J.example", "a\u202e.example", "\xff.example"} {
		if _, err := Domain(in); err == nil || strings.ContainsFunc(err.Error(), isHidden) {
			t.Errorf("%+q: %v", in, err)
		}
	}
	for in, want := range map[string]string{
		"example.com:0": "has a port that can't be; give 1 to 65535",
		"favicon.ico":   "is the name of a file",
	} {
		if _, err := Domain(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
}
