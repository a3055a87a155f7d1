package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// maxLine bounds a line of a child's output, in bytes; what is longer is cut.
const maxLine = 8 << 10

// relay passes a child's log on: its slog records as such, anything else (a panic, the engine's own words) as warnings.
func (s *supervisor) relay(output io.Reader) {
	for r := bufio.NewReaderSize(output, maxLine); ; {
		line, err := r.ReadSlice('\n')
		if text := strings.TrimSpace(string(line)); text != "" {
			s.pass(text)
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if err != nil {
			return // the child has closed it, by ending
		}
	}
}

func (s *supervisor) pass(text string) {
	level, msg := slog.LevelWarn, text
	var attrs []any
	var fields map[string]any
	if json.Unmarshal([]byte(text), &fields) == nil {
		if m, ok := fields[slog.MessageKey].(string); ok {
			l, _ := fields[slog.LevelKey].(string)
			_ = level.UnmarshalText([]byte(l)) // else a warning
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
		s.said = msg
		s.mu.Unlock()
	}
	s.log.Log(context.Background(), level, msg, attrs...)
}

func (s *supervisor) lastSaid() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said == "" {
		return "it doesn't say why"
	}
	return s.said
}
