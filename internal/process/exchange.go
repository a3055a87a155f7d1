package process

import (
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

const (
	quickSize   = 8 << 10 // of a request with its body
	quickFields = 48      // of its header
	keepAnswer  = 4 << 10 // of buffers for answers
)

// exchange is a quick request and its answer. It is used again for others.
type exchange struct {
	q       *quick
	in      [quickSize]byte
	blank   *http.Request // with the context of all
	request http.Request
	url     url.URL
	header  http.Header // of the request
	values  [quickFields]string
	body    bytes.Reader
	closer  io.ReadCloser // of body

	sent    http.Header // of the answer
	status  int
	content []byte
	out     []byte
}

func newExchange(q *quick) *exchange {
	x := &exchange{q: q, blank: (&http.Request{}).WithContext(q.base), header: http.Header{}, sent: http.Header{}}
	x.closer = io.NopCloser(&x.body)
	return x
}

// parse reads a request if it is a POST to one of the paths, is in b from its first byte to its last with nothing behind it, and has nothing in it that
// changes how it is to be read, or that a server may have to refuse: then it is false. It must never be laxer than net/http.
func (x *exchange) parse(b []byte, paths []string) bool {
	path, rest, ok := target(b, paths)
	if !ok {
		return false
	}
	end := bytes.Index(rest, []byte("\r\n\r\n"))
	if end < 0 {
		return false
	}
	clear(x.header)
	host, length := "", -1
	n := 0
	for text := string(rest[:end]); text != ""; n++ {
		var line string
		line, text, _ = strings.Cut(text, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || n == quickFields || !plainName(name) || !plainValue(value) {
			return false
		}
		switch name = textproto.CanonicalMIMEHeaderKey(name); name {
		case "Host":
			if host != "" || !plainHost(value) {
				return false
			}
			host = value
			continue
		case "Content-Length":
			if length >= 0 || len(value) > 4 || strings.Trim(value, "0123456789") != "" {
				return false
			}
			if length, _ = strconv.Atoi(value); value == "" {
				return false
			}
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return false
			}
		case "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Pragma", "Http2-Settings", "Keep-Alive", "Proxy-Connection":
			return false
		}
		if before := x.header[name]; before != nil {
			x.header[name] = append(before, value)
			continue
		}
		x.values[n] = value
		x.header[name] = x.values[n : n+1 : n+1]
	}
	body := rest[end+4:]
	if host == "" || len(body) != length {
		return false
	}
	x.body.Reset(body)
	x.url = url.URL{Path: path}
	x.request = *x.blank
	r := &x.request
	r.Method, r.URL, r.Host, r.RequestURI = http.MethodPost, &x.url, host, path
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.Header, r.ContentLength, r.Body = x.header, int64(length), x.closer
	if length == 0 {
		r.Body = http.NoBody
	}
	return true
}

// target takes the first line off.
func target(b []byte, paths []string) (path string, rest []byte, ok bool) {
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

// plainName is a field's name of letters, digits and hyphens.
func plainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && c-'0' > 9 && (c|0x20)-'a' > 25 {
			return false
		}
	}
	return s != ""
}

// plainValue has no control characters, and so no line ends of any kind.
func plainValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// plainHost is a name or an address, with or without a port.
func plainHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && c != '.' && c != ':' && c != '[' && c != ']' && c-'0' > 9 && (c|0x20)-'a' > 25 {
			return false
		}
	}
	return s != ""
}

// Header is http.ResponseWriter's.
func (x *exchange) Header() http.Header { return x.sent }

// WriteHeader is http.ResponseWriter's. Interim answers are left out.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= 200 {
		x.status = status
	}
}

// Write is http.ResponseWriter's.
func (x *exchange) Write(b []byte) (int, error) {
	x.WriteHeader(http.StatusOK)
	x.content = append(x.content, b...)
	return len(b), nil
}

// WriteString is io.StringWriter's.
func (x *exchange) WriteString(s string) (int, error) {
	x.WriteHeader(http.StatusOK)
	x.content = append(x.content, s...)
	return len(s), nil
}

// answer is what goes to the client, and whether the connection goes on afterwards. last says that it doesn't in any case.
func (x *exchange) answer(last bool) (out []byte, more bool) {
	x.WriteHeader(http.StatusOK)
	more = !last && !strings.EqualFold(x.sent.Get("Connection"), "close")
	b := append(x.out[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(x.status), 10)
	b = append(append(append(b, ' '), http.StatusText(x.status)...), "\r\n"...)
	for name, values := range x.sent {
		switch name {
		case "Content-Length", "Connection", "Transfer-Encoding", "Date":
			continue // they are said below
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	b = appendField(b, "Date", x.q.today())
	if x.status != http.StatusNoContent && x.status != http.StatusNotModified {
		if _, has := x.sent["Content-Type"]; !has && len(x.content) > 0 {
			b = appendField(b, "Content-Type", http.DetectContentType(x.content))
		}
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(x.content)), 10), "\r\n"...)
	} else {
		x.content = x.content[:0]
	}
	if !more {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(append(b, "\r\n"...), x.content...)
	x.out = b
	return b, more
}

// appendField appends a line of a header; no value can end it early.
func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	begin := len(b)
	b = append(b, value...)
	for i, c := range b[begin:] {
		if c == '\r' || c == '\n' {
			b[begin+i] = ' '
		}
	}
	return append(b, "\r\n"...)
}

// reset forgets the request and its answer.
func (x *exchange) reset() {
	x.request, x.status, x.content = http.Request{}, 0, x.content[:0]
	clear(x.header)
	clear(x.values[:])
	clear(x.sent)
	if cap(x.content)+cap(x.out) > keepAnswer {
		x.content, x.out = nil, nil
	}
}
