package assistant

import (
	"encoding/json"
	"strings"
)

// Bounds of what a tool answers, in bytes.
const (
	maxOutput = 48 << 10
	maxValue  = 300 // of a value in a list
)

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
