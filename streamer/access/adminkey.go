package access

import (
	"errors"
	"math"
	"strings"
)

// minKeyBits is the entropy that an admin key from outside needs, in bits.
const minKeyBits = 128

var errWeakKey = errors.New("the admin key is too easy to guess: give nck_ and at least 128 random bits, " +
	"as this command prints: echo nck_$(openssl rand -hex 24)")

// checkAdminKey refuses a key that a person made up. No test can tell whether a text is random; this one
// estimates how many texts of the same length and alphabet there are, and refuses what shows a pattern.
func checkAdminKey(key string) error {
	body, ok := strings.CutPrefix(key, "nck_")
	if !ok || len(body) > 512 || keyBits(body) < minKeyBits || hasPattern(body) {
		return errWeakKey
	}
	return nil
}

// keyBits estimates the entropy of a text: its length times the bits of a character of its alphabet. Letters
// of one case without digits are taken for words, which have about 2 bits a letter.
func keyBits(s string) float64 {
	const hex, digits = "0123456789abcdef", "0123456789"
	only := func(alphabet string) bool { return strings.Trim(s, alphabet) == "" }
	var lower, upper, digit, other bool
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z':
			lower = true
		case 'A' <= c && c <= 'Z':
			upper = true
		case '0' <= c && c <= '9':
			digit = true
		case c == '-' || c == '_' || c == '+' || c == '/' || c == '=' || c == '.' || c == '~':
		default:
			other = true
		}
	}
	size := 4.0 // words
	switch {
	case other: // control characters, spaces and other bytes that a header can't carry
		return 0
	case only(digits):
		size = 10
	case only(hex) || only(strings.ToUpper(hex)):
		size = 16
	case lower && upper:
		size = 64
	case digit:
		size = 32
	}
	return float64(len(s)) * math.Log2(size)
}

// hasPattern reports whether few characters make up the text, or pairs of them come again and again.
func hasPattern(s string) bool {
	var counts [256]int
	pairs := map[string]bool{}
	distinct, run := 0, 1
	for i := range len(s) {
		if counts[s[i]]++; counts[s[i]] == 1 {
			distinct++
		}
		if i == 0 {
			continue
		}
		pairs[s[i-1:i+1]] = true
		if run++; s[i] != s[i-1] {
			run = 1
		}
		if run > 7 {
			return true
		}
	}
	// A key of 128 random bits has 8 distinct characters with near certainty, also in decimal or hex digits.
	// Of n pairs out of at most 100 or 256, the expected distinct ones are m(1-exp(-n/m)).
	possible := float64(distinct * distinct)
	expected := possible * (1 - math.Exp(-float64(len(s)-1)/possible))
	return distinct < 8 || float64(len(pairs)) < 0.75*expected
}
