package history

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Invalid is the error of a query that cannot be answered as it is: the client has to change Field. It maps
// to 400.
type Invalid struct {
	Field  string // of the query, as filters[0]; "" when the error is about the whole
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

// TooBig is the error of a query whose answer would exceed the limits of Config. It maps to 422.
type TooBig struct{ err error }

func (e *TooBig) Error() string {
	return "this query would take too much; " +
		"ask for a shorter date_range, fewer dimensions or narrower filters"
}
func (e *TooBig) Unwrap() error { return e.err }

// Unavailable is the error while ClickHouse is down, starting or busy: the same query may succeed later. It
// maps to 503.
type Unavailable struct {
	err    error
	advice string // "": to try again
}

func (e *Unavailable) Error() string {
	return cmp.Or(e.advice, "history is unavailable at the moment; try again in a few seconds")
}
func (e *Unavailable) Unwrap() error { return e.err }

var errNoClickHouse = &Unavailable{advice: "this streamer has no ClickHouse; start it with --clickhouse"}

// Error codes of ClickHouse that have a meaning here (src/Common/ErrorCodes.cpp).
const (
	codeUnknownTable         = 60
	codeUnknownDatabase      = 81
	codeTooManyRows          = 158
	codeTimeout              = 159
	codeTooSlow              = 160
	codeSetTooBig            = 191
	codeTooManyQueries       = 202
	codeMemory               = 241
	codeTooManyBytes         = 307
	codeTooManyRowsOrBytes   = 396
	codeBadRegexp            = 427
	codeAccessDenied         = 497
	codeAuthenticationFailed = 516
	codeCancelled            = 394
)

// classify gives an error of ClickHouse, or of the connection to it, its type.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var e *clickhouse.Exception
	if !errors.As(err, &e) {
		// ClickHouse gave no answer: connection refused or reset, a timeout, or no free connection.
		return &Unavailable{err: err}
	}
	switch e.Code {
	case codeBadRegexp:
		return invalid("filters", "a pattern is no regular expression in RE2 syntax")
	case codeTooManyRows, codeTimeout, codeTooSlow, codeSetTooBig, codeMemory, codeTooManyBytes,
		codeTooManyRowsOrBytes:
		return &TooBig{err}
	case codeUnknownTable, codeUnknownDatabase, codeTooManyQueries, codeCancelled, codeAccessDenied,
		codeAuthenticationFailed:
		return &Unavailable{err: err}
	}
	return fmt.Errorf("ask ClickHouse: %w", err)
}
