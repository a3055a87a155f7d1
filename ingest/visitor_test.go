package ingest

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"nowcast/internal/event"
)

// What is stored of an event's id depends on the day's salt, and on nothing that stays: with the keys of the
// cluster and the client's id no address can be found once the salt is gone.
func TestStoredEventID(t *testing.T) {
	s := newSalts(nil, newSiteClocks(), slog.New(slog.DiscardHandler))
	const today = day(20_780)
	s.byDay.Store(&map[day]sipKey{today - 1: {1, 2}, today: {3, 4}})
	key := appendVisitorKey(nil, "example.com", netip.MustParseAddr("192.0.2.1"), "agent")
	other := appendVisitorKey(nil, "example.com", netip.MustParseAddr("192.0.2.2"), "agent")
	stamped := func(key []byte, client string, at int64) event.Event {
		t.Helper()
		e := event.Event{HasID: true, ID: clientID(nil, "example.com", client)}
		if err := s.stamp(&e, &visitor{key, utcClock}, at); err != nil {
			t.Fatal(err)
		}
		return e
	}
	midnight := int64(today) * dayMS
	before, after := stamped(key, "a", midnight-1), stamped(key, "a", midnight)
	later := stamped(key, "a", midnight+previousIDSpan)
	if before.HasPreviousID || later.HasPreviousID || !after.HasPreviousID ||
		after.PreviousID != before.ID || after.ID != later.ID || before.ID == later.ID {
		t.Errorf("over midnight:\n%+v\n%+v\n%+v", before, after, later)
	}
	if x := stamped(key, "b", midnight); x.ID == after.ID || x.PreviousID == after.PreviousID {
		t.Error("two events have one id")
	}
	if x := stamped(other, "a", midnight); x.ID == after.ID {
		t.Error("another visitor's event has the same id")
	}
	if clientID(nil, "example.com", "a") == clientID(nil, "other.example", "a") {
		t.Error("events of two sites have one id")
	}
	// The id follows from the visitor's id of the day and the client's id alone.
	if after.ID != eventID(after.Visitor, clientID(nil, "example.com", "a")) {
		t.Error("the id depends on something else")
	}
	// Another salt, and all else alike: another id.
	s.byDay.Store(&map[day]sipKey{today: {5, 6}})
	if x := stamped(key, "a", midnight); x.ID == after.ID {
		t.Error("the id doesn't depend on the day's salt")
	}
	v := visitor{key, utcClock}
	if e := (event.Event{}); s.stamp(&e, &v, midnight) != nil || e.HasID || e.HasPreviousID {
		t.Errorf("an event without a client's id: %+v", e)
	}
	err := s.stamp(&event.Event{}, &v, midnight+30*dayMS)
	if !errors.Is(err, errNoSalt) || len(s.wake) != 1 {
		t.Errorf("after a jump of the clock: %v, and a salt is made within a minute instead of now", err)
	}
}

// The partition key is of the cluster, so that a visitor stays in a partition over midnight.
func TestPartitionIsStable(t *testing.T) {
	key := appendVisitorKey(nil, "example.com", netip.MustParseAddr("192.0.2.1"), "agent")
	counts := map[int]int{}
	for i := range 200 {
		counts[newIdentity([16]byte{byte(i)}, 4).partition(key)]++
	}
	if len(counts) != 4 {
		t.Errorf("%v: the partition doesn't depend on the key", counts)
	}
}
