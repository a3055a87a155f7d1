package process

import (
	"log/slog"
	"os"
)

// NewLogger writes to w what is at level or above: as text on a terminal, as JSON lines otherwise.
func NewLogger(w *os.File, level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if info, err := w.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return slog.New(slog.NewTextHandler(w, o))
	}
	o.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // 1.5s, not a number of nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
