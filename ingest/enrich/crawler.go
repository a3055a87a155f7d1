package enrich

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

//go:embed all:crawlers
var crawlerFiles embed.FS

// libraries are patterns of the list that name an HTTP library: that is how a server-side SDK, a mobile
// app or somebody's curl sends beacons on purpose, so by themselves they are no bots.
var libraries = [...]string{
	`[wW]get`, `Python-urllib`, `python-requests`, `aiohttp`, `httpx`, `libwww-perl`, `Go-http-client`, `okhttp`, `AHC\/`,
	`^Apache-HttpClient`, `Jetty`, `axios`, `HttpUrlConnection`, `^curl`, `^PHP-Curl-Class`, `node-fetch`, `sindresorhus\/got`,
	`CustomAsyncHttpClient`, `^HTTPie\/`, `lwp-trivial`,
}

// crawlers are the user agents of the list of npm's crawler-user-agents (MIT): some 1,500 regular
// expressions, of which nearly all are plain words. One after the other they would take a millisecond.
// Here each hangs on a word that a match must have, and the words are found by their first bytes in one
// pass over the user agent.
type crawlers struct {
	words map[[wordKey]byte][]crawlerWord
	slow  []*regexp.Regexp // those without such a word
	size  int
}

// crawlerWord is in a user agent: that is a match, unless there is more to ask.
type crawlerWord struct {
	word  string
	first bool           // only at the beginning
	rule  *regexp.Regexp // nil: the word suffices
}

const (
	wordKey  = 3  // bytes that words are found by
	maxWords = 64 // that one expression may stand for
)

// newCrawlers reads the list that is built in. Without one only the marks of isBot count, which is said
// once.
func newCrawlers(log *slog.Logger) (*crawlers, error) {
	list, err := crawlerFiles.ReadFile("crawlers/crawler-user-agents.json")
	if errors.Is(err, fs.ErrNotExist) {
		log.Warn("fewer bots are known: this program was built without the list of crawlers", "do", "build it with make build")
		return &crawlers{}, nil
	}
	var entries []struct{ Pattern string }
	if err == nil {
		err = json.Unmarshal(list, &entries)
	}
	if err != nil {
		return nil, fmt.Errorf("read list of crawlers: %w", err)
	}
	c := &crawlers{words: map[[wordKey]byte][]crawlerWord{}}
	for _, e := range entries {
		if slices.Contains(libraries[:], e.Pattern) {
			continue
		}
		if err := c.add(e.Pattern); err != nil {
			return nil, fmt.Errorf("read list of crawlers: %w", err)
		}
	}
	return c, nil
}

func (c *crawlers) add(pattern string) error {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return fmt.Errorf("parse %q: %w", pattern, err)
	}
	c.size++
	first := false
	if tree.Op == syntax.OpConcat && tree.Sub[0].Op == syntax.OpBeginText {
		first = true
		tree.Sub = tree.Sub[1:]
	}
	if words := spelled(tree); words != nil && !slices.ContainsFunc(words, short) {
		for _, w := range words {
			c.put(crawlerWord{word: w, first: first})
		}
		return nil
	}
	rule, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("compile %q: %w", pattern, err)
	}
	if w := needed(tree); !short(w) {
		c.put(crawlerWord{word: w, rule: rule})
	} else {
		c.slow = append(c.slow, rule)
	}
	return nil
}

func short(w string) bool { return len(w) < wordKey }

func (c *crawlers) put(w crawlerWord) {
	key := [wordKey]byte([]byte(w.word))
	c.words[key] = append(c.words[key], w)
}

// match says whether a user agent is on the list.
func (c *crawlers) match(ua string) bool {
	for i := 0; i+wordKey <= len(ua); i++ {
		for _, w := range c.words[[wordKey]byte{ua[i], ua[i+1], ua[i+2]}] {
			if strings.HasPrefix(ua[i:], w.word) && (!w.first || i == 0) && (w.rule == nil || w.rule.MatchString(ua)) {
				return true
			}
		}
	}
	return slices.ContainsFunc(c.slow, func(r *regexp.Regexp) bool { return r.MatchString(ua) })
}

// spelled gives all words that an expression stands for, nil where they aren't few: [Cc]url[eE]? is six.
func spelled(t *syntax.Regexp) []string {
	switch t.Op {
	case syntax.OpLiteral:
		if t.Flags&syntax.FoldCase == 0 {
			return []string{string(t.Rune)}
		}
	case syntax.OpEmptyMatch:
		return []string{""}
	case syntax.OpCapture:
		return spelled(t.Sub[0])
	case syntax.OpQuest:
		if words := spelled(t.Sub[0]); words != nil {
			return append(words, "")
		}
	case syntax.OpCharClass:
		var words []string
		for i := 0; i < len(t.Rune); i += 2 {
			for r := t.Rune[i]; r <= t.Rune[i+1]; r++ {
				if words = append(words, string(r)); len(words) > maxWords {
					return nil
				}
			}
		}
		return words
	case syntax.OpAlternate:
		var words []string
		for _, sub := range t.Sub {
			more := spelled(sub)
			if words = append(words, more...); more == nil || len(words) > maxWords {
				return nil
			}
		}
		return words
	case syntax.OpConcat:
		words := []string{""}
		for _, sub := range t.Sub {
			ends := spelled(sub)
			if ends == nil || len(words)*len(ends) > maxWords {
				return nil
			}
			var longer []string
			for _, w := range words {
				for _, e := range ends {
					longer = append(longer, w+e)
				}
			}
			words = longer
		}
		return words
	}
	return nil
}

// needed is the longest word that each match of an expression has, "" where there is none.
func needed(t *syntax.Regexp) (word string) {
	switch t.Op {
	case syntax.OpLiteral:
		if t.Flags&syntax.FoldCase == 0 {
			return string(t.Rune)
		}
	case syntax.OpCapture, syntax.OpPlus:
		return needed(t.Sub[0])
	case syntax.OpConcat:
		for _, sub := range t.Sub {
			if w := needed(sub); len(w) > len(word) {
				word = w
			}
		}
	}
	return word
}
