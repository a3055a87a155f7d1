package query

import (
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Invalid is a question that can't be answered as it was put: the asker has to change Field. It maps to 400.
type Invalid struct {
	Field  string // of the request, e.g. "filters[0]"; "" when it is about the whole
	Reason string
}

func (e *Invalid) Error() string {
	if e.Field == "" {
		return e.Reason
	}
	return e.Field + ": " + e.Reason
}

func invalid(field, reason string, args ...any) *Invalid {
	return &Invalid{field, fmt.Sprintf(reason, args...)}
}

// TooBig is a question whose answer would take more than the limits of Config. It maps to 422.
type TooBig struct{ err error }

func (e *TooBig) Error() string {
	return "this query would take too much; ask for a shorter date_range, fewer dimensions or narrower filters"
}
func (e *TooBig) Unwrap() error { return e.err }

// Unavailable means that ClickHouse is away, starting or busy: the same question may be answered later. It maps to 503.
type Unavailable struct{ err error }

func (e *Unavailable) Error() string {
	return "history is unavailable at the moment; try again in a few seconds"
}
func (e *Unavailable) Unwrap() error { return e.err }

// ClickHouse's codes that have a meaning here.
const (
	codeUnknownTable        = 60
	codeUnknownDatabase     = 81
	codeTooManyRows         = 158
	codeTimeout             = 159
	codeTooSlow             = 160
	codeSetTooBig           = 191
	codeTooManyQueries      = 202
	codeMemory              = 241
	codeTooManyBytes        = 307
	codeTooManyRowsOrBytes  = 396
	codeBadRegexp           = 427
	codeAccessDenied        = 497
	codeAuthenticationFails = 516
	codeCancelled           = 394
)

// judge gives err, which came from ClickHouse or from the way to it, its type.
func judge(err error) error {
	if err == nil {
		return nil
	}
	var e *clickhouse.Exception
	if !errors.As(err, &e) {
		// No answer from ClickHouse: refused, cut off, out of time, no free connection.
		return &Unavailable{err}
	}
	switch e.Code {
	case codeBadRegexp:
		return invalid("filters", "a pattern is no regular expression in RE2 syntax")
	case codeTooManyRows, codeTimeout, codeTooSlow, codeSetTooBig, codeMemory, codeTooManyBytes, codeTooManyRowsOrBytes:
		return &TooBig{err}
	case codeUnknownTable, codeUnknownDatabase, codeTooManyQueries, codeCancelled, codeAccessDenied, codeAuthenticationFails:
		return &Unavailable{err}
	}
	return fmt.Errorf("ask ClickHouse: %w", err)
}
