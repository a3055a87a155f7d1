package imports

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/netip"
	"path"
	"strings"
	"time"
)

// request is what a line of a server's log says.
type request struct {
	at                         time.Time
	address                    string
	method, host, uri          string
	status                     int
	referrer, agent, languages string
}

// lineFormat reads a line. It returns false for a line that is none of its format.
type lineFormat func(line []byte) (request, bool)

const maxLine = 64 << 10 // bytes of a line

// Reasons why a line of a log doesn't count.
const (
	skipMethod = "not a GET request"
	skipStatus = "not answered with 2xx or 304"
	skipAsset  = "of a file that is no page"
	skipLine   = "not a line of this format"
)

// maxBadShare is the share of lines, in percent, that may not be of the format before the import fails.
const maxBadShare = 10

// parseLog reads a server's log: Combined (with or without a host before it), JSON lines (of Caddy, Traefik
// or nginx), or CloudFront. A page view is a GET request that was answered with 2xx or 304, of a path that is
// no file of an asset, by a user agent that is no robot's. A visitor is address and user agent, hashed with a
// key of this import, on one day. No address leaves this package.
func parseLog(r *run, m member, in io.Reader) error {
	lines := bufio.NewReaderSize(in, maxLine)
	var format lineFormat
	n, bad := 0, 0
	for {
		line, err := lines.ReadSlice('\n')
		n++
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return failed(m, n, "it is over %d bytes: this is no log", maxLine)
		case err != nil && !errors.Is(err, io.EOF):
			return failed(m, n, "%w", err)
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		}
		if n%1024 == 0 && r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if line[0] == '#' { // CloudFront's header
			if fields, ok := bytes.CutPrefix(line, []byte("#Fields:")); ok {
				format = cloudFront(strings.Fields(string(fields)))
			}
			continue
		}
		if format == nil {
			format = logFormat(line)
		}
		var q request
		ok := format != nil
		if ok {
			q, ok = format(line)
		}
		if !ok {
			if bad++; bad > 10 && bad*100 > n*maxBadShare {
				return failed(m, n, "%s is no line of a log in the formats Combined, JSON or CloudFront",
					quoted(string(line)))
			}
			r.skip(skipLine)
			continue
		}
		if err := r.addRequest(&q); err != nil {
			return failed(m, n, "%w", err)
		}
	}
}

// isAsset reports whether a path is that of a file that is no page.
func isAsset(p string) bool {
	switch strings.ToLower(path.Ext(p)) {
	case ".css", ".js", ".mjs", ".map", ".json", ".xml", ".txt", ".rss", ".atom", ".csv",
		".webmanifest", ".wasm",
		".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg", ".ico", ".bmp",
		".woff", ".woff2", ".ttf", ".otf", ".eot",
		".mp3", ".mp4", ".m4a", ".m4v", ".ogg", ".webm", ".wav", ".mov", ".ts", ".m3u8",
		".pdf", ".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".tar", ".dmg", ".exe", ".deb", ".rpm",
		".env", ".sql", ".bak", ".cgi":
		return true
	}
	return strings.HasPrefix(p, "/.well-known/") || strings.HasPrefix(p, "/.git")
}

// addRequest counts a request that is a page view.
func (r *run) addRequest(q *request) error {
	p, _, _ := strings.Cut(q.uri, "?")
	switch {
	case q.method != "GET":
		r.skip(skipMethod)
		return nil
	case (q.status < 200 || q.status > 299) && q.status != 304:
		r.skip(skipStatus)
		return nil
	case isAsset(p):
		r.skip(skipAsset)
		return nil
	case !strings.HasPrefix(q.agent, "Mozilla/") && !strings.HasPrefix(q.agent, "Opera/"):
		r.skip(skipRobot) // every browser calls itself Mozilla
		return nil
	}
	host, _, _ := strings.Cut(q.host, ":")
	address, _ := netip.ParseAddr(q.address)
	visible := Page{Hostname: host, Path: q.uri, UserAgent: q.agent, Address: address, Language: q.languages}
	if q.referrer != "-" {
		visible.Referrer = q.referrer
	}
	where, a, robot := r.cfg.Classify.Classify(visible)
	if robot {
		r.skip(skipRobot)
		return nil
	}
	r.report.Rows++
	network := q.address
	if address.Is6() && !address.Is4In6() {
		if n, err := address.Prefix(64); err == nil {
			network = n.String()
		}
	}
	return r.days.add(hit{at: q.at, visitor: r.visitors.of(network, q.agent),
		hostname: strings.Clone(strings.TrimPrefix(strings.ToLower(host), "www.")), path: where,
		Attributes: a.clone()})
}
