package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"

	"nowcast/internal/site"
)

// operatorID is the ID of the key from Config.AdminKey.
const operatorID = "operator"

// keyring holds the keys of the sites topic and the operator's key.
type keyring struct {
	sites    *site.Registry
	operator string // the operator's secret; "": there is none
}

// authenticate finds the key of a secret.
func (k keyring) authenticate(secret string) (site.Key, bool) {
	if k.operator != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(k.operator)) == 1 {
		return k.key(operatorID)
	}
	return k.sites.Authenticate(secret)
}

// key finds a key by its ID, unless it was removed.
func (k keyring) key(id string) (site.Key, bool) {
	if id == operatorID && k.operator != "" {
		sum := sha256.Sum256([]byte(k.operator))
		return site.Key{ID: operatorID, Name: operatorID, Admin: true, Hash: hex.EncodeToString(sum[:])}, true
	}
	return k.sites.Key(id)
}
