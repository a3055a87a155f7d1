// Package apitest checks answers against the HTTP contract, streamer/openapi.yaml. It is for tests.
package apitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
)

// Checker validates answers against streamer/openapi.yaml.
//
// The validator is a program below this package, in a module of its own.
// One process of it serves all checkers of a test binary.
// It ends when the test binary does, since that closes its standard input.
type Checker struct {
	mu       sync.Mutex // one request at a time
	requests *json.Encoder
	replies  *json.Decoder
}

// New starts the validator, or returns the running one. The go command compiles it at the first use.
func New() (*Checker, error) { return start() }

var start = sync.OnceValues(func() (*Checker, error) {
	_, here, _, _ := runtime.Caller(0)
	dir := filepath.Dir(here)
	contract := filepath.Join(dir, "../../openapi.yaml")
	cmd := exec.Command("go", "run", "-C", filepath.Join(dir, "validator"), ".", contract)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start validator: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start validator: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start validator: %w", err)
	}
	return &Checker{requests: json.NewEncoder(in), replies: json.NewDecoder(out)}, nil
})

// Document checks the contract itself.
func (c *Checker) Document() error { return c.ask(request{}) }

// Response returns an error that says how an answer differs from the contract, nil if it does not.
func (c *Checker) Response(req *http.Request, status int, header http.Header, body []byte) error {
	return c.ask(request{req.Method, req.URL.String(), status, header, body})
}

// request is what the validator reads, one a line. Without a method it checks the contract itself.
type request struct {
	Method string      `json:"method"`
	URL    string      `json:"url"`
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

func (c *Checker) ask(r request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.requests.Encode(r); err != nil {
		return fmt.Errorf("ask validator: %w", err)
	}
	var reply struct {
		Difference string `json:"difference"`
	}
	if err := c.replies.Decode(&reply); errors.Is(err, io.EOF) {
		return errors.New("ask validator: it ended; standard error says why")
	} else if err != nil {
		return fmt.Errorf("ask validator: %w", err)
	}
	if reply.Difference != "" {
		return errors.New(reply.Difference)
	}
	return nil
}
