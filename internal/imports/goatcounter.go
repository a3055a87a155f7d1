package imports

import (
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const goatCounterVersion = "2"

var goatCounterHeader = regexp.MustCompile(`^"?([0-9]+),?Path`)

// parseGoatCounter reads the CSV export of GoatCounter. A row is one hit; a visitor is a session.
func parseGoatCounter(r *run, m member, in io.Reader) error {
	t, err := newTable(m, in, 0)
	if err != nil {
		return err
	}
	version := ""
	for name, i := range t.columns {
		if v, ok := strings.CutSuffix(name, "path"); ok && i == 0 {
			version = v
		}
	}
	if version != goatCounterVersion {
		return failed(m, 1, "the header has to begin with %sPath, as version %[1]s of the format does; "+
			"export again with GoatCounter 2.0 or newer", goatCounterVersion)
	}
	if err := t.require("event", "session", "bot", "date"); err != nil {
		return err
	}
	for t.next() {
		if err := r.canceled(); err != nil {
			return err
		}
		if bot := t.get("bot"); bot != "" && bot != "0" {
			r.skip(skipRobot)
			continue
		}
		at, err := time.Parse(time.RFC3339, t.get("date"))
		if err != nil {
			return failed(m, t.line, "%s is no time: want it as 2026-01-31T23:59:59Z", quoted(t.get("date")))
		}
		session := t.get("session")
		if session == "" { // a hit of before sessions: a visitor of its own
			session = m.name + ":" + strconv.Itoa(t.line)
		}
		h := hit{at: at, visitor: r.visitors.of(session)}
		path := t.text(goatCounterVersion + "path")
		if t.get("event") == "true" {
			h.name, path = path, ""
		}
		r.goatCounterPage(t, &h, path)
		r.report.Rows++
		if err := r.days.add(h); err != nil {
			return failed(m, t.line, "%w", err)
		}
	}
	return t.err()
}

// goatCounterPage sets what a row says of the page and of the visitor.
func (r *run) goatCounterPage(t *table, h *hit, path string) {
	p := Page{Path: path}
	p.ScreenWidth = screenWidth(t.get("screensize"))
	referrer := t.get("referrer")
	scheme := t.get("referrerscheme")
	if referrer != "" {
		switch scheme {
		case "c":
			p.Path = withParameter(p.Path, "utm_source", referrer)
		case "g", "o":
			p.Path = withParameter(p.Path, "ref", referrer)
		default:
			p.Referrer = "https://" + strings.TrimPrefix(strings.TrimPrefix(referrer, "https://"), "http://")
		}
	}
	var a Attributes
	h.path, a, _ = r.cfg.Classify.Classify(p)
	if path == "" {
		h.path = ""
	}
	a.Country, a.Region = t.get("location"), ""
	if country, _, ok := strings.Cut(a.Country, "-"); ok {
		a.Country, a.Region = country, a.Country
	}
	a.Browser, a.BrowserVersion = withVersion(t.get("browser"))
	a.OS, a.OSVersion = withVersion(t.get("system"))
	a.Browser, a.OS = browserName(a.Browser), systemName(a.OS)
	h.Attributes = a.clone()
}

// screenWidth reads "1440,900,2", and "1440x900".
func screenWidth(s string) int64 {
	if i := strings.IndexAny(s, ",x"); i >= 0 {
		s = s[:i]
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n < 0 || n > 1e6 {
		return 0
	}
	return int64(n)
}
