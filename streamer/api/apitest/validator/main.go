// Validator holds HTTP answers against an OpenAPI contract. Package apitest drives it.
//
// It is a program in a module of its own, so that the libraries of OpenAPI stay out of Nowcast's go.mod.
//
// usage: validator CONTRACT
//
// It reads one JSON request a line from standard input and writes one JSON reply a line to standard output.
// It ends with its input.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// request is an answer to hold against the contract. Without a method the contract itself is checked.
type request struct {
	Method string      `json:"method"`
	URL    string      `json:"url"`
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// reply says how the answer differs from the contract. Difference is empty where it doesn't.
type reply struct {
	Difference string `json:"difference"`
}

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "validator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: validator CONTRACT")
	}
	v, err := load(args[0])
	if err != nil {
		return err
	}
	requests, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r request
		if err := requests.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		difference, err := check(ctx, v, r)
		if err != nil {
			return err
		}
		if err := replies.Encode(reply{difference}); err != nil {
			return fmt.Errorf("write reply: %w", err)
		}
	}
}

func load(path string) (validator.Validator, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read contract: %w", err)
	}
	doc, err := libopenapi.NewDocument(b)
	if err != nil {
		return nil, fmt.Errorf("parse contract: %w", err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		return nil, fmt.Errorf("read contract: %w", errors.Join(errs...))
	}
	return v, nil
}

func check(ctx context.Context, v validator.Validator, r request) (difference string, err error) {
	var all []string
	if r.Method == "" {
		_, errs := v.ValidateDocument()
		for _, e := range errs {
			all = append(all, e.Error())
		}
		return strings.Join(all, "; "), nil
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, nil)
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	res := &http.Response{
		StatusCode: r.Status, Header: r.Header, Body: io.NopCloser(bytes.NewReader(r.Body)), Request: req,
	}
	ok, errs := v.ValidateHttpResponse(req, res)
	if ok {
		return "", nil
	}
	for _, e := range errs {
		all = append(all, e.Message+": "+e.Reason)
		for _, s := range e.SchemaValidationErrors {
			all = append(all, s.Reason)
		}
	}
	return cmp.Or(strings.Join(all, "; "), "it isn't valid, without a reason"), nil
}
