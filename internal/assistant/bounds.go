package assistant

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Bounds of what a tool answers, in bytes.
const (
	maxOutput = 64 << 10 // in all
	maxRows   = 48 << 10 // of a query
	maxValue  = 200      // of a value in a list
)

// bounded returns an error if an answer is too long.
func bounded(out any) error {
	b, err := json.Marshal(out)
	if err == nil && len(b) > maxOutput {
		err = fmt.Errorf("the answer would have %d KB, more than %d: ask for less", len(b)>>10, maxOutput>>10)
	}
	return err
}

// shorten cuts text to a number of bytes.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// fitting returns how many of the rows fit into a number of bytes.
func fitting(rows []json.RawMessage, most int) int {
	for i, r := range rows {
		if most -= len(r) + 1; most < 0 {
			return i
		}
	}
	return len(rows)
}
