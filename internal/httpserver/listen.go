package httpserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Listen opens a TCP address, or a unix socket by unix:PATH. If the address can't be opened, the error says
// what to do.
func Listen(addr string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return ListenUnix(path, SocketMode)
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf(
			"address %s is taken: stop the program that listens there or choose another one", addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf(
			"address %s needs more rights than this user has: choose a port above 1023", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf(
			"address %s isn't one of this machine's: choose 127.0.0.1 or 0.0.0.0 with a port", addr)
	}
	return nil, fmt.Errorf("listen on %s: %w", addr, err)
}

// SocketMode is the mode of a unix socket's file, unless another one is asked for: only the user and the
// group can connect.
const SocketMode fs.FileMode = 0o660

// maxSocketPath is the longest path of a unix socket, in bytes: sun_path is a byte longer.
const maxSocketPath = 107

// ListenUnix opens a unix socket whose file has a mode from its first moment. It replaces the socket of a
// process that has ended, and refuses to replace that of one that answers, or a file of another kind.
func ListenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "./"
	}
	temp := filepath.Join(dir, ".nowcast-"+rand.Text()[:8])
	switch {
	case name == "":
		return nil, fmt.Errorf("socket unix:%s names no file: give one as unix:/run/nowcast/http.sock", path)
	case max(len(path), len(temp)) > maxSocketPath:
		return nil, fmt.Errorf("the path of socket %s is too long: choose a directory with at most %d "+
			"characters in its name", path, maxSocketPath-len(filepath.Base(temp))-1)
	}
	unlock, err := lockDirectory(dir)
	if err != nil {
		return nil, fmt.Errorf("directory %s of socket %s can't be used (%w): make it, and let this user "+
			"write to it", dir, path, err)
	}
	defer unlock()
	if err := replaceable(path); err != nil {
		return nil, err
	}
	// The socket gets its mode under another name, so that nobody can connect before.
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", temp)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	err = os.Chmod(temp, mode)
	var file fs.FileInfo
	if err == nil {
		file, err = os.Lstat(temp)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		l.Close()
		os.Remove(temp)
		return nil, fmt.Errorf("make socket %s: %w", path, err)
	}
	return &unixListener{Listener: l, path: path, file: file}, nil
}

// lockDirectory waits for other processes that open a socket in the directory.
func lockDirectory(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		d.Close()
		return nil, err
	}
	return func() { d.Close() }, nil
}

// replaceable returns an error if there is a file at path that isn't the socket of a process that has ended.
func replaceable(path string) error {
	file, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at socket %s: %w", path, err)
	case file.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is a file that isn't a socket: remove it or choose another path", path)
	}
	c, err := (&net.Dialer{}).DialContext(context.Background(), "unix", path)
	if err == nil {
		c.Close()
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("socket %s is taken: stop the program that listens there or choose another path", path)
}

// unixListener removes its file when it is closed, unless another process has replaced it.
type unixListener struct {
	net.Listener
	path string
	file fs.FileInfo
}

// Addr is the path under which the socket can be reached.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close is net.Listener's.
func (l *unixListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.file) {
		os.Remove(l.path)
	}
	return l.Listener.Close()
}
