package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"nowcast/internal/httpserver"
)

// webFlags set up the public address.
type webFlags struct {
	Listen              string     `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address for browsers and beacons, or unix:PATH for a unix socket (${default})."`
	ListenMode          socketMode `default:"0660" placeholder:"MODE" help:"Mode of a unix socket's file (${default})."`
	TrustedProxies      []network  `placeholder:"CIDR" help:"Networks of proxies that may name a visitor's address by X-Forwarded-For; unix for who connects to the unix socket."`
	ClientAddressHeader string     `placeholder:"NAME" help:"The one header in which trusted proxies name a visitor's address, such as CF-Connecting-IP or X-Real-IP, instead of X-Forwarded-For."`
	TLSCertFile         string     `name:"tls-cert-file" placeholder:"FILE" help:"Serve HTTPS with this certificate (PEM, the chain); read again when it changes."`
	TLSKeyFile          string     `name:"tls-key-file" placeholder:"FILE" help:"The certificate's key."`
	ACME                string     `name:"acme" placeholder:"DOMAIN" help:"Serve HTTPS with a certificate for this name from Let's Encrypt, whose terms of service you accept thereby. --listen has to be port 443 as the internet sees it."`
	ACMECache           string     `name:"acme-cache" placeholder:"DIR" help:"Where account and certificates are kept; without it, acme in the data dir, or ./.nowcast-acme."`
	ACMEDirectory       string     `name:"acme-directory" placeholder:"URL" help:"The ACME directory of another certificate authority."`
	RedirectListen      string     `placeholder:"ADDR" help:"Also listen here, on port 80 usually, and redirect to the HTTPS address."`
}

const letters, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"

// checkWeb returns an error about flags that don't fit each other.
func (f *webFlags) checkWeb() error {
	encrypted := f.TLSCertFile != "" || f.ACME != ""
	switch {
	case (f.TLSCertFile == "") != (f.TLSKeyFile == ""):
		return errors.New("--tls-cert-file and --tls-key-file belong together: give both")
	case f.TLSCertFile != "" && f.ACME != "":
		return errors.New("--acme gets a certificate by itself: leave out --tls-cert-file and --tls-key-file")
	case f.ACME == "" && (f.ACMECache != "" || f.ACMEDirectory != ""):
		return errors.New("--acme-cache and --acme-directory need --acme with the name of the certificate")
	case f.RedirectListen != "" && !encrypted:
		return errors.New("--redirect-listen needs --acme or --tls-cert-file: " +
			"there is no HTTPS to redirect to")
	case encrypted && f.socketPath() != "":
		return errors.New("a unix socket has no TLS: leave out --acme and --tls-cert-file, " +
			"the proxy in front has the certificate")
	case f.ClientAddressHeader != "" && len(f.TrustedProxies) == 0:
		return errors.New("--client-address-header needs --trusted-proxies: " +
			"no other peer may name a visitor's address")
	case strings.Trim(strings.ToLower(f.ClientAddressHeader), letters+digits+"-") != "":
		return fmt.Errorf("--client-address-header %q is no header's name: give one as CF-Connecting-IP",
			f.ClientAddressHeader)
	}
	if f.ACME != "" {
		if _, err := httpserver.NewACME(f.ACME, "", "", nil); err != nil {
			return fmt.Errorf("--acme: %w", err)
		}
	}
	return nil
}

// socketPath is the path of the unix socket that is listened on; "": a TCP address is.
func (f *webFlags) socketPath() string {
	path, _ := strings.CutPrefix(f.Listen, "unix:")
	if path == f.Listen {
		return ""
	}
	return path
}

// open listens on the public address. A role does it first, so that an address in use is reported before
// anything starts. With --acme and --redirect-listen it adds their work to the process.
func (f *webFlags) open(h *host) (net.Listener, error) {
	l, err := f.listen()
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	encrypted, acme, err := f.encrypt(h, l)
	if err == nil && f.RedirectListen != "" {
		err = f.redirect(h, encrypted, acme)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return encrypted, nil
}

func (f *webFlags) listen() (net.Listener, error) {
	if path := f.socketPath(); path != "" {
		return httpserver.ListenUnix(path, fs.FileMode(f.ListenMode))
	}
	return httpserver.Listen(f.Listen)
}

// encrypt returns l with TLS if flags ask for that, and the client of the certificate authority if there is
// one.
func (f *webFlags) encrypt(h *host, l net.Listener) (net.Listener, *httpserver.ACME, error) {
	switch {
	case f.TLSCertFile != "":
		c, err := httpserver.TLSFromFiles(f.TLSCertFile, f.TLSKeyFile, h.log)
		if err != nil {
			return nil, nil, fmt.Errorf("--tls-cert-file: %w", err)
		}
		return &httpserver.TLSListener{Listener: l, Config: c}, nil, nil
	case f.ACME != "":
		cache := f.ACMECache
		if cache == "" {
			cache = ".nowcast-acme"
		}
		acme, err := httpserver.NewACME(f.ACME, cache, f.ACMEDirectory, h.log)
		if err != nil {
			return nil, nil, fmt.Errorf("--acme: %w", err)
		}
		h.prepare("certificate", "waiting for the certificate of "+acme.Domain(),
			func(ctx context.Context) error {
				return acme.Run(ctx, func(err error) { h.health.Set("certificate", err.Error()) })
			})
		return &httpserver.TLSListener{Listener: l, Config: acme.TLSConfig(), Name: acme.Domain()}, acme, nil
	}
	return l, nil, nil
}

// redirect serves redirects to the HTTPS address, and answers the certificate authority.
func (f *webFlags) redirect(h *host, to net.Listener, acme *httpserver.ACME) error {
	l, err := httpserver.Listen(f.RedirectListen)
	if err != nil {
		return fmt.Errorf("--redirect-listen: %w", err)
	}
	var handler http.Handler
	if acme != nil {
		handler = acme.HTTPHandler("https://" + acme.Domain())
	} else {
		handler = redirectToPort(to.Addr())
	}
	h.serve("redirect", l, handler)
	return nil
}

// redirectToPort redirects to the same host at the port of an address. It answers a request whose Host is
// no plain name or address with 400.
func redirectToPort(a net.Addr) http.Handler {
	port := ""
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.Port != 443 {
		port = ":" + strconv.Itoa(tcp.Port)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.Trim(host, "[]")
		if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
			host = "[" + host + "]"
		} else if host == "" || strings.Trim(strings.ToLower(host), letters+digits+"-.") != "" {
			http.Error(w, "that is no host name", http.StatusBadRequest)
			return
		}
		httpserver.RedirectTo("https://"+host+port).ServeHTTP(w, r)
	})
}

// proxies says whom the flags trust.
func (f *webFlags) proxies() httpserver.Proxies {
	p := httpserver.Proxies{Header: http.CanonicalHeaderKey(f.ClientAddressHeader)}
	for _, n := range f.TrustedProxies {
		if n.unix {
			p.Unix = true
		} else {
			p.Trusted = append(p.Trusted, n.Prefix)
		}
	}
	return p
}

// acmeIn sets where certificates are kept, unless a flag does.
func (f *webFlags) acmeIn(dataDir string) {
	if f.ACMECache == "" && f.ACME != "" {
		f.ACMECache = filepath.Join(dataDir, "acme")
	}
}

// listenURL returns the URL that leads to a listener: that of its certificate's name, or one that works on
// this machine.
func listenURL(l net.Listener) string {
	scheme := "http://"
	if encrypted, ok := l.(*httpserver.TLSListener); ok {
		if encrypted.Name != "" {
			return "https://" + encrypted.Name
		}
		scheme = "https://"
	}
	tcp, ok := l.Addr().(*net.TCPAddr)
	switch {
	case !ok: // a unix socket, behind a proxy
		return scheme + "localhost"
	case tcp.IP.IsUnspecified():
		return scheme + net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return scheme + l.Addr().String()
}

// network is a CIDR prefix or a single address, or the peers of a unix socket.
type network struct {
	netip.Prefix
	unix bool
}

// UnmarshalText reads 10.0.0.0/8, 2001:db8::/32, a single address, or unix.
func (n *network) UnmarshalText(b []byte) error {
	if string(b) == "unix" {
		n.unix = true
		return nil
	}
	if a, err := netip.ParseAddr(string(b)); err == nil {
		n.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(string(b))
	if err != nil {
		return fmt.Errorf("%q is no network: give one as 10.0.0.0/8, or unix for the unix socket", b)
	}
	n.Prefix = p.Masked()
	return nil
}

// socketMode is the mode of a unix socket's file.
type socketMode fs.FileMode

// UnmarshalText reads an octal number.
func (m *socketMode) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("%q is no mode: give one as 0660", b)
	}
	*m = socketMode(n)
	return nil
}
