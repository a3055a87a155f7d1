package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// ForeignDirError says that a directory belongs to another user.
type ForeignDirError struct {
	Owner    int
	Writable bool // this user may make files in it
}

func (e *ForeignDirError) Error() string {
	return fmt.Sprintf("it belongs to the user with id %d and not to this one, %d", e.Owner, os.Geteuid())
}

// MakePrivate makes a directory that only this user may enter. An existing one of this user is closed to
// others; one of another user is refused with *ForeignDirError, because that user, and the group where it may
// write, could read and replace what is in it.
func MakePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() {
		const writeAndEnter = 2 | 1 // W_OK, X_OK
		return &ForeignDirError{Owner: int(s.Uid), Writable: syscall.Access(dir, writeAndEnter) == nil}
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return os.Chmod(dir, 0o700) //nolint:gosec // a directory needs x
}

// maxSocketPath is the length of a unix socket's path in bytes, sun_path without its terminator.
const maxSocketPath = 107

// socket is a unix socket in a directory that only this user may enter.
type socket struct {
	path     string
	temp     string   // its directory, if the path of the data dir is too long for a socket
	listener *os.File // children inherit it
}

// listenSocket listens on a socket in dir, whose lock this process holds. If the path is too long, the
// socket is in a private directory below the system's for temporary files, to which the symbolic link
// name+".dir" in dir leads.
func listenSocket(dir, name string) (s *socket, err error) {
	s = &socket{path: filepath.Join(dir, name)}
	link := s.path + ".dir"
	if err := removeOldTemp(link); err != nil {
		return nil, err
	}
	if len(s.path) > maxSocketPath {
		if s.temp, err = os.MkdirTemp("", socketTempPrefix+"*"); err != nil {
			return nil, err
		}
		s.path = filepath.Join(s.temp, name)
		if err := os.Symlink(s.temp, link); err != nil {
			s.close()
			return nil, err
		}
	}
	os.Remove(s.path) // left by a killed process
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		s.close()
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer func() { _ = l.Close() }() // s.listener, its duplicate, stays open
	if s.listener, err = l.File(); err == nil {
		err = os.Chmod(s.path, 0o600)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

const socketTempPrefix = "nowcast-"

// removeOldTemp removes the temporary directory that a killed process left.
func removeOldTemp(link string) error {
	temp, err := os.Readlink(link)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if ours, _ := filepath.Match(socketTempPrefix+"*", filepath.Base(temp)); ours {
		os.RemoveAll(temp)
	}
	return os.Remove(link)
}

func (s *socket) close() {
	os.Remove(s.path)
	if s.temp != "" {
		os.RemoveAll(s.temp)
	}
	if s.listener != nil {
		s.listener.Close()
	}
}
