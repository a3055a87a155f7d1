package site

import (
	"strings"
)

// Pattern is a text that may have wildcards, as the operator matches_wildcard of the Stats API has them: * is
// anything up to the next slash, ** anything at all, \* a star and \\ a backslash. It matches a whole text.
type Pattern string

// Match reports whether the pattern matches a text.
func (p Pattern) Match(s string) bool { return matchWildcards(string(p), s, true) }

// Exact returns the one text that the pattern matches; ok is false for a pattern with a wildcard.
func (p Pattern) Exact() (text string, ok bool) {
	var b strings.Builder
	for rest := string(p); rest != ""; {
		if rest[0] == '*' {
			return "", false
		}
		c, width := literal(rest, true)
		b.WriteByte(c)
		rest = rest[width:]
	}
	return b.String(), true
}

// ExactPattern returns the pattern that matches one text only.
func ExactPattern(text string) Pattern {
	return Pattern(strings.NewReplacer(`\`, `\\`, `*`, `\*`).Replace(text))
}

// literal returns the byte that a pattern begins with, and how many bytes of the pattern stand for it.
func literal(pattern string, escapes bool) (c byte, width int) {
	if escapes && len(pattern) > 1 && pattern[0] == '\\' && (pattern[1] == '*' || pattern[1] == '\\') {
		return pattern[1], 2
	}
	return pattern[0], 1
}

// matchWildcards reports whether a whole text matches a pattern: * stands for any text without a slash, **
// for any text; both also for none. With escapes, \* stands for a star and \\ for a backslash. It is the
// greedy glob algorithm (see https://research.swtch.com/glob) with one backtracking point for each of the two
// stars, so its time is bounded by the product of the lengths.
//
// One point each is enough. A later ** can match all that an earlier one would, so going back before the
// last ** never helps. Nor does going back before the last *: the text between two * that matches later than
// first found either needs the earlier * to cross a slash, or has no slash and matches no worse where it was
// found first.
func matchWildcards(pattern, text string, escapes bool) bool {
	const none = -1
	p, s := 0, 0
	star, starAt := none, 0 // pattern index after the last *, text index after what it has matched
	deep, deepAt := none, 0 // the same for the last **
	for {
		switch {
		case strings.HasPrefix(pattern[p:], "**"):
			for p < len(pattern) && pattern[p] == '*' {
				p++
			}
			deep, deepAt, star = p, s, none
			continue
		case p < len(pattern) && pattern[p] == '*':
			p++
			star, starAt = p, s
			continue
		case p < len(pattern) && s < len(text):
			if c, width := literal(pattern[p:], escapes); c == text[s] {
				p += width
				s++
				continue
			}
		case p == len(pattern) && s == len(text):
			return true
		}
		switch {
		case star != none && starAt < len(text) && text[starAt] != '/':
			starAt++
			p, s = star, starAt
		case deep != none && deepAt < len(text):
			deepAt++
			p, s, star = deep, deepAt, none
		default:
			return false
		}
	}
}
