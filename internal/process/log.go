package process

import (
	"log/slog"
	"os"
)

// NewLogger returns a logger that writes records at level or above to w: as text if w is a terminal, as
// JSON lines otherwise.
func NewLogger(w *os.File, level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if info, err := w.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return slog.New(slog.NewTextHandler(w, o))
	}
	o.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // "1.5s" instead of nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
