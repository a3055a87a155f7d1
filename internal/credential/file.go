// Package credential has a client's credentials, certificates and secrets, that come from files and may be
// replaced while the process runs: each new connection asks for the current ones. A replacement that can't
// be used is logged, and the credentials before it stay in use. No error repeats a secret.
package credential

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// maxFile bounds a file's size in bytes; the CA bundles of operating systems have about 220,000.
const maxFile = 4 << 20

// readFile reads a whole file. It fails if the file is empty or larger than maxFile.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) == 0:
		return nil, fmt.Errorf("%s is empty", name)
	case len(b) > maxFile:
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return b, nil
}

// ReadSecret reads a secret from a file, without the line break at its end.
func ReadSecret(name string) (string, error) {
	b, err := readFile(name)
	if err != nil {
		return "", err
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	switch {
	case s == "":
		return "", fmt.Errorf("%s is empty", name)
	case strings.ContainsAny(s, "\x00\r\n"):
		return "", fmt.Errorf("%s has more than one line", name)
	}
	return s, nil
}

// Secret is a secret in a file. It is safe for concurrent use.
type Secret struct {
	file    string
	onError func(error)

	mu     sync.Mutex
	value  string
	failed string // the newest error that was reported
}

// OpenSecret reads the secret once. onError is told when a later read fails, once for each reason.
func OpenSecret(file string, onError func(error)) (*Secret, error) {
	value, err := ReadSecret(file)
	if err != nil {
		return nil, err
	}
	return &Secret{file: file, onError: onError, value: value}, nil
}

// Fixed returns a secret that isn't in a file.
func Fixed(value string) *Secret { return &Secret{value: value} }

// Value returns the current secret. If the file can't be read, that is the last one that could.
func (s *Secret) Value() string {
	if s.file == "" {
		return s.value
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	value, err := ReadSecret(s.file)
	if err == nil {
		s.value, s.failed = value, ""
	} else if s.failed != err.Error() {
		s.failed = err.Error()
		s.onError(fmt.Errorf("read secret, the one before stays in use: %w", err))
	}
	return s.value
}

var errNoCertificate = errors.New("it has no certificate in PEM")
