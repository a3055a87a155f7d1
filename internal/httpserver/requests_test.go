package httpserver

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// requestMaker makes requests that are plain, unusual, invalid or broken, for the fast path.
type requestMaker struct{ *rand.Rand }

// oneOf returns the first choice in most cases, else any.
func (m requestMaker) oneOf(usual int, choices ...string) string {
	if m.IntN(100) < usual {
		return choices[0]
	}
	return choices[m.IntN(len(choices))]
}

// oddFields are lines of a header that change how a message is read, or that a server may have to refuse.
var oddFields = []string{
	"Connection: keep-alive\r\n", "Connection: close\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n",
	"Connection: keep-alive, close\r\n", "connection: KEEP-ALIVE\r\n", "Connection:\r\n",
	"Connection: x-a\r\n", "Keep-Alive: timeout=5\r\n", "Proxy-Connection: close\r\n",
	"Expect: 100-continue\r\n", "Expect: nothing\r\n", "Upgrade: websocket\r\n", "TE: trailers\r\n",
	"Trailer: X-T\r\n", "Pragma: no-cache\r\n", "Transfer-Encoding: identity\r\n",
	"Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding:\tchunked\r\n",
	"Transfer_Encoding: chunked\r\n",
	"Transfer-Encoding : chunked\r\n", "X-A: a\r\n b\r\n", "X-A: a\r\n\tb\r\n", " X-A: a\r\n", "X-A : a\r\n",
	"X-A\r\n", ": a\r\n", "X-A: \x00\r\n", "X-A: \x7f\r\n", "X-A: a\rb\r\n", "X-A: a\nX-B: b\r\n",
	"X-A: \xff\xc3\xa4\r\n", "X_A: a\r\n", "X-\xc3\xa4: a\r\n", "X(A: a\r\n", "X-A:\r\n", "X-A:  \t a\t \r\n",
	"Content-Length: 1\r\n", "Content-Length: 0\r\n", "content-length:  1 \r\n", "Content-Length: 1, 1\r\n",
	"Content-Length: -1\r\n", "Content-Length: 99999999999999999999\r\n", "Content_Length: 1\r\n",
	"Content-Length\t: 1\r\n", "Host: y\r\n", "host: x.example:80\r\n", "Host:\r\n",
	"Http2-Settings: AAA\r\n",
	"Cookie: a=b; c=d\r\n", "Cookie: e=f\r\n", "Content-Encoding: gzip\r\n", "X-Forwarded-For: 1.1.1.1\r\n",
	"X-Forwarded-For: 2.2.2.2\r\n", "Sec-WebSocket-Key: a\r\n", "X-Do: close\r\n", "X-Do: empty\r\n",
	"X-Do: split\r\n", "X-Do: nothing\r\n", "X-Do: sniff\r\n", "X-Do: panic\r\n",
	"Origin: https://x.example\r\n", "User-Agent: Mozilla/5.0 (X11)\r\n", "user-agent: curl/8\r\n",
	"Content-Type: application/json\r\n", "Range: bytes=0-1\r\n", "If-None-Match: *\r\n", "Date: x\r\n",
}

var hosts = []string{"x.example:80", "x", "[::1]:80", "127.0.0.1", "x/y", "x y", "x:port", "", "a@b", "x%41",
	"X.Y", "é"}

// request makes one request.
func (m requestMaker) request() string {
	var b strings.Builder
	b.WriteString(m.oneOf(85, "", "\r\n", "\n", "\r", "\r\n\r\n", "\r\n\r\n\r\n", "\n\n\n\n\n", " ", "\x00"))
	b.WriteString(m.oneOf(90, "POST", "GET", "PUT", "post", "POST ", "DELETE", "OPTIONS", "PO\x00ST", ""))
	b.WriteByte(' ')
	b.WriteString(m.oneOf(88, "/q", "/q?a=b", "/other", "/q/", "//q", "/%71", "/q#f", "http://x.example/q",
		"*", "/q%", "q", "/q\tx", "/../q", "http://other/q", "/q?", "/q\x00", "/q "))
	b.WriteByte(' ')
	line := m.oneOf(97, "\r\n", "\n", "\r")
	b.WriteString(m.oneOf(95, "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "HTTP/1",
		"HTTP/1.2", ""))
	b.WriteString(line)
	body, chunked := m.body(), m.IntN(20) == 0
	fields := []string{"Host: " + m.oneOf(95, hosts...) + "\r\n"}
	switch {
	case chunked:
		fields = append(fields, "Transfer-Encoding: chunked\r\n")
		body = fmt.Sprintf(m.oneOf(80, "%x\r\n%s\r\n0\r\n\r\n", "%x;a=b\r\n%s\r\n0\r\n\r\n",
			"%x\r\n%s\r\n0\r\nX-T: t\r\n\r\n",
			"%x\n%s\n0\n\n", "%x\r\n%s0\r\n\r\n", "0%x\r\n%s\r\n00\r\n\r\n"), len(body), body)
	default:
		n := strconv.Itoa(len(body))
		fields = append(fields, m.oneOf(96, "Content-Length: "+n+"\r\n", "content-length:"+n+" \r\n", "",
			"Content-Length: +"+n+"\r\n", "Content-Length: 0"+n+"\r\n", "Content-Length: 0x"+n+"\r\n",
			strings.Repeat("Content-Length: "+n+"\r\n", 2), "Content-Length: "+n+", "+n+"\r\n",
			"Content-Length: "+n+" 1\r\n", "Content-Length: "+strconv.Itoa(len(body)+1)+"\r\n"))
	}
	for range []int{0, 0, 1, 2, 5}[m.IntN(5)] {
		if field := oddFields[m.IntN(len(oddFields))]; m.IntN(3) == 0 || strings.HasPrefix(field, "X-F") {
			fields = append(fields, field)
		} else {
			letter := 'A' + rune(m.IntN(26))
			fields = append(fields, fmt.Sprintf("X-%c%d: %x\r\n", letter, m.IntN(3), m.Uint32()))
		}
	}
	if m.IntN(100) == 0 {
		fields = append(fields, strings.Repeat("X-Many: a\r\n", 45+m.IntN(8)))
	}
	if m.IntN(100) == 0 {
		// Not 20 to 24 KB: net/http gives a connection's first request 4 KB less than the others.
		sizes := []int{1 << 10, 4 << 10, 8 << 10, 40 << 10}
		fields = append(fields, "X-Long: "+strings.Repeat("a", sizes[m.IntN(len(sizes))])+"\r\n")
	}
	m.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	for _, f := range fields {
		b.WriteString(f)
	}
	b.WriteString(line)
	b.WriteString(body)
	return m.broken(b.String())
}

func (m requestMaker) body() string {
	switch m.IntN(12) {
	case 0:
		return ""
	case 1:
		return "\r\n" + plain + "Content-Length: 0\r\n\r\n" // a request in a body
	case 2:
		return strings.Repeat("b", m.IntN(9<<10))
	case 3:
		return "\x00\r\n\xff\r\n\r\n"
	}
	return fmt.Sprintf(`{"n":"pageview","u":"https://x.example/%d"}`, m.IntN(1000))
}

// broken changes, removes or adds a byte of a few requests.
func (m requestMaker) broken(s string) string {
	if m.IntN(12) > 0 || len(s) > 2000 {
		return s
	}
	i := m.IntN(len(s))
	insert := string([]byte{[]byte("\r\n\x00 :\t,1a\xff")[m.IntN(10)]})
	switch m.IntN(3) {
	case 0:
		return s[:i] + insert + s[i+1:]
	case 1:
		return s[:i] + s[i+1:]
	}
	return s[:i] + insert + s[i:]
}

// parts makes the bytes of a connection: a few requests, of which some come together and some in pieces.
func (m requestMaker) parts() (parts []string, requests int) {
	requests = 1 + m.IntN(5)
	for range requests {
		s := m.request()
		switch k := m.IntN(20); {
		case k == 0 && len(s) > 1:
			i := 1 + m.IntN(len(s)-1)
			parts = append(parts, s[:i], s[i:])
		case k < 3 && len(parts) > 0:
			parts[len(parts)-1] += s
		default:
			parts = append(parts, s)
		}
	}
	return parts, requests
}
