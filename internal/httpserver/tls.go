package httpserver

import (
	"crypto/tls"
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// TLSListener is a listener whose connections Serve encrypts. They speak HTTP/2 or HTTP/1.1, and none takes
// the fast path.
type TLSListener struct {
	net.Listener
	Config *tls.Config
	Name   string // of the certificate; "": it isn't known
}

// TLSFromFiles returns the configuration of a server whose certificate and key are in files in PEM format.
// A file that has changed is read again within seconds. While the new files can't be used, the certificate
// before stays in use.
func TLSFromFiles(certFile, keyFile string, l *slog.Logger) (*tls.Config, error) {
	c := &certificateFiles{certFile: certFile, keyFile: keyFile, log: l}
	if err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: c.get}, nil
}

// certificateFiles reads a certificate, again when its files have changed.
type certificateFiles struct {
	certFile, keyFile string
	log               *slog.Logger

	mu        sync.Mutex
	current   *tls.Certificate
	state     string // of the files, as they were read
	checkedAt time.Time
}

// checkInterval is how often the files are looked at, at most.
const checkInterval = time.Second

func (c *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checkedAt) >= checkInterval {
		c.checkedAt = now
		if state := c.fileState(); state != c.state {
			if err := c.load(); err != nil {
				c.log.Error("certificate not replaced: the one before stays in use", "error", err)
			} else {
				c.log.Info("certificate replaced", "file", c.certFile, "expires", c.current.Leaf.NotAfter)
			}
			c.state = state
		}
	}
	return c.current, nil
}

// load reads the files.
func (c *certificateFiles) load() error {
	state := c.fileState()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s can't be used (%w): give a chain of certificates, the "+
			"server's first, and its key, both in PEM format", c.certFile, c.keyFile, err)
	}
	if time.Now().After(pair.Leaf.NotAfter) {
		c.log.Warn("certificate has expired: browsers refuse it", "file", c.certFile, "expired",
			pair.Leaf.NotAfter)
	}
	c.current, c.state = &pair, state
	return nil
}

// fileState changes when a file is replaced or written.
func (c *certificateFiles) fileState() string {
	var b strings.Builder
	for _, name := range []string{c.certFile, c.keyFile} {
		if f, err := os.Stat(name); err == nil {
			fmt.Fprint(&b, f.ModTime().UnixNano(), " ", f.Size(), " ")
		}
	}
	return b.String()
}

// quietLog is http.Server.ErrorLog: it drops what any client can cause at any rate.
func quietLog() *log.Logger { return log.New(quietWriter{}, "", 0) }

type quietWriter struct{}

func (quietWriter) Write(b []byte) (int, error) {
	if line := string(b); !strings.HasPrefix(line, "http: TLS handshake error") {
		log.Print(line)
	}
	return len(b), nil
}
