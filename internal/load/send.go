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

// beacon is one request, with the short field names of the Plausible events API, as the tracker sends it.
type beacon struct {
	visitor *visitor

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

// send posts a beacon and counts the answer. A request that the end of ctx cancels isn't counted.
func (l *Load) send(ctx context.Context, j job) {
	body, err := json.Marshal(j.beacon)
	if err != nil {
		l.tally.add(failed, err.Error(), 0)
		return
	}
	url := strings.TrimSuffix(l.cfg.Server, "/") + "/api/event"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		l.tally.add(failed, err.Error(), 0)
		return
	}
	v := j.beacon.visitor
	req.Header = http.Header{
		"Content-Type": {"text/plain"}, "User-Agent": {v.agent}, "Accept-Language": {v.language},
		"X-Forwarded-For": {v.address.String()},
	}
	res, err := l.client.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			l.tally.add(failed, err.Error(), time.Since(j.due))
		}
		return
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	o := other
	switch {
	case res.StatusCode == http.StatusAccepted && res.Header.Get("X-Plausible-Dropped") != "":
		o = dropped
	case res.StatusCode == http.StatusAccepted:
		o = counted
	case res.StatusCode == http.StatusBadRequest:
		o = refused
	case res.StatusCode == http.StatusServiceUnavailable:
		o = unavailable
	}
	example := ""
	if o != counted {
		example = res.Status + " " + strings.TrimSpace(string(text))
	}
	l.tally.add(o, example, time.Since(j.due))
}
