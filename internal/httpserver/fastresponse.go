package httpserver

import (
	"net/http"
	"strconv"
	"strings"
)

// maxIdleResponse bounds the buffers of a response between two requests, in bytes.
const maxIdleResponse = 4 << 10

// fastResponse is the http.ResponseWriter of the fast path. It keeps the whole response until encode.
type fastResponse struct {
	header http.Header
	status int // 0 until the first WriteHeader or Write
	body   []byte
	out    []byte // as it is sent
}

// Header is http.ResponseWriter's.
func (w *fastResponse) Header() http.Header { return w.header }

// WriteHeader is http.ResponseWriter's. Informational responses (1xx) are dropped.
func (w *fastResponse) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

// Write is http.ResponseWriter's.
func (w *fastResponse) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, b...)
	return len(b), nil
}

// WriteString is io.StringWriter's.
func (w *fastResponse) WriteString(s string) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, s...)
	return len(s), nil
}

// encode returns the response as bytes, and whether the connection stays open after it: it closes if
// closing is true or the handler asked for that.
func (w *fastResponse) encode(date string, closing bool) (out []byte, keepAlive bool) {
	w.WriteHeader(http.StatusOK)
	keepAlive = !closing && !strings.EqualFold(w.header.Get("Connection"), "close")
	b := append(w.out[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	b = append(append(append(b, ' '), http.StatusText(w.status)...), "\r\n"...)
	for name, values := range w.header {
		switch name {
		case "Content-Length", "Connection", "Transfer-Encoding", "Date":
			continue // the fast path sets its own
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	b = appendField(b, "Date", date)
	if w.status != http.StatusNoContent && w.status != http.StatusNotModified {
		if _, has := w.header["Content-Type"]; !has && len(w.body) > 0 {
			b = appendField(b, "Content-Type", http.DetectContentType(w.body))
		}
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(w.body)), 10), "\r\n"...)
	} else {
		w.body = w.body[:0]
	}
	if !keepAlive {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(append(b, "\r\n"...), w.body...)
	w.out = b
	return b, keepAlive
}

// appendField appends a line of a header. A line end in value becomes a space, so that value can't add a
// field.
func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	start := len(b)
	b = append(b, value...)
	for i, c := range b[start:] {
		if c == '\r' || c == '\n' {
			b[start+i] = ' '
		}
	}
	return append(b, "\r\n"...)
}

func (w *fastResponse) reset() {
	w.status, w.body = 0, w.body[:0]
	clear(w.header)
	if cap(w.body)+cap(w.out) > maxIdleResponse {
		w.body, w.out = nil, nil
	}
}
