package site

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"nowcast/internal/retry"
)

// Secret is one version of the cluster's secret.
type Secret struct {
	Version int       `json:"version"` // from 1; 0: that of a cluster of an older program
	Key     string    `json:"key"`     // 32 bytes, hex
	Created time.Time `json:"created"` // zero of version 0
}

// secretGrace is how long what the former secret signed stays valid after a rotation.
const secretGrace = 24 * time.Hour

// legacySecret is the key of version 0's record, whose value is its 32 bytes in hex. The first such record in
// the log counts.
const legacySecret = "secret"

// secrets are the records secret/<version>. They never expire: the first one keys the partitions.
type secrets struct {
	*table[Secret]
	legacy *Secret // version 0; of the goroutine that applies records
	// of the newest snapshot, the newest first; nil: none is known
	versions atomic.Pointer[[]secretKey]
}

// secretKey is a Secret with its key decoded.
type secretKey struct {
	version int
	key     [32]byte
	created time.Time
}

func newSecrets(r *Registry) *secrets {
	s := &secrets{table: newTable(r, "secret", checkSecret)}
	s.publishMore = s.publishVersions
	s.outlived = func(entry[Secret], time.Time) bool { return false }
	return s
}

func checkSecret(id string, _ header, v *Secret) error {
	if n, err := strconv.Atoi(id); err != nil || n < 1 || strconv.Itoa(n) != id || v.Version != n {
		return errors.New("the value isn't of the version")
	}
	_, err := decodeSecret(v.Key)
	return err
}

func decodeSecret(text string) (key [32]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(key) {
		return key, errors.New("the secret isn't 32 bytes in hex")
	}
	return [32]byte(b), nil
}

func (s *secrets) publishVersions() {
	var all []secretKey
	add := func(v Secret) {
		if key, err := decodeSecret(v.Key); err == nil {
			all = append(all, secretKey{v.Version, key, v.Created})
		}
	}
	for _, e := range s.objects.all() {
		if v := e.object(); v != nil {
			add(*v)
		}
	}
	if s.legacy != nil {
		add(*s.legacy)
	}
	if len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b secretKey) int { return b.version - a.version })
	s.versions.Store(&all)
}

// applyLegacy takes the first record of version 0. A different one after it lost the race at the cluster's
// first start; it returns whether that is the newest now.
func (s *secrets) applyLegacy(value []byte) (diverges bool, err error) {
	key := string(value)
	if _, err = decodeSecret(key); err == nil && s.legacy == nil {
		s.legacy = &Secret{Key: key}
	}
	return s.legacy != nil && key != s.legacy.Key, err
}

// keys returns the secrets whose signatures are valid, the newest first: that one, and for secretGrace after
// it was made the one before it.
func (s *secrets) keys() []secretKey {
	versions := s.versions.Load()
	if versions == nil {
		return nil
	}
	all := *versions
	if len(all) > 1 && time.Since(all[0].created) < secretGrace {
		return all[:2]
	}
	return all[:1]
}

// derive returns the key for one use (HKDF with SHA-256, RFC 5869).
func (k secretKey) derive(use string) [32]byte {
	b, err := hkdf.Key(sha256.New, k.key[:], nil, "nowcast "+use, 32)
	if err != nil {
		panic(err) // only for lengths that SHA-256 can't give
	}
	return [32]byte(b)
}

// SigningKey returns the key that signs for a use, such as "ticket". It is zero until Wait has returned.
func (r *Registry) SigningKey(use string) [32]byte {
	all := r.secrets.keys()
	if len(all) == 0 {
		return [32]byte{}
	}
	return all[0].derive(use)
}

// AcceptedKeys returns the keys whose signatures for a use are valid: SigningKey and, for a day after a
// rotation, that of the former secret. It is empty until Wait has returned.
func (r *Registry) AcceptedKeys(use string) [][32]byte {
	var keys [][32]byte
	for _, k := range r.secrets.keys() {
		keys = append(keys, k.derive(use))
	}
	return keys
}

// PartitionKey keys the hash that spreads visitors over partitions. It is of the cluster's first secret, so
// that a visitor stays in one partition over a rotation. It leads from an address to a partition only.
func (r *Registry) PartitionKey() [16]byte {
	versions := r.secrets.versions.Load()
	if versions == nil {
		return [16]byte{}
	}
	first := (*versions)[len(*versions)-1]
	if first.version == 0 { // as older programs have it
		return [16]byte(first.key[:16])
	}
	key := first.derive("partition")
	return [16]byte(key[:16])
}

// SecretVersion returns the version and age of the secret that signs.
func (r *Registry) SecretVersion() (version int, created time.Time) {
	if all := r.secrets.keys(); len(all) > 0 {
		return all[0].version, all[0].created
	}
	return 0, time.Time{}
}

// RotateSecret makes the next version of the secret, which signs from then on. It fails with ErrConflict when
// another rotation comes first.
func (r *Registry) RotateSecret(ctx context.Context) (version int, err error) {
	version, _ = r.SecretVersion()
	version++
	return version, r.makeSecret(ctx, version)
}

// makeSecret makes a version of the secret. It fails with ErrConflict if there is one.
func (r *Registry) makeSecret(ctx context.Context, version int) error {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	made := Secret{Version: version, Key: hex.EncodeToString(key[:]), Created: now()}
	_, err := r.secrets.update(ctx, strconv.Itoa(version), func(current entry[Secret]) (*Secret, error) {
		if current.object() != nil {
			return nil, fmt.Errorf("the secret was %w", ErrConflict)
		}
		return &made, nil
	})
	return err
}

// ensureSecret makes the first secret if there is none. It returns false when ctx has ended.
func (r *Registry) ensureSecret(ctx context.Context) bool {
	for r.secrets.versions.Load() == nil {
		err := r.makeSecret(ctx, 1)
		if ctx.Err() != nil {
			return false
		}
		if err != nil && !errors.Is(err, ErrConflict) {
			r.setReason(fmt.Errorf("make the cluster's secret: %w", err))
			_ = retry.Sleep(ctx, 200*time.Millisecond)
		}
	}
	return true
}

// repairLegacy writes the record of version 0 again, until ctx ends, whenever a different one follows it:
// compaction keeps the newest record of a key, so the newest has to equal the first.
func (r *Registry) repairLegacy(ctx context.Context) {
	for r.wait(ctx, func() bool { return r.legacyDiverges }) == nil {
		r.mu.Lock()
		key := r.legacyKey
		r.mu.Unlock()
		off, err := r.write(ctx, legacySecret, []byte(key))
		if err == nil {
			err = r.waitFor(ctx, off+1)
		}
		if err != nil && ctx.Err() == nil {
			r.log.Warn("keep the cluster's secret", "error", err)
			_ = retry.Sleep(ctx, 200*time.Millisecond)
		}
	}
}
