package httpserver

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

const (
	maxFastRequest = 8 << 10 // bytes of a request with its body
	maxFastFields  = 48      // lines of its header
)

// fastRequest is a request on the fast path. parse fills it, reset empties it for the next one.
type fastRequest struct {
	http     http.Request
	template *http.Request // empty, with the context of all requests
	url      url.URL
	header   http.Header
	values   [maxFastFields]string // backing array of the header's values
	body     bytes.Reader
	closer   io.ReadCloser // body, with a Close that does nothing
}

func (r *fastRequest) init(ctx context.Context) {
	r.template = (&http.Request{}).WithContext(ctx)
	r.header = http.Header{}
	r.closer = io.NopCloser(&r.body)
}

func (r *fastRequest) reset() {
	r.http = http.Request{}
	clear(r.header)
	clear(r.values[:])
}

// parse reads b into r.http and reports whether b is exactly one plain POST request to one of paths. It
// is false for every request with a field that changes how the message is read, or that a server may
// have to refuse. parse accepts a subset of what net/http accepts, and reads it to the same result;
// FuzzFastPath checks both.
func (r *fastRequest) parse(b []byte, paths []string) bool {
	path, rest, ok := cutRequestLine(b, paths)
	if !ok {
		return false
	}
	end := bytes.Index(rest, []byte("\r\n\r\n"))
	if end < 0 {
		return false
	}
	host, length, ok := r.parseHeader(string(rest[:end]))
	body := rest[end+4:]
	if !ok || host == "" || len(body) != length {
		return false
	}
	r.body.Reset(body)
	r.url = url.URL{Path: path}
	r.http = *r.template
	h := &r.http
	h.Method, h.URL, h.Host, h.RequestURI = http.MethodPost, &r.url, host, path
	h.Proto, h.ProtoMajor, h.ProtoMinor = "HTTP/1.1", 1, 1
	h.Header, h.ContentLength, h.Body = r.header, int64(length), r.closer
	if length == 0 {
		h.Body = http.NoBody
	}
	return true
}

// parseHeader reads the lines of a header into r.header. length is -1 if there is no Content-Length.
func (r *fastRequest) parseHeader(text string) (host string, length int, ok bool) {
	clear(r.header)
	length = -1
	for n := 0; text != ""; n++ {
		var line string
		line, text, _ = strings.Cut(text, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || n == maxFastFields || !isPlainName(name) || !isPlainValue(value) {
			return "", 0, false
		}
		switch name = textproto.CanonicalMIMEHeaderKey(name); name {
		case "Host":
			if host != "" || !isPlainHost(value) {
				return "", 0, false
			}
			host = value
			continue
		case "Content-Length":
			if length >= 0 || value == "" || len(value) > 4 || strings.Trim(value, "0123456789") != "" {
				return "", 0, false
			}
			length, _ = strconv.Atoi(value)
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return "", 0, false
			}
		case "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Pragma", "Http2-Settings",
			"Keep-Alive", "Proxy-Connection":
			return "", 0, false
		}
		if earlier := r.header[name]; earlier != nil {
			r.header[name] = append(earlier, value)
			continue
		}
		r.values[n] = value
		r.header[name] = r.values[n : n+1 : n+1]
	}
	return host, length, true
}

// cutRequestLine cuts "POST path HTTP/1.1" with its line end off b, for one of paths.
func cutRequestLine(b []byte, paths []string) (path string, rest []byte, ok bool) {
	b, ok = bytes.CutPrefix(b, []byte("POST "))
	if !ok {
		return "", nil, false
	}
	for _, path := range paths {
		if len(b) > len(path) && string(b[:len(path)]) == path {
			rest, ok = bytes.CutPrefix(b[len(path):], []byte(" HTTP/1.1\r\n"))
			return path, rest, ok
		}
	}
	return "", nil, false
}

// isPlainName reports whether a field's name has only ASCII letters, digits and hyphens.
func isPlainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && !isAlphanumeric(c) {
			return false
		}
	}
	return s != ""
}

// isPlainValue reports whether a field's value has no control characters, and so no line ends of any
// kind.
func isPlainValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isPlainHost reports whether s has only the characters of a host name or address with or without a
// port.
func isPlainHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && c != '.' && c != ':' && c != '[' && c != ']' && !isAlphanumeric(c) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool { return c-'0' <= 9 || (c|0x20)-'a' <= 25 }
