package load

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// beacon is one request, in the short form of the Plausible events API as the tracker sends it.
type beacon struct {
	from *visitor

	Name     string            `json:"n"`
	URL      string            `json:"u"`
	Domain   string            `json:"d"`
	Referrer string            `json:"r,omitempty"`
	Props    map[string]string `json:"p,omitempty"`
	Revenue  *revenue          `json:"$,omitempty"`
	Depth    int               `json:"sd,omitempty"`
	Engaged  int               `json:"e,omitempty"`
}

type revenue struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

// send posts a beacon and notes the answer.
func (l *Load) send(ctx context.Context, j job) {
	body, err := json.Marshal(j.beacon)
	if err != nil {
		l.tally.add(failed, err.Error(), 0)
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(l.cfg.Server, "/")+"/api/event", bytes.NewReader(body))
	if err != nil {
		l.tally.add(failed, err.Error(), 0)
		return
	}
	who := j.beacon.from
	req.Header = http.Header{
		"Content-Type": {"text/plain"}, "User-Agent": {who.agent}, "Accept-Language": {who.language},
		"X-Forwarded-For": {who.address.String()},
	}
	res, err := l.client.Do(req)
	if err != nil {
		if ctx.Err() == nil { // not Ctrl-C
			l.tally.add(failed, err.Error(), time.Since(j.due))
		}
		return
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	kind := other
	switch {
	case res.StatusCode == http.StatusAccepted && res.Header.Get("X-Plausible-Dropped") != "":
		kind = dropped
	case res.StatusCode == http.StatusAccepted:
		kind = counted
	case res.StatusCode == http.StatusBadRequest:
		kind = refused
	case res.StatusCode == http.StatusServiceUnavailable:
		kind = unavailable
	}
	what := ""
	if kind != counted {
		what = res.Status + " " + strings.TrimSpace(string(text))
	}
	l.tally.add(kind, what, time.Since(j.due))
}
