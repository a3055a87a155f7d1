package topic

import (
	"fmt"
	"strings"
)

// LogCut is the record that the embedded broker appends to each partition of the events and windows topics
// when it finds, at a start, that the log has lost its newest records: those that weren't on disk when the
// machine lost its power. Offsets from From up to the record's own were given out or are skipped, and are
// never given out again. The record has a key and an empty value.
type LogCut struct {
	From  int64 // offset of the first record that is lost
	After int64 // timestamp of the newest record before From, ms UTC; 0: there is none
}

const cutPrefix = "nowcast/log-cut/"

// Key returns the key of the record.
func (c LogCut) Key() []byte { return fmt.Appendf(nil, "%s%d/%d", cutPrefix, c.From, c.After) }

// ParseLogCut reads a record's key. It is false for any other record.
func ParseLogCut(key []byte) (c LogCut, ok bool) {
	rest, ok := strings.CutPrefix(string(key), cutPrefix)
	if !ok {
		return LogCut{}, false
	}
	n, err := fmt.Sscanf(rest, "%d/%d", &c.From, &c.After)
	return c, err == nil && n == 2
}
