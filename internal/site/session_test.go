package site

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A session is valid on every instance until it is ended on any, and only its hash is in the topic.
func TestSessionsOnTwoInstances(t *testing.T) {
	w := newWorld(t)
	a, b := w.ready(w.registry()), w.ready(w.registry())
	k, _, err := a.NewKeyForAllSites(t.Context(), "viewer")
	if err != nil {
		t.Fatal(err)
	}
	s, secret, err := a.NewSession(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other instance has the session", func() bool {
		got, ok := b.AuthenticateSession(secret)
		byID, found := b.Session(s.ID)
		return ok && found && got == byID && got.Key == k.ID && got.Expires.Equal(s.Expires)
	})
	for key, value := range w.newest() {
		if v := string(value); strings.Contains(key+v, secret) {
			t.Errorf("the secret is in the topic: %s %s", key, v)
		}
	}
	if _, ok := a.AuthenticateSession(s.ID); ok {
		t.Error("the id opens the session")
	}
	renewed, err := b.RenewSession(t.Context(), s.ID)
	if err != nil || renewed.Expires.Before(s.Expires) {
		t.Errorf("renewed: %+v %v", renewed, err)
	}
	if err := b.EndSession(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session is ended on the other instance", func() bool {
		_, ok := a.AuthenticateSession(secret)
		_, found := a.Session(s.ID)
		return !ok && !found && len(a.Sessions()) == 0
	})
	for name, err := range map[string]error{
		"end twice": a.EndSession(t.Context(), s.ID), "end nothing": a.EndSession(t.Context(), "nothing"),
		"renew what is ended": func() error { _, err := a.RenewSession(t.Context(), s.ID); return err }(),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An expired session is none, also one that another instance's clock would still take, and is renewed no
// more. Its record leaves the topic a day later.
func TestExpiredSession(t *testing.T) {
	w := newWorld(t)
	r := w.ready(w.registry())
	secret := newSecret(sessionSecretPrefix)
	s := Session{ID: newID(), Hash: hash(secret), Key: "k", KeyHash: hash("k"),
		Created: now().Add(-SessionLife),
		Expires: now().Add(-time.Second)}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	w.produce("session/"+s.ID, string(b), "session/broken", `{"id":"other"}`)
	eventually(t, "the record is applied", func() bool { return r.sessions.get(s.ID) != nil })
	_, valid := r.AuthenticateSession(secret)
	_, found := r.Session(s.ID)
	if _, err := r.RenewSession(t.Context(), s.ID); valid || found || len(r.Sessions()) > 0 ||
		!errors.Is(err, ErrNotFound) {
		t.Errorf("an expired session: %v %v %v", valid, found, err)
	}
	if ids := r.sessions.expired(time.Now()); len(ids) > 0 {
		t.Errorf("%v leaves the topic at once", ids)
	}
	if ids := r.sessions.expired(time.Now().Add(removalLife + time.Minute)); fmt.Sprint(ids) != "["+s.ID+"]" {
		t.Errorf("%v leaves the topic after a day", ids)
	}
}

// A code logs in once, however many try it at once on two instances.
func TestCodeIsUsedOnce(t *testing.T) {
	w := newWorld(t)
	a, b := w.ready(w.registry()), w.ready(w.registry())
	k, _, err := a.NewKey(t.Context(), "viewer", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		c, secret, err := a.NewCode(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the other instance has the code", func() bool { return b.codes.get(c.Hash) != nil })
		var wg sync.WaitGroup
		var used atomic.Int32
		for i := range 8 {
			wg.Go(func() {
				got, err := []*Registry{a, b}[i%2].RedeemCode(t.Context(), secret)
				switch {
				case err == nil && got.Key == k.ID:
					used.Add(1)
				case !errors.Is(err, ErrNotFound):
					t.Errorf("redeem: %+v %v", got, err)
				}
			})
		}
		wg.Wait()
		if used.Load() != 1 {
			t.Errorf("the code was used %d times", used.Load())
		}
	}
	for _, secret := range []string{"", "ncc_", "ncc_nothing", "nck_nothing"} {
		if _, err := a.RedeemCode(t.Context(), secret); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", secret, err)
		}
	}
	late := Code{Hash: hash("ncc_late"), Key: k.ID, KeyHash: k.Hash, Created: now(),
		Expires: now().Add(-time.Second)}
	value, err := json.Marshal(late)
	if err != nil {
		t.Fatal(err)
	}
	w.produce("code/"+late.Hash, string(value))
	eventually(t, "the record is applied", func() bool { return a.codes.get(late.Hash) != nil })
	if _, err := a.RedeemCode(t.Context(), "ncc_late"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a code that has expired: %v", err)
	}
}

// The sessions and codes of a key are bounded: a new one ends the oldest, and none of another key.
func TestSessionsAndCodesAreBounded(t *testing.T) {
	w := newWorld(t)
	r := w.ready(w.registry())
	k, other := Key{ID: "k", Hash: hash("k")}, Key{ID: "other", Hash: hash("other")}
	if _, _, err := r.NewSession(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	var records []string
	for i := range maxSessions {
		s := Session{ID: fmt.Sprintf("s%04d", i), Hash: hash(fmt.Sprint(i)), Key: k.ID, KeyHash: k.Hash,
			Created: now().Add(time.Duration(i-maxSessions) * time.Second), Expires: now().Add(time.Hour)}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, "session/"+s.ID, string(b))
	}
	w.produce(records...)
	eventually(t, "all are applied", func() bool { return len(r.Sessions()) == maxSessions+1 })
	if _, _, err := r.NewSession(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	_, oldest := r.Session("s0000")
	_, second := r.Session("s0001")
	if n := len(r.Sessions()); n != maxSessions+1 || oldest || !second {
		t.Errorf("%d sessions, oldest %v, second %v", n, oldest, second)
	}
	for range maxCodes + 3 {
		if _, _, err := r.NewCode(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	usable := 0
	for _, e := range r.codes.objects.all() {
		if e.object() != nil {
			usable++
		}
	}
	if usable != maxCodes {
		t.Errorf("%d codes can be used, want %d", usable, maxCodes)
	}
}

// eventually polls until ok returns true, or fails the test after 10 s.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 10 s: ", what)
		}
	}
}
