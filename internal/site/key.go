package site

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Key lets its holder read sites and, with Admin, administer. Only the hash of its secret is stored.
type Key struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Hash     string    `json:"hash"`                // hex SHA-256 of the secret
	Admin    bool      `json:"admin"`               // it reads all sites, and administers
	AllSites bool      `json:"all_sites,omitempty"` // it reads all sites, also later ones
	Sites    []string  `json:"sites,omitempty"`     // that it reads; Admin and AllSites: none
	Created  time.Time `json:"created"`
}

// MayRead reports whether the key opens a site.
func (k Key) MayRead(domain string) bool {
	return k.Admin || k.AllSites || slices.Contains(k.Sites, domain)
}

// keySecretPrefix marks a secret as Nowcast's, so that scanners of repositories can find one that leaked.
const keySecretPrefix = "nck_"

// NewSecret returns a new secret of a key: 192 random bits.
func NewSecret() string { return newSecret(keySecretPrefix) }

func newSecret(prefix string) string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func hash(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

// keys are the records key/<id>.
type keys struct {
	*table[Key]
	byHash index[string, Key] // by hash of the secret
}

func newKeys(r *Registry) *keys {
	k := &keys{table: newTable(r, "key", checkKey)}
	k.changed = func(before, after *Key) {
		if before != nil {
			k.byHash.delete(before.Hash)
		}
		if after != nil {
			k.byHash.set(after.Hash, *after)
		}
	}
	k.publishMore = func() { k.byHash.publish() }
	return k
}

func checkKey(id string, h header, v *Key) error {
	if v.ID != id || len(v.Hash) != sha256.Size*2 {
		return errors.New("the value isn't the key's")
	}
	if h.Revision == 0 && !v.Admin && len(v.Sites) == 0 { // of a version in which that meant all sites
		v.AllSites = true
	}
	return nil
}

// Keys returns all keys by creation, then id.
func (r *Registry) Keys() []Key {
	var all []Key
	for _, e := range r.keys.objects.all() {
		if k := e.object(); k != nil {
			all = append(all, *k)
		}
	}
	slices.SortFunc(all, func(a, b Key) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return all
}

// Key finds a key by its id.
func (r *Registry) Key(id string) (Key, bool) {
	if k := r.keys.get(id); k != nil {
		return *k, true
	}
	return Key{}, false
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
	secret := NewSecret()
	k := Key{
		ID:       newID(),
		Name:     name,
		Hash:     hash(secret),
		Admin:    admin,
		AllSites: !admin && len(sites) == 0,
		Sites:    sites,
		Created:  now(),
	}
	_, err := r.keys.update(ctx, k.ID, func(entry[Key]) (*Key, error) { return &k, nil })
	return k, secret, err
}

// DeleteKey removes a key. It fails with ErrNotFound.
func (r *Registry) DeleteKey(ctx context.Context, id string) error {
	_, err := r.keys.update(ctx, id, func(current entry[Key]) (*Key, error) {
		if current.object() == nil {
			return nil, fmt.Errorf("key %s: %w", shorten(id), ErrNotFound)
		}
		return nil, nil
	})
	return err
}

// Authenticate finds the key of a secret. It looks up the secret's hash, so the time that it takes tells
// nothing about the secret.
func (r *Registry) Authenticate(secret string) (Key, bool) {
	if !strings.HasPrefix(secret, keySecretPrefix) {
		return Key{}, false
	}
	return r.keys.byHash.get(hash(secret))
}
