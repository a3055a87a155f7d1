//go:build !linux || noembed

package embedded

import (
	"context"
	"errors"
)

const hasEngine = false

func runClickHouse(context.Context, childConfig) error {
	return permanentError{errors.New(noEngine)}
}
