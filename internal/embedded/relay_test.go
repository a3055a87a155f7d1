package embedded

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestRelay(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"time":"2026-01-02T03:04:05Z","level":"INFO","msg":"up","pid":7}`, "level=INFO msg=up pid=7"},
		{`{"level":"ERROR","msg":"open log: no space"}`, `level=ERROR msg="open log: no space"`},
		{`{"level":"odd","msg":"x"}`, "level=WARN msg=x"},
		{`{"no":"record"}`, `level=WARN msg="{\"no\":\"record\"}"`},
		{"panic: oh", `level=WARN msg="panic: oh"`},
		{strings.Repeat("x", 3*maxLine), "level=WARN msg=" + strings.Repeat("x", maxLine)},
		{"  \r", ""},
	} {
		var out bytes.Buffer
		h := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: DropTime})
		s := &supervisor{log: slog.New(h)}
		s.relayLog(strings.NewReader(c.line + "\n"))
		if got := strings.TrimSpace(out.String()); got != c.want {
			t.Errorf("%.80q: got %.200q, want %.200q", c.line, got, c.want)
		}
	}
	s := &supervisor{log: slog.New(slog.DiscardHandler)}
	s.relayLog(strings.NewReader("first\n" +
		`{"level":"ERROR","msg":"why"}` + "\n" + `{"level":"INFO","msg":"bye"}`))
	if got := s.lastLoggedError(); got != "why" {
		t.Errorf("last error %q", got)
	}
}

// DropTime removes the time from log records.
func DropTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
