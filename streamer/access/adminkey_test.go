package access

import (
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"nowcast/internal/site"
)

// Keys that people make up are refused with a command that makes one.
func TestWeakAdminKeysAreRefused(t *testing.T) {
	for _, key := range []string{
		"short", "nck_", "nck_short", "nck_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"nck_0123456789012345678901234567890123456789",
		"nck_an-operators-own-key", "nck_the-operators-own-admin-key",
		"nck_correct-horse-battery-staple-again",
		"nck_abcabcabcabcabcabcabcabcabcabcabcabcabcabc", "nck_AbAbAbAbAbAbAbAbAbAbAbAbAbAbAb",
		"nck_Passw0rdPassw0rdPassw0rdPassw0rd", "nck_changeme", "nck_00000000-0000-0000-0000-000000000000",
		"nck_" + strings.Repeat("0", 32), "nck_kG7vQ2xW9zB4nM6pT8s", "kG7vQ2xW9zB4nM6pT8sYc3dF5hJ1",
		"nck_kG7vQ2xW9zB4nM6pT8sY c3dF5hJ1", "nck_3f9a1c3f9a1c3f9a1c3f9a1c3f9a1c3f9a1c3f9a1c3f9a1c",
		"nck_" + strings.Repeat("kG7vQ2xW", 100),
	} {
		err := (Config{AdminKey: key}).Validate()
		if err == nil || !strings.Contains(err.Error(), "openssl rand -hex 24") ||
			strings.Contains(err.Error(), strings.TrimPrefix(key, "nck_")) && len(key) > 4 {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// Random keys of 128 bits or more are taken, however they are written.
func TestRandomAdminKeysAreTaken(t *testing.T) {
	random := rand.NewChaCha8([32]byte{})
	for range 2000 {
		var b [24]byte
		_, _ = random.Read(b[:])
		for _, key := range []string{
			site.NewSecret(), "nck_" + hex.EncodeToString(b[:]), "nck_" + hex.EncodeToString(b[:16]),
			"nck_" + strings.ToUpper(hex.EncodeToString(b[:16])),
			"nck_" + base64.StdEncoding.EncodeToString(b[:]),
			"nck_" + base64.RawURLEncoding.EncodeToString(b[:16]),
		} {
			if err := (Config{AdminKey: key}).Validate(); err != nil {
				t.Fatalf("%s: %v", key, err)
			}
		}
	}
}

func TestBasePath(t *testing.T) {
	for url, want := range map[string]string{
		"": "", "https://x.example": "", "https://x.example/": "", "https://x.example/stats": "/stats",
		"http://x.example:8080/a/b-c/": "/a/b-c", "http://[::1]/s": "/s",
	} {
		if got, err := BasePath(url); got != want || err != nil {
			t.Errorf("%s: %q %v, want %q", url, got, err, want)
		}
	}
	for _, url := range []string{
		"x.example", "ftp://x.example", "https://", "https:///stats", "https://u:p@x.example",
		"https://x.example/?a",
		"https://x.example/#", "https://x.example/a//b", "https://x.example/../a", "https://x.example/a b",
		"https://x.example/api", "https://x.example/login/x", "https://x.example/example.com",
		"https://x.example/localhost", "https://x.example/a?", "https://x.example/%2e%2e/a",
		`https://x.example/a"b`,
	} {
		if got, err := BasePath(url); err == nil {
			t.Errorf("%s is taken as %q", url, got)
		}
	}
}
