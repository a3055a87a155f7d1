package push

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// preamble is the start of every stream's body: until a stream ends on purpose, a client that loses its
// connection reconnects after a second.
const preamble = "retry: 1000\n\n"

// reconnectField is the retry field (WHATWG HTML, section 9.2) that ends a stream: the client reconnects
// after 0.3 to 1.5 s, at random, so that clients whose streams end together don't return together.
func reconnectField() []byte {
	return fmt.Appendf(nil, "retry: %d\n\n", 300+rand.IntN(1200)) //nolint:gosec // jitter, no secret
}

// responseHead is an HTTP/1 response up to and including the preamble, for a connection taken from
// net/http. The body has no length and ends with the connection.
func responseHead(h http.Header) []byte {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	_ = h.Write(&b)
	b.WriteString("Connection: close\r\nDate: ")
	b.WriteString(time.Now().UTC().Format(http.TimeFormat))
	b.WriteString("\r\n\r\n")
	b.WriteString(preamble)
	return b.Bytes()
}
