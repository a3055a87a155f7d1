package ingest

import (
	"strings"
	"sync"

	"github.com/mileusna/useragent"
)

const (
	maxAgent  = 1024  // bytes of a user agent that count
	maxLabel  = 40    // bytes of a browser's name; the rest of a made-up user agent would be one
	agentsMax = 4_096 // parsed user agents in each of two generations
)

// agent is what a user agent says.
type agent struct {
	device, browser, browserVersion, os, osVersion string
	bot                                            bool
}

// agents remembers parsed user agents: parsing takes longer than all the rest of a beacon. Two generations bound it: a full
// young one becomes the old one, which is then forgotten.
type agents struct {
	mu         sync.RWMutex
	young, old map[string]agent
}

func newAgents() *agents { return &agents{young: map[string]agent{}} }

func (a *agents) parse(s string) agent {
	a.mu.RLock()
	p, ok := a.young[s]
	if ok {
		a.mu.RUnlock()
		return p
	}
	p, ok = a.old[s]
	a.mu.RUnlock()
	if !ok {
		p = parseAgent(s)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.young) >= agentsMax {
		a.young, a.old = make(map[string]agent, agentsMax), a.young
	}
	a.young[strings.Clone(s)] = p
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

// isBot knows what the parser doesn't. "bot" must end a word, else phones by Cubot are bots; an empty user agent comes from
// no browser.
func isBot(s string) bool {
	l := strings.ToLower(s)
	for _, word := range [...]string{"headless", "spider", "crawler", "lighthouse", "phantomjs", "facebookexternalhit", "slurp", "pingdom", "gptbot", "ia_archiver"} {
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
