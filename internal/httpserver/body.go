package httpserver

import (
	"io"
	"net/http"
	"time"
)

// limitBodyTime gives the body of each request timeout to arrive. After that a read of the body fails,
// and the server closes the connection after the response. http.Server.ReadTimeout can't do this: it
// also ends the context of a request that runs on after its body was read, as a stream does.
func limitBodyTime(h http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 { // -1 means unknown
			conn := http.NewResponseController(w)
			if conn.SetReadDeadline(time.Now().Add(timeout)) == nil {
				r.Body = &deadlineBody{r.Body, conn}
			}
		}
		h.ServeHTTP(w, r)
	})
}

// deadlineBody removes its connection's read deadline when the body has been read to its end.
type deadlineBody struct {
	io.ReadCloser
	conn *http.ResponseController
}

func (b *deadlineBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.conn.SetReadDeadline(time.Time{}) // fails only on a closed connection
	}
	return n, err
}
