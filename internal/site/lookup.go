package site

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Lookup finds a site by its domain.
func (r *Registry) Lookup(domain string) (Site, bool) {
	s, ok := r.state.Load().sites[domain]
	return s, ok
}

// Sites returns all sites by creation, then domain. The slice must not be changed.
func (r *Registry) Sites() []Site { return r.state.Load().inOrder }

// Default returns the site that was made first.
func (r *Registry) Default() (Site, bool) {
	all := r.Sites()
	if len(all) == 0 {
		return Site{}, false
	}
	return all[0], true
}

// Put makes or replaces a site. It fails with ErrInvalid, naming a domain, time zone, rule or origin that
// isn't one.
func (r *Registry) Put(ctx context.Context, s Site) error {
	s.Timezone = cmp.Or(s.Timezone, "UTC")
	if s.Created.IsZero() {
		s.Created = time.Now().UTC().Truncate(time.Millisecond)
	}
	if err := s.check(); err != nil {
		return err
	}
	rules, err := s.Rules.Clean()
	if err != nil {
		return err
	}
	s.Rules = rules
	if s.Origins, err = cleanOrigins(s.Origins); err != nil {
		return err
	}
	return r.set(ctx, siteRecord+s.Domain, s)
}

// Delete removes a site and its links. It fails with ErrNotFound.
func (r *Registry) Delete(ctx context.Context, domain string) error {
	if _, ok := r.Lookup(domain); !ok {
		return fmt.Errorf("site %s: %w", shorten(domain), ErrNotFound)
	}
	if err := r.deleteLinks(ctx, domain); err != nil {
		return err
	}
	return r.set(ctx, siteRecord+domain, nil)
}

// Keys returns all keys by creation, then id.
func (r *Registry) Keys() []Key {
	return slices.SortedFunc(maps.Values(r.state.Load().keys), func(a, b Key) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
}

// Key finds a key by its id.
func (r *Registry) Key(id string) (Key, bool) {
	k, ok := r.state.Load().keys[id]
	return k, ok
}

// NewKey makes a key for sites (none: all) and returns its secret, which is stored nowhere. It fails with
// ErrInvalid without a name or for a site that doesn't exist.
func (r *Registry) NewKey(ctx context.Context, name string, admin bool, sites []string) (Key, string, error) {
	if name = strings.TrimSpace(name); name == "" || len(name) > 100 {
		return Key{}, "", fmt.Errorf("%w: a key needs a name of at most 100 bytes", ErrInvalid)
	}
	for _, d := range sites {
		if _, ok := r.Lookup(d); !ok {
			return Key{}, "", fmt.Errorf("%w: there is no site %s; add it first", ErrInvalid, shorten(d))
		}
	}
	var id [6]byte
	_, _ = rand.Read(id[:])
	secret := NewSecret()
	k := Key{
		ID:      hex.EncodeToString(id[:]),
		Name:    name,
		Hash:    hash(secret),
		Admin:   admin,
		Sites:   sites,
		Created: time.Now().UTC().Truncate(time.Millisecond),
	}
	return k, secret, r.set(ctx, keyRecord+k.ID, k)
}

// DeleteKey removes a key. It fails with ErrNotFound.
func (r *Registry) DeleteKey(ctx context.Context, id string) error {
	if _, ok := r.Key(id); !ok {
		return fmt.Errorf("key %s: %w", shorten(id), ErrNotFound)
	}
	return r.set(ctx, keyRecord+id, nil)
}

// Authenticate finds the key of a secret. It looks up the secret's hash, so the time that it takes tells
// nothing about the secret.
func (r *Registry) Authenticate(secret string) (Key, bool) {
	if !strings.HasPrefix(secret, keySecretPrefix) {
		return Key{}, false
	}
	k, ok := r.state.Load().keyByHash[hash(secret)]
	return k, ok
}

// Secret returns the cluster's long-lived secret. It keys the hash that spreads visitors over partitions,
// and signs sessions. It is zero until Wait has returned.
func (r *Registry) Secret() [32]byte { return r.state.Load().secret }
