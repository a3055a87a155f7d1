package process

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// What a reason in /readyz must not tell: where the parts of a cluster are, and who may log in there. The log
// has it.
var (
	urls = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>,;)\]]+`)
	// user:password@host, host:port and [::1]:port; a time such as 12:30:05 is neither.
	credentials = regexp.MustCompile(`[^\s"'@,;(\[]+@[A-Za-z0-9.\[][A-Za-z0-9._:\]-]*`)
	hostPorts   = regexp.MustCompile(
		`\[[0-9A-Fa-f:.%a-z]+\]:\d+|(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?|\b[A-Za-z0-9][A-Za-z0-9._-]*:\d{1,5}\b`)
	hasLetter = regexp.MustCompile(`^[^:]*[A-Za-z.]`)
	lookups   = regexp.MustCompile(`\b(lookup|valid for|dial unix|name) [^\s:]+(,? (?:not|on) [^\s:]+)?`)
	// A path has a slash in front, where a word begins; /readyz and the like are no files.
	files    = regexp.MustCompile(`(^|[\s"'(=:\[])((?:\.{0,2}/|\.[A-Za-z][\w-]*/|~/)[^\s"':,;()\]]+)`)
	ownPaths = []string{"/readyz", "/healthz", "/metrics", "/api/", "/debug/"}
)

// sanitize returns a reason without URLs, addresses, names of hosts, paths of files and the hidden texts.
func sanitize(reason string, hidden []string) string {
	reason = urls.ReplaceAllString(reason, "[address]")
	// The longest first, since one may be a part of another.
	hidden = slices.SortedFunc(slices.Values(hidden), func(a, b string) int {
		return cmp.Compare(len(b), len(a))
	})
	for _, text := range hidden {
		reason = replaceWord(reason, text)
	}
	reason = credentials.ReplaceAllString(reason, "[address]")
	reason = hostPorts.ReplaceAllStringFunc(reason, func(s string) string {
		if !hasLetter.MatchString(s) && !strings.HasPrefix(s, "[") {
			return s // a time or a ratio
		}
		return "[address]"
	})
	reason = lookups.ReplaceAllString(reason, "$1 [address]")
	return files.ReplaceAllStringFunc(reason, func(s string) string {
		m := files.FindStringSubmatch(s)
		for _, own := range ownPaths {
			if strings.HasPrefix(m[2], own) {
				return s
			}
		}
		return m[1] + "[file]"
	})
}

// replaceWord replaces a text where it isn't a part of a longer word.
func replaceWord(s, text string) string {
	isWord := func(c byte) bool {
		return c == '-' || c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
	}
	var out strings.Builder
	for {
		i := strings.Index(s, text)
		if i < 0 {
			out.WriteString(s)
			return out.String()
		}
		end := i + len(text)
		inWord := i > 0 && isWord(s[i-1]) && isWord(text[0]) ||
			end < len(s) && isWord(s[end]) && isWord(text[len(text)-1])
		out.WriteString(s[:i])
		if inWord {
			out.WriteString(text)
		} else {
			out.WriteString("[address]")
		}
		s = s[end:]
	}
}
