package assistant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"nowcast/internal/sse"
)

// Bounds of what is asked of the API.
const (
	maxCalls     = 16               // at a time; others wait
	maxAnswer    = 16 << 20         // bytes of an answer
	maxRefusal   = 64 << 10         // bytes of an error response
	callTimeout  = 60 * time.Second // the API ends queries before
	frameTimeout = 10 * time.Second // until the first frame of a stream
)

const noKey = "a key is needed: send `Authorization: Bearer nck_…` with yours"

// client calls the HTTP API of one server.
type client struct {
	base  string
	http  *http.Client
	calls chan struct{}
}

func newClient(base string) *client {
	return &client{base: base, calls: make(chan struct{}, maxCalls), http: &http.Client{
		// A key is sent to no other address.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// answer is a body and when the server sent it, by its own clock.
type answer struct {
	body []byte
	at   time.Time
}

// get asks for a resource.
func (c *client) get(ctx context.Context, key, path string) (answer, error) {
	return c.call(ctx, key, http.MethodGet, path, nil)
}

// decode asks for a resource that is JSON.
func (c *client) decode(ctx context.Context, key, path string, to any) error {
	a, err := c.get(ctx, key, path)
	if err == nil {
		err = c.unmarshal(a.body, to)
	}
	return err
}

func (c *client) unmarshal(body []byte, to any) error {
	if err := json.Unmarshal(body, to); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.base, err)
	}
	return nil
}

// query asks about history.
func (c *client) query(ctx context.Context, key string, query any) (answer, error) {
	body, err := json.Marshal(query)
	if err != nil {
		return answer{}, fmt.Errorf("encode query: %w", err)
	}
	return c.call(ctx, key, http.MethodPost, "/api/v2/query", body)
}

func (c *client) call(ctx context.Context, key, method, path string, body []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var a answer
	err := c.send(ctx, key, method, path, body, func(r *http.Response) (err error) {
		if a.at, err = http.ParseTime(r.Header.Get("Date")); err != nil {
			a.at = time.Now()
		}
		a.body, err = io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
		if len(a.body) > maxAnswer {
			err = fmt.Errorf("it is over %d MB; ask for less", maxAnswer>>20)
		}
		return err
	})
	return a, err
}

// snapshot opens a stream and decodes its first event.
func (c *client) snapshot(ctx context.Context, key, path string, to any) error {
	ctx, cancel := context.WithTimeout(ctx, frameTimeout)
	defer cancel()
	return c.send(ctx, key, http.MethodGet, path, nil, func(r *http.Response) error {
		e, err := sse.NewReader(io.LimitReader(r.Body, maxAnswer)).Next()
		if errors.Is(err, io.EOF) {
			return errors.New("the stream ended before its first event; try again in a moment")
		}
		if err == nil {
			err = json.Unmarshal([]byte(e.Data), to)
		}
		return err
	})
}

// send sends a request with the key and gives a good response to read. An error response becomes an error
// with the API's sentence.
func (c *client) send(
	ctx context.Context, key, method, path string, body []byte, read func(*http.Response) error,
) error {
	if key == "" {
		return errors.New(noKey)
	}
	select {
	case c.calls <- struct{}{}:
		defer func() { <-c.calls }()
	case <-ctx.Done():
		return fmt.Errorf("wait for earlier calls: %w", ctx.Err())
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	r, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%s doesn't answer: %w", c.base, err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return c.refusal(r)
	}
	if err := read(r); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.base, err)
	}
	return nil
}

// maxSentence bounds an error, in bytes.
const maxSentence = 2000

// refusal is the error of an error response.
func (c *client) refusal(r *http.Response) error {
	var e struct{ Error string }
	b, err := io.ReadAll(io.LimitReader(r.Body, maxRefusal))
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil || e.Error == "" {
		return fmt.Errorf("%s answered %s; is that the address of a Nowcast server?", c.base, r.Status)
	}
	return errors.New(shorten(e.Error, maxSentence))
}
