// Package apitest checks answers against the HTTP contract. It is for tests.
package apitest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// Checker validates answers against streamer/openapi.yaml.
type Checker struct{ v validator.Validator }

// New reads the contract.
func New() (*Checker, error) {
	_, here, _, _ := runtime.Caller(0)
	b, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../openapi.yaml"))
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
	return &Checker{v}, nil
}

// Document checks the contract itself.
func (c *Checker) Document() error {
	_, errs := c.v.ValidateDocument()
	var all []string
	for _, e := range errs {
		all = append(all, e.Error())
	}
	if len(all) > 0 {
		return errors.New(strings.Join(all, "; "))
	}
	return nil
}

// Response says how an answer to a request differs from the contract; nil when it doesn't.
func (c *Checker) Response(req *http.Request, status int, header http.Header, body []byte) error {
	content := io.NopCloser(bytes.NewReader(body))
	res := &http.Response{StatusCode: status, Header: header, Body: content, Request: req}
	ok, errs := c.v.ValidateHttpResponse(req, res)
	if ok {
		return nil
	}
	var all []string
	for _, e := range errs {
		all = append(all, e.Message+": "+e.Reason)
		for _, s := range e.SchemaValidationErrors {
			all = append(all, s.Reason)
		}
	}
	return errors.New(strings.Join(all, "; "))
}
