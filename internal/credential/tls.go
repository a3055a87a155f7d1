package credential

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
)

// Files name what a client checks a server by and shows to it, all in PEM.
type Files struct {
	CA        string // authorities; those of the system when ""
	Cert, Key string // the client's certificate, with its chain, and its key; none when ""
}

// TLS makes a client's TLS configurations. It is safe for concurrent use.
type TLS struct {
	files   Files
	onError func(error)

	mu     sync.Mutex
	read   [3][]byte // the contents that current was made of, in the order of Files
	now    *tls.Config
	failed string // the newest error that was reported
}

// OpenTLS reads the files once. onError is told when a later read fails, once for each reason.
func OpenTLS(f Files, onError func(error)) (*TLS, error) {
	t := &TLS{files: f, onError: onError}
	if (f.Cert == "") != (f.Key == "") {
		return nil, fmt.Errorf("a certificate and its key are needed together")
	}
	if err := t.refresh(); err != nil {
		return nil, err
	}
	return t, nil
}

// Config returns the configuration for a new connection to a server of that name. It reads the files again.
// If they can't be used, such as in the moment between the replacement of a certificate and that of its
// key, the last ones that could be used stay in use.
func (t *TLS) Config(server string) *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refresh(); err == nil {
		t.failed = ""
	} else if t.failed != err.Error() {
		t.failed = err.Error()
		t.onError(fmt.Errorf("read certificates, those before stay in use: %w", err))
	}
	c := t.now.Clone()
	c.ServerName = server
	return c
}

// refresh reads the files and makes a new configuration if they have changed.
func (t *TLS) refresh() error {
	var read [3][]byte
	for i, name := range [...]string{t.files.CA, t.files.Cert, t.files.Key} {
		if name == "" {
			continue
		}
		var err error
		if read[i], err = readFile(name); err != nil {
			return err
		}
	}
	if t.now != nil && bytes.Equal(read[0], t.read[0]) && bytes.Equal(read[1], t.read[1]) &&
		bytes.Equal(read[2], t.read[2]) {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.files.CA != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(read[0]) {
			return fmt.Errorf("read %s: %w", t.files.CA, errNoCertificate)
		}
	}
	if t.files.Cert != "" {
		pair, err := tls.X509KeyPair(read[1], read[2])
		if err != nil {
			return fmt.Errorf("read %s with the key %s: %w", t.files.Cert, t.files.Key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	t.now, t.read = c, read
	return nil
}
