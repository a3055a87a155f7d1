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

// libraries are patterns of the list that name an HTTP library. Server-side SDKs, mobile apps and curl
// send beacons on purpose, so these patterns don't make a bot.
var libraries = [...]string{
	`[wW]get`, `Python-urllib`, `python-requests`, `aiohttp`, `httpx`, `libwww-perl`,
	`Go-http-client`, `okhttp`, `AHC\/`, `^Apache-HttpClient`, `Jetty`, `axios`, `HttpUrlConnection`, `^curl`,
	`^PHP-Curl-Class`, `node-fetch`, `sindresorhus\/got`, `CustomAsyncHttpClient`, `^HTTPie\/`, `lwp-trivial`,
}

// crawlers matches user agents with the list of npm's crawler-user-agents (MIT): some 1,500 regular
// expressions, nearly all of them plain words. Trying them one after the other takes a millisecond. So
// each is indexed by the first bytes of a literal that each match contains, and one pass over a user
// agent looks up all its positions in the index.
type crawlers struct {
	index     map[[prefixLen]byte][]crawlerLiteral
	unindexed []*regexp.Regexp // expressions without such a literal
	size      int
}

// crawlerLiteral is a literal of an expression.
type crawlerLiteral struct {
	literal  string
	anchored bool           // matches only at the beginning of a user agent
	rule     *regexp.Regexp // has to match too; nil: the literal is the whole expression
}

const (
	prefixLen   = 3  // bytes of a literal that are its key in the index
	maxLiterals = 64 // that one expression may stand for
)

// newCrawlers reads the built-in list. If the build left it out, only isBot finds bots.
func newCrawlers(log *slog.Logger) (*crawlers, error) {
	list, err := crawlerFiles.ReadFile("crawlers/crawler-user-agents.json")
	if errors.Is(err, fs.ErrNotExist) {
		log.Warn("fewer bots are known: this program was built without the list of crawlers",
			"do", "build it with make build")
		return &crawlers{}, nil
	}
	var entries []struct{ Pattern string }
	if err == nil {
		err = json.Unmarshal(list, &entries)
	}
	if err != nil {
		return nil, fmt.Errorf("read list of crawlers: %w", err)
	}
	c := &crawlers{index: map[[prefixLen]byte][]crawlerLiteral{}}
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
	anchored := false
	if tree.Op == syntax.OpConcat && tree.Sub[0].Op == syntax.OpBeginText {
		anchored = true
		tree.Sub = tree.Sub[1:]
	}
	if literals := expand(tree); literals != nil && !slices.ContainsFunc(literals, tooShort) {
		for _, l := range literals {
			c.put(crawlerLiteral{literal: l, anchored: anchored})
		}
		return nil
	}
	rule, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("compile %q: %w", pattern, err)
	}
	if l := required(tree); !tooShort(l) {
		c.put(crawlerLiteral{literal: l, rule: rule})
	} else {
		c.unindexed = append(c.unindexed, rule)
	}
	return nil
}

func tooShort(literal string) bool { return len(literal) < prefixLen }

func (c *crawlers) put(l crawlerLiteral) {
	key := [prefixLen]byte([]byte(l.literal))
	c.index[key] = append(c.index[key], l)
}

// match reports whether an expression of the list matches a user agent.
func (c *crawlers) match(ua string) bool {
	for i := 0; i+prefixLen <= len(ua); i++ {
		for _, l := range c.index[[prefixLen]byte{ua[i], ua[i+1], ua[i+2]}] {
			found := strings.HasPrefix(ua[i:], l.literal) && (!l.anchored || i == 0)
			if found && (l.rule == nil || l.rule.MatchString(ua)) {
				return true
			}
		}
	}
	return slices.ContainsFunc(c.unindexed, func(r *regexp.Regexp) bool { return r.MatchString(ua) })
}

// expand returns all literals that an expression stands for, nil if there are over maxLiterals or
// infinitely many: [Cc]url[eE]? is six literals.
func expand(t *syntax.Regexp) []string {
	switch t.Op {
	case syntax.OpLiteral:
		if t.Flags&syntax.FoldCase == 0 {
			return []string{string(t.Rune)}
		}
	case syntax.OpEmptyMatch:
		return []string{""}
	case syntax.OpCapture:
		return expand(t.Sub[0])
	case syntax.OpQuest:
		if literals := expand(t.Sub[0]); literals != nil {
			return append(literals, "")
		}
	case syntax.OpCharClass:
		var literals []string
		for i := 0; i < len(t.Rune); i += 2 {
			for r := t.Rune[i]; r <= t.Rune[i+1]; r++ {
				if literals = append(literals, string(r)); len(literals) > maxLiterals {
					return nil
				}
			}
		}
		return literals
	case syntax.OpAlternate:
		var literals []string
		for _, sub := range t.Sub {
			more := expand(sub)
			if literals = append(literals, more...); more == nil || len(literals) > maxLiterals {
				return nil
			}
		}
		return literals
	case syntax.OpConcat:
		literals := []string{""}
		for _, sub := range t.Sub {
			ends := expand(sub)
			if ends == nil || len(literals)*len(ends) > maxLiterals {
				return nil
			}
			var longer []string
			for _, l := range literals {
				for _, e := range ends {
					longer = append(longer, l+e)
				}
			}
			literals = longer
		}
		return literals
	}
	return nil
}

// required returns the longest literal that each match of an expression contains, "" if there is none.
func required(t *syntax.Regexp) (literal string) {
	switch t.Op {
	case syntax.OpLiteral:
		if t.Flags&syntax.FoldCase == 0 {
			return string(t.Rune)
		}
	case syntax.OpCapture, syntax.OpPlus:
		return required(t.Sub[0])
	case syntax.OpConcat:
		for _, sub := range t.Sub {
			if l := required(sub); len(l) > len(literal) {
				literal = l
			}
		}
	}
	return literal
}
