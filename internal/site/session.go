package site

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Session is a browser that has logged in with a key. Its secret is in the browser's cookie; only the hash is
// stored.
type Session struct {
	ID   string `json:"id"`
	Hash string `json:"hash"` // hex SHA-256 of the secret
	Key  string `json:"key"`  // ID of the key that it was made with
	// of that key's secret: a session ends when the operator's key, whose ID stays, is another one
	KeyHash string    `json:"key_hash"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

const (
	// SessionLife is for how long a session lives after its last renewal.
	SessionLife = 7 * 24 * time.Hour

	sessionSecretPrefix = "ncs_"
	renewalInterval     = 24 * time.Hour // at least that between two renewals
	maxSessions         = 1000           // of a key
)

// RenewalDue reports whether a session that is used should be renewed.
func (s Session) RenewalDue(now time.Time) bool {
	return s.Expires.Sub(now) < SessionLife-renewalInterval
}

// valid reports whether the session has not expired.
func (s *Session) valid(now time.Time) bool { return s != nil && now.Before(s.Expires) }

// sessions are the records session/<id>.
type sessions struct {
	*table[Session]
	byHash index[string, Session] // by hash of the secret
}

func newSessions(r *Registry) *sessions {
	s := &sessions{table: newTable(r, "session", checkSession)}
	s.changed = func(before, after *Session) {
		if before != nil {
			s.byHash.delete(before.Hash)
		}
		if after != nil {
			s.byHash.set(after.Hash, *after)
		}
	}
	s.publishMore = func() { s.byHash.publish() }
	s.outlived = func(e entry[Session], now time.Time) bool {
		ended := e.Removed
		if v := e.object(); v != nil {
			ended = v.Expires
		}
		return now.Sub(ended) > removalLife
	}
	return s
}

func checkSession(id string, _ header, v *Session) error {
	if v.ID != id || v.Key == "" || len(v.Hash) != sha256.Size*2 || len(v.KeyHash) != sha256.Size*2 {
		return errors.New("the value isn't the session's")
	}
	return nil
}

// Sessions returns all sessions that have not expired, by creation, then id.
func (r *Registry) Sessions() []Session {
	var all []Session
	for _, e := range r.sessions.objects.all() {
		if s := e.object(); s.valid(time.Now()) {
			all = append(all, *s)
		}
	}
	slices.SortFunc(all, func(a, b Session) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return all
}

// Session finds a session that has not expired by its id.
func (r *Registry) Session(id string) (Session, bool) {
	if s := r.sessions.get(id); s.valid(time.Now()) {
		return *s, true
	}
	return Session{}, false
}

// AuthenticateSession finds the session of a secret. As with Authenticate, the time that it takes tells
// nothing about the secret.
func (r *Registry) AuthenticateSession(secret string) (Session, bool) {
	if !strings.HasPrefix(secret, sessionSecretPrefix) {
		return Session{}, false
	}
	s, ok := r.sessions.byHash.get(hash(secret))
	return s, ok && s.valid(time.Now())
}

// AwaitSession is AuthenticateSession for a session that another process may have made a moment ago: it looks
// again when this registry has applied what is in the log.
func (r *Registry) AwaitSession(ctx context.Context, secret string) (Session, bool) {
	s, ok := r.AuthenticateSession(secret)
	if ok || !strings.HasPrefix(secret, sessionSecretPrefix) || r.Sync(ctx) != nil {
		return s, ok
	}
	return r.AuthenticateSession(secret)
}

// NewSession makes a session of a key and returns its secret, which is stored nowhere. When the key has
// maxSessions sessions, the oldest one ends.
func (r *Registry) NewSession(ctx context.Context, k Key) (Session, string, error) {
	if err := r.endOldest(ctx, k.ID); err != nil {
		return Session{}, "", err
	}
	secret := newSecret(sessionSecretPrefix)
	s := Session{
		ID:      newID(),
		Hash:    hash(secret),
		Key:     k.ID,
		KeyHash: k.Hash,
		Created: now(),
		Expires: now().Add(SessionLife),
	}
	_, err := r.sessions.update(ctx, s.ID, func(entry[Session]) (*Session, error) { return &s, nil })
	return s, secret, err
}

// endOldest ends the oldest sessions of a key, until there is room for another one.
func (r *Registry) endOldest(ctx context.Context, key string) error {
	of := slices.DeleteFunc(r.Sessions(), func(s Session) bool { return s.Key != key })
	for _, s := range of[:max(0, len(of)-maxSessions+1)] {
		if err := r.EndSession(ctx, s.ID); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// RenewSession lets a session live for SessionLife from now. It fails with ErrNotFound when it has ended.
func (r *Registry) RenewSession(ctx context.Context, id string) (Session, error) {
	s, err := r.sessions.update(ctx, id, func(current entry[Session]) (*Session, error) {
		old := current.object()
		if !old.valid(time.Now()) {
			return nil, noSession(id)
		}
		renewed := *old
		renewed.Expires = now().Add(SessionLife)
		return &renewed, nil
	})
	if err != nil {
		return Session{}, err
	}
	return *s, nil
}

// EndSession ends a session. It fails with ErrNotFound.
func (r *Registry) EndSession(ctx context.Context, id string) error {
	_, err := r.sessions.update(ctx, id, func(current entry[Session]) (*Session, error) {
		if current.object() == nil {
			return nil, noSession(id)
		}
		return nil, nil
	})
	return err
}

func noSession(id string) error { return fmt.Errorf("session %s: %w", shorten(id), ErrNotFound) }
