package site

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"nowcast/internal/retry"
)

// secretRecord is the key of the secret's record.
const secretRecord = "secret"

// writeSecret writes a secret and waits until this registry has applied it. Ready reports a failure. It
// returns false when ctx has ended.
func (r *Registry) writeSecret(ctx context.Context, secret [32]byte) bool {
	off, err := r.write(ctx, secretRecord, []byte(hex.EncodeToString(secret[:])))
	if err == nil {
		err = r.waitFor(ctx, off+1)
	}
	if err != nil && ctx.Err() == nil {
		r.setReason(fmt.Errorf("keep the cluster's secret: %w", err))
		_ = retry.Sleep(ctx, 200*time.Millisecond)
	}
	return ctx.Err() == nil
}

// applySecret takes the first secret in the log. A different one after it lost the race at the cluster's
// first start.
func (r *Registry) applySecret(value []byte) error {
	var v [32]byte
	n, err := hex.Decode(v[:], value[:min(len(value), 2*len(v))])
	good := err == nil && n == len(v)
	if good && !r.secretKnown() {
		r.secret.Store(&v)
	}
	r.mu.Lock()
	r.secretDiverges = r.secretKnown() && v != r.Secret()
	r.mu.Unlock()
	if !good {
		return errors.New("the secret isn't 32 bytes in hex")
	}
	return nil
}

func (r *Registry) secretKnown() bool { return r.secret.Load() != nil }

// Secret returns the cluster's long-lived secret. It keys the hash that spreads visitors over partitions,
// and signs sessions. It is zero until Wait has returned.
func (r *Registry) Secret() [32]byte {
	if s := r.secret.Load(); s != nil {
		return *s
	}
	return [32]byte{}
}
