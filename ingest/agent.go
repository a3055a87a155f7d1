package ingest

import (
	"strings"

	"github.com/mileusna/useragent"
)

const (
	maxAgent  = 1024  // bytes of a user agent that count
	maxLabel  = 40    // bytes of a browser's name; the rest of a made-up user agent would be one
	agentsMax = 4_096 // parsed user agents that are remembered, and as many older ones
)

// agent is what a user agent says.
type agent struct {
	device, browser, browserVersion, os, osVersion string
	bot                                            bool
}

// agents remembers parsed user agents: parsing takes longer than all the rest of a beacon.
type agents struct {
	known    *recent[string, agent]
	crawlers *crawlers
}

func newAgents(c *crawlers) *agents { return &agents{newRecent[string, agent](agentsMax), c} }

func (a *agents) parse(s string) agent {
	if p, ok := a.known.get(s); ok {
		return p
	}
	s = strings.Clone(s) // its parts stay in memory, the rest of the request mustn't
	p := parseAgent(s)
	p.bot = p.bot || a.crawlers.match(s)
	a.known.put(s, p)
	return p
}

func parseAgent(s string) agent {
	u := useragent.Parse(s)
	p := agent{
		browser: u.Name, browserVersion: majorMinor(u.Version),
		os: u.OS, osVersion: majorMinor(u.OSVersion),
		bot: u.Bot || isBot(s),
	}
	switch {
	case u.Tablet:
		p.device = "Tablet"
	case u.Mobile:
		p.device = "Mobile"
	case u.Desktop:
		p.device = "Desktop"
	}
	if u.OS == useragent.Windows {
		p.osVersion = windows(u.OSVersion)
	}
	if len(p.browser) > maxLabel || u.OS == "" && p.browser == s {
		p.browser, p.browserVersion = "", ""
	}
	return p
}

// isBot knows what neither the parser nor the list of crawlers does: words of the trade in made-up names, and the marks of
// browsers that no person drives. "bot" must end a word, else phones by Cubot are bots; an empty user agent comes from
// no browser.
func isBot(s string) bool {
	l := strings.ToLower(s)
	for _, word := range [...]string{"headless", "spider", "crawler", "lighthouse", "facebookexternalhit", "slurp", "pingdom", "gptbot", "ia_archiver",
		"phantomjs", "slimerjs", "htmlunit", "playwright", "puppeteer", "selenium", "webdriver", "cypress/", "jsdom/", "happydom/", "zombie.js"} {
		if strings.Contains(l, word) {
			return true
		}
	}
	for rest := l; ; {
		before, after, ok := strings.Cut(rest, "bot")
		if !ok {
			return strings.TrimSpace(s) == ""
		}
		if !strings.HasSuffix(before, "cu") && (after == "" || strings.IndexByte("/ ;,)-_@.", after[0]) >= 0) {
			return true
		}
		rest = after
	}
}

// majorMinor keeps what of a version people tell apart; the build numbers of browsers would be thousands of values.
func majorMinor(v string) string {
	major, rest, ok := strings.Cut(v, ".")
	minor, _, _ := strings.Cut(rest, ".")
	if ok && minor != "" {
		major += "." + minor
	}
	return cut(strings.ToValidUTF8(major, ""), maxLabel)
}

func windows(nt string) string {
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
