package enrich

import (
	"strings"

	"github.com/mileusna/useragent"

	"nowcast/ingest/dialect"
)

const (
	maxUserAgent = 1024  // bytes of a user agent that are read
	maxLabel     = 40    // bytes of a browser's name; the name of a made-up user agent may be all of it
	maxAgents    = 4_096 // parsed user agents in each generation of the cache
)

// agent is what a user agent tells.
type agent struct {
	device, browser, browserVersion, os, osVersion string
	bot                                            bool
}

// agentParser parses user agents. It caches results, since parsing takes longer than all other work on a
// beacon.
type agentParser struct {
	cache    *cache[string, agent]
	crawlers *crawlers
}

func newAgentParser(c *crawlers) *agentParser {
	return &agentParser{newCache[string, agent](maxAgents), c}
}

func (p *agentParser) parse(s string) agent {
	if a, ok := p.cache.get(s); ok {
		return a
	}
	s = strings.Clone(s) // the cache keeps parts of it, and not the request that it is a part of
	a := parseAgent(s)
	a.bot = a.bot || p.crawlers.match(s)
	p.cache.put(s, a)
	return a
}

func parseAgent(s string) agent {
	u := useragent.Parse(s)
	a := agent{
		browser: u.Name, browserVersion: majorMinor(u.Version),
		os: u.OS, osVersion: majorMinor(u.OSVersion),
		bot: u.Bot || isBot(s),
	}
	switch {
	case u.Tablet:
		a.device = "Tablet"
	case u.Mobile:
		a.device = "Mobile"
	case u.Desktop:
		a.device = "Desktop"
	}
	if u.OS == useragent.Windows {
		a.osVersion = windowsVersion(u.OSVersion)
	}
	if len(a.browser) > maxLabel || u.OS == "" && a.browser == s {
		a.browser, a.browserVersion = "", ""
	}
	return a
}

// isBot finds bots that neither the parser nor the list of crawlers knows: usual words in made-up names,
// browsers that a program drives, and an empty user agent, which no browser sends. The word "bot" has to
// end a name, and "cubot" is excepted: it is a maker of phones.
func isBot(s string) bool {
	l := strings.ToLower(s)
	for _, word := range [...]string{
		"headless", "spider", "crawler", "lighthouse", "facebookexternalhit", "slurp", "pingdom", "gptbot",
		"ia_archiver", "phantomjs", "slimerjs", "htmlunit", "playwright", "puppeteer", "selenium",
		"webdriver", "cypress/", "jsdom/", "happydom/", "zombie.js",
	} {
		if strings.Contains(l, word) {
			return true
		}
	}
	for rest := l; ; {
		before, after, ok := strings.Cut(rest, "bot")
		if !ok {
			return strings.TrimSpace(s) == ""
		}
		ends := after == "" || strings.IndexByte("/ ;,)-_@.", after[0]) >= 0
		if ends && !strings.HasSuffix(before, "cu") {
			return true
		}
		rest = after
	}
}

// majorMinor shortens a version to two numbers. The build numbers of browsers would be thousands of
// values.
func majorMinor(v string) string {
	major, rest, ok := strings.Cut(v, ".")
	minor, _, _ := strings.Cut(rest, ".")
	if ok && minor != "" {
		major += "." + minor
	}
	return dialect.Truncate(strings.ToValidUTF8(major, ""), maxLabel)
}

// windowsVersion translates the version of Windows NT to that of the product.
func windowsVersion(nt string) string {
	switch nt {
	case "10.0":
		return "10"
	case "6.3":
		return "8.1"
	case "6.2":
		return "8"
	case "6.1":
		return "7"
	}
	return majorMinor(nt)
}
