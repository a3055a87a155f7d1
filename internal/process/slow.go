package process

import (
	"io"
	"net/http"
	"time"
)

// bodyTime is for a request's body to arrive, once its handler begins to run.
const bodyTime = 10 * time.Second

// hurry gives the body of each request a time to arrive in; what reads it then gets an error, and the connection is closed after the answer.
// It isn't the server's ReadTimeout, for that ends the context of a request that runs on long after its body was read, as a stream does.
func hurry(h http.Handler, within time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 { // -1 when unknown
			conn := http.NewResponseController(w)
			if conn.SetReadDeadline(time.Now().Add(within)) == nil {
				r.Body = &body{r.Body, conn}
			}
		}
		h.ServeHTTP(w, r)
	})
}

// body takes the deadline off its connection when it has been read.
type body struct {
	io.ReadCloser
	conn *http.ResponseController
}

// Read is io.Reader's.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.conn.SetReadDeadline(time.Time{}) // a connection that is closed has none
	}
	return n, err
}
