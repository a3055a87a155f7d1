package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"syscall"
	"testing"
	"time"
)

// beacons are the outcomes of a ledger.
type beacons struct {
	Received, Counted, Late, Stale, Duplicate int
	Dropped                                   map[string]int
}

func (b beacons) sum() int {
	n := b.Counted + b.Late + b.Stale + b.Duplicate
	for _, d := range b.Dropped {
		n += d
	}
	return n
}

// beaconsOf is the ledger of a site's last hour. It fails if a minute doesn't balance.
func (w *world) beaconsOf(ctx context.Context, site string) (b beacons, err error) {
	a, err := w.call(ctx, http.MethodGet, w.other()+"/api/v1/sites/"+site+"/ledger", w.key, nil)
	if err != nil {
		return b, err
	}
	if a.status != http.StatusOK {
		return b, fmt.Errorf("ledger: %d %s", a.status, a.body)
	}
	var l struct {
		Total   beacons
		Minutes []beacons
	}
	if err := json.Unmarshal([]byte(a.body), &l); err != nil {
		return b, err
	}
	for _, m := range append(l.Minutes, l.Total) {
		if m.Received != m.sum() {
			return b, fmt.Errorf("the ledger doesn't balance: %s", a.body)
		}
	}
	return l.Total, nil
}

// ledgerIs waits until a ledger has exactly the wanted outcomes.
func (w *world) ledgerIs(t *testing.T, site string, want beacons) {
	t.Helper()
	eventually(t, 20*time.Second, "the ledger has it", func(ctx context.Context) error {
		got, err := w.beaconsOf(ctx, site)
		if err == nil && !reflect.DeepEqual(got, want) {
			err = fmt.Errorf("it has %+v, want %+v", got, want)
		}
		return err
	})
}

// bot sends a bot's page view of one or several sites.
func (w *world) bot(t *testing.T, sites string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"n": "pageview", "d": sites, "u": "https://example.com/"})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.ingest+"/api/event",
		bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "Acme-Bot/1.0")
	if a, err := do(req); err != nil || a.status != http.StatusAccepted ||
		a.header.Get("x-plausible-dropped") == "" {
		t.Fatalf("%v %+v", err, a)
	}
}

// Each beacon has one outcome in the ledger of its site, also after the store lane was killed.
func TestLedgerOfBeacons(t *testing.T) {
	l := startLaptop(t)
	one, two := l.site(t, true), l.site(t, false)
	// l.site sent the first beacon of each.
	l.ledgerIs(t, one, beacons{Received: 1, Counted: 1, Dropped: map[string]int{}})
	for i := range 10 {
		l.view(t, one, "/", i)
	}
	for i := range 6 { // two ids, three times each
		a, err := l.beacon(t.Context(), one, "/", 1, map[string]any{"id": fmt.Sprint(i % 2)})
		if err != nil || a.status != http.StatusAccepted {
			t.Fatal(err, a)
		}
	}
	l.bot(t, one)
	l.bot(t, one+","+two+",nobody.example")
	a, err := l.beacon(t.Context(), "nobody.example", "/", 1, nil)
	if err != nil || a.header.Get("x-plausible-dropped") != "1" {
		t.Fatal(err, a)
	}
	a, err = l.beacon(t.Context(), one, "/", 1, map[string]any{"n": ""})
	if err != nil || a.status != http.StatusBadRequest {
		t.Fatal(err, a)
	}
	wantOne := beacons{Received: 19, Counted: 13, Duplicate: 4, Dropped: map[string]int{"bot": 2}}
	wantTwo := beacons{Received: 2, Counted: 1, Dropped: map[string]int{"bot": 1}}
	l.ledgerIs(t, one, wantOne)
	l.ledgerIs(t, two, wantTwo)

	l.kill(syscall.SIGKILL)
	l.start(t)
	l.ledgerIs(t, one, wantOne)
	l.view(t, two, "/", 3)
	wantTwo.Received, wantTwo.Counted = 3, 2
	l.ledgerIs(t, two, wantTwo)
	l.ledgerIs(t, one, wantOne)

	url := l.streamers[0] + "/api/v1/sites/" + one + "/ledger"
	if a, err := (&world{}).call(t.Context(), http.MethodGet, url, "", nil); err != nil ||
		a.status != http.StatusUnauthorized {
		t.Errorf("without a key, of a public site: %v %d %s", err, a.status, a.body)
	}
}
