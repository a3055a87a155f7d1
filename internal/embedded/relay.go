package embedded

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// maxLine bounds a line of a child's log, in bytes. The rest of a longer line is dropped.
const maxLine = 8 << 10

// relayLog logs what a child writes, until the child closes stderr: slog records with their level and
// attributes, any other line (a panic, the engine's messages) as a warning.
func (s *supervisor) relayLog(stderr io.Reader) {
	for r := bufio.NewReaderSize(stderr, maxLine); ; {
		line, err := r.ReadSlice('\n')
		if text := strings.TrimSpace(string(line)); text != "" {
			s.relayLine(text)
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

func (s *supervisor) relayLine(text string) {
	level, msg := slog.LevelWarn, text
	var attrs []any
	var fields map[string]any
	if json.Unmarshal([]byte(text), &fields) == nil {
		if m, ok := fields[slog.MessageKey].(string); ok {
			l, _ := fields[slog.LevelKey].(string)
			_ = level.UnmarshalText([]byte(l)) // an unknown level stays a warning
			msg = m
			for _, k := range slices.Sorted(maps.Keys(fields)) {
				if k != slog.MessageKey && k != slog.LevelKey && k != slog.TimeKey {
					attrs = append(attrs, k, fields[k])
				}
			}
		}
	}
	if level >= slog.LevelWarn {
		s.mu.Lock()
		s.lastError = msg
		s.mu.Unlock()
	}
	s.log.Log(context.Background(), level, msg, attrs...)
}

// lastLoggedError returns the newest warning or error of the child.
func (s *supervisor) lastLoggedError() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.lastError, "it logged no error")
}
