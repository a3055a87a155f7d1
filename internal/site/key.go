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

// Key lets its holder read sites and, with Admin, administer. Only the hash of its secret is stored. A key
// with neither Admin, AllSites nor Sites reads none.
type Key struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Hash     string   `json:"hash"`                // hex SHA-256 of the secret
	Admin    bool     `json:"admin"`               // it reads all sites, and administers
	AllSites bool     `json:"all_sites,omitempty"` // it reads all sites, also later ones
	Sites    []string `json:"sites,omitempty"`     // that it reads
	Write    bool     `json:"may_write,omitempty"` // it changes segments and annotations of what it reads
	// Generations are those of Sites for which the key was made; nil: it was made before generations.
	Generations map[string]int64 `json:"generations,omitempty"`
	Created     time.Time        `json:"created"`
}

// MayRead reports whether the key opens a site. A key for some sites doesn't open one that was made again.
func (k Key) MayRead(s Site) bool {
	if k.Admin || k.AllSites {
		return true
	}
	if !slices.Contains(k.Sites, s.Domain) {
		return false
	}
	if k.Generations == nil {
		return !k.Created.Before(s.Created)
	}
	return k.Generations[s.Domain] == s.Generation
}

// MayWrite reports whether the key may change the segments and annotations of a site.
func (k Key) MayWrite(s Site) bool { return k.Admin || k.Write && k.MayRead(s) }

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

// maxKeySites bounds the sites of a key; for more, make a key for all sites.
const maxKeySites = 1000

// NewKey is AddKey for a key that reads some sites or, with admin and without sites, is an admin's.
func (r *Registry) NewKey(ctx context.Context, name string, admin bool, sites []string) (Key, string, error) {
	return r.AddKey(ctx, Key{Name: name, Admin: admin, Sites: sites})
}

// NewKeyForAllSites is AddKey for a key that reads all sites, also later ones.
func (r *Registry) NewKeyForAllSites(ctx context.Context, name string) (Key, string, error) {
	return r.AddKey(ctx, Key{Name: name, AllSites: true})
}

// AddKey makes a key of its name and of what it may do: exactly one of Admin, AllSites and Sites, and
// Write. It returns the key's secret, which is stored nowhere. It fails with ErrInvalid for a bad name, and
// unless each site exists and is named as it is, once.
func (r *Registry) AddKey(ctx context.Context, k Key) (_ Key, secret string, err error) {
	sites := k.Sites
	switch {
	case k.Admin && (len(sites) > 0 || k.AllSites):
		return Key{}, "", fmt.Errorf("%w: an admin key reads all sites; leave the sites out", ErrInvalid)
	case k.AllSites && len(sites) > 0:
		return Key{}, "", fmt.Errorf("%w: a key for all sites names none; leave the sites out", ErrInvalid)
	case !k.Admin && !k.AllSites && len(sites) == 0:
		return Key{}, "", fmt.Errorf(
			"%w: name the sites that the key reads, or say that it reads all", ErrInvalid)
	case len(sites) > maxKeySites:
		return Key{}, "", fmt.Errorf("%w: there are %d sites; name at most %d, or say that the key reads all",
			ErrInvalid, len(sites), maxKeySites)
	}
	k.Generations = nil
	for i, d := range sites {
		st, err := r.namedExactly(d)
		if err != nil {
			return Key{}, "", err
		}
		if slices.Contains(sites[:i], d) {
			return Key{}, "", fmt.Errorf("%w: site %s is named twice", ErrInvalid, d)
		}
		if k.Generations == nil {
			k.Generations = map[string]int64{}
		}
		k.Generations[d] = st.Generation
	}
	if k.Name, err = cleanName("key", k.Name); err != nil {
		return Key{}, "", err
	}
	secret = NewSecret()
	k.ID, k.Hash, k.Created = newID(), hash(secret), now()
	_, err = r.keys.update(ctx, k.ID, func(entry[Key]) (*Key, error) { return &k, nil })
	return k, secret, err
}

// namedExactly finds a site by its domain as the registry has it. A near miss is no match: a grant must not
// mean another site than the one that was read in a review.
func (r *Registry) namedExactly(domain string) (Site, error) {
	if st, ok := r.Lookup(domain); ok {
		return st, nil
	}
	if d, err := Domain(domain); err == nil && d != domain {
		return Site{}, fmt.Errorf("%w: write the site %s as %q", ErrInvalid, quote(domain), d)
	}
	return Site{}, fmt.Errorf("%w: there is no site %s; add it first, or correct its name", ErrInvalid,
		quote(domain))
}

// DeleteKey removes a key with its personal segments. It fails with ErrNotFound.
func (r *Registry) DeleteKey(ctx context.Context, id string) error {
	if _, ok := r.Key(id); ok {
		if err := r.deletePersonal(ctx, id); err != nil {
			return err
		}
	}
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
