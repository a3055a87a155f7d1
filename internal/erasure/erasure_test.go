package erasure

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

func newKafka(t *testing.T, specs ...topic.Spec) *broker.Client {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	c := broker.New(broker.Config{Addrs: k.ListenAddrs()})
	t.Cleanup(c.Close)
	if err := c.Ensure(t.Context(), specs, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

func follow(t *testing.T, c *broker.Client) *Log {
	t.Helper()
	l, stop, err := Follow(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return l
}

func request(id string, kind Kind, site string, visitor VisitorID, before time.Time) Request {
	return Request{ID: id, Kind: kind, Site: site, Visitor: visitor, Before: before,
		Requested: before.Add(-Grace)}
}

// A tombstone covers what was received before it, of its site or visitor, in every process that follows the
// topic: at once where it was asked for, and from its start in one that starts later.
func TestSet(t *testing.T) {
	c := newKafka(t, topic.Specs(1, 1)...)
	asked := follow(t, c)
	now := time.Now().Truncate(time.Millisecond)
	at := now.UnixMilli()
	for _, r := range []Request{request("a", Site, "gone.example", 0, now),
		request("b", Visitor, "open.example", 7, now.Add(-time.Minute)),
		request("c", Site, "gone.example", 0,
			now.Add(-time.Hour))} { // a newer and shorter one changes nothing
		if _, err := asked.Ask(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for name, l := range map[string]*Log{"the process that asked": asked, "a later one": follow(t, c)} {
		for _, x := range []struct {
			site    string
			visitor uint64
			at      int64
			event   bool
			counts  bool // of the whole site
		}{
			{"gone.example", 1, at - 1, true, true},
			{"gone.example", 1, at, false, false}, // a site that is made again starts empty and counts
			{"open.example", 7, at - 60_001, true, false},
			{"open.example", 7, at - 60_000, false, false},
			{"open.example", 8, at - 100_000, false, false},
			{"other.example", 7, at - 100_000, false, false},
		} {
			s := l.Set()
			if s.Event(x.site, x.visitor, x.at) != x.event || s.Site(x.site, x.at) != x.counts {
				t.Errorf("%s, %+v: got %v %v", name, x, s.Event(x.site, x.visitor, x.at), s.Site(x.site,
					x.at))
			}
			if s.Done(x.site, x.visitor, x.at) {
				t.Errorf("%s, %+v: done", name, x)
			}
		}
		if until, pending := l.Pending("gone.example", now.Add(-time.Second)); !pending ||
			!until.Equal(now) {
			t.Errorf("%s: %v %v", name, until, pending)
		}
		if _, pending := l.Pending("gone.example", now); pending {
			t.Errorf("%s: still pending", name)
		}
	}
	var none *Set
	if none.Event("gone.example", 1, 0) || none.Site("gone.example", 0) || (*Log)(nil).Set() != nil {
		t.Error("a nil set erases")
	}
}

// The progress of an erasure is known in every process, and its end makes the set say so.
func TestProgress(t *testing.T) {
	c := newKafka(t, topic.Specs(1, 1)...)
	worker, other := follow(t, c), follow(t, c)
	before := time.Now().Truncate(time.Millisecond)
	if _, err := worker.Ask(t.Context(), request("a", Site, "gone.example", 0, before)); err != nil {
		t.Fatal(err)
	}
	want := Progress{Of: "a", State: Done, Worker: "w", At: before, Tables: []Removed{{"events", 3, 0}}}
	if err := worker.Report(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := worker.Report(t.Context(), Progress{Of: "unknown", State: Done}); err != nil {
		t.Fatal(err)
	}
	if err := other.wait(t.Context(), func() bool { return other.next == 3 }); err != nil {
		t.Fatal(err)
	}
	e, ok := other.Get("a")
	if !ok || e.State != Done || len(e.Tables) != 1 || e.Tables[0].Found != 3 || len(other.All()) != 1 ||
		!other.Set().Done("gone.example", 5, before.UnixMilli()-1) {
		t.Errorf("got %+v %v", e, ok)
	}
	// A longer reach is a new erasure.
	r := e.Request
	r.Before = before.Add(time.Hour)
	if e, err := worker.Ask(t.Context(), r); err != nil || e.State != Waiting ||
		worker.Set().Done("gone.example", 5, before.UnixMilli()-1) {
		t.Errorf("%+v %v", e, err)
	}
}

// Unreadable records are skipped, a request that isn't valid is refused, expired ones are forgotten, and a
// cluster of an older version, without the topic, has no erasure.
func TestEdges(t *testing.T) {
	c := newKafka(t, topic.Specs(1, 1)...)
	old := time.Now().Add(-topic.ErasureRetention - time.Hour)
	for _, v := range []string{"rubbish", "{}", `{"version":9,"request":{}}`,
		`{"version":1,"request":{"id":"x"}}`,
		`{"version":1,"request":{"id":"x","kind":"all","site":"s","before":"2026-01-01T00:00:00Z",` +
			`"requested":"2026-01-01T00:00:00Z"}}`} {
		if _, err := c.ProduceKeyed(t.Context(), topic.Erasures, []byte("x"), []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	l := follow(t, c)
	for _, r := range []Request{request("old", Site, "old.example", 0, old),
		request("new", Visitor, "new.example", 1, time.Now())} {
		if _, err := l.Ask(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if all := l.All(); len(all) != 1 || all[0].ID != "new" {
		t.Errorf("got %v", all)
	}
	if _, err := l.Ask(t.Context(), request("v", Visitor, "new.example", 0, time.Now())); !errors.Is(err,
		ErrInvalid) {
		t.Errorf("a visitor without an id: %v", err)
	}
	for _, s := range []string{"", "7", "000000000000000g", "0000000000000000",
		"00000000000000000000000000000007"} {
		if _, err := ParseVisitorID(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if id, err := ParseVisitorID("00ff000000000007"); err != nil || id.String() != "00ff000000000007" {
		t.Errorf("%v %v", id, err)
	}
	if none := follow(t, newKafka(t, topic.Specs(1, 1)[0])); none != nil {
		t.Error("a cluster without the topic has erasures")
	}
}
