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

// Code logs a browser in once, with the rights of a key. Only the hash of its secret is stored.
type Code struct {
	Hash    string    `json:"hash"`     // hex SHA-256 of the secret; the record's id
	Key     string    `json:"key"`      // ID of the key that it was made with
	KeyHash string    `json:"key_hash"` // of that key's secret
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

const (
	// CodePrefix marks the secret of a login code.
	CodePrefix = "ncc_"
	// CodeLife is for how long a login code can be used.
	CodeLife = 10 * time.Minute

	maxCodes = 100 // of a key
)

func newCodes(r *Registry) *table[Code] {
	t := newTable(r, "code", func(id string, _ header, v *Code) error {
		if v.Hash != id || v.Key == "" || len(v.Hash) != sha256.Size*2 || len(v.KeyHash) != sha256.Size*2 {
			return errors.New("the value isn't the code's")
		}
		return nil
	})
	t.outlived = func(e entry[Code], now time.Time) bool {
		ended := e.Removed
		if v := e.object(); v != nil {
			ended = v.Expires
		}
		return now.Sub(ended) > removalLife
	}
	return t
}

// NewCode makes a login code of a key and returns its secret, which is stored nowhere. When the key has
// maxCodes codes that can still be used, the oldest one ends.
func (r *Registry) NewCode(ctx context.Context, k Key) (Code, string, error) {
	if err := r.endOldestCodes(ctx, k.ID); err != nil {
		return Code{}, "", err
	}
	secret := newSecret(CodePrefix)
	c := Code{Hash: hash(secret), Key: k.ID, KeyHash: k.Hash, Created: now(), Expires: now().Add(CodeLife)}
	_, err := r.codes.update(ctx, c.Hash, func(entry[Code]) (*Code, error) { return &c, nil })
	return c, secret, err
}

func (r *Registry) endOldestCodes(ctx context.Context, key string) error {
	var of []Code
	for _, e := range r.codes.objects.all() {
		if c := e.object(); c != nil && c.Key == key && time.Now().Before(c.Expires) {
			of = append(of, *c)
		}
	}
	slices.SortFunc(of, func(a, b Code) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Hash, b.Hash))
	})
	for _, c := range of[:max(0, len(of)-maxCodes+1)] {
		if _, err := r.useUp(ctx, c.Hash); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// RedeemCode uses a code up. Of several callers, on any instances, one gets the code. It fails with
// ErrNotFound when there is no such code, it was used, or it has expired.
func (r *Registry) RedeemCode(ctx context.Context, secret string) (Code, error) {
	if !strings.HasPrefix(secret, CodePrefix) {
		return Code{}, errNoCode
	}
	c, err := r.useUp(ctx, hash(secret))
	if err == nil && !time.Now().Before(c.Expires) {
		err = errNoCode
	}
	return c, err
}

func (r *Registry) useUp(ctx context.Context, id string) (used Code, err error) {
	_, err = r.codes.update(ctx, id, func(current entry[Code]) (*Code, error) {
		c := current.object()
		if c == nil {
			return nil, errNoCode
		}
		used = *c
		return nil, nil
	})
	return used, err
}

var errNoCode = fmt.Errorf("login code: %w", ErrNotFound)
