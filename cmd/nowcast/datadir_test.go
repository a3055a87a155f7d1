package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The root of a volume, which belongs to root and to a group of the process as Kubernetes mounts it, is
// refused with the option that works. What the start makes below it is closed to the group, also after the
// next mount has opened it.
func TestDataDirOnVolume(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("LEFT OUT: only root may mount a volume for another user")
	}
	const user, group = 65534, 4242
	dir, err := os.MkdirTemp("", "volume") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, volume := filepath.Join(dir, "nowcast"), filepath.Join(dir, "volume")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	mount := func() {
		err := filepath.WalkDir(volume, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Type()&^fs.ModeDir != 0 {
				return err
			}
			mode := fs.FileMode(0o660)
			if d.IsDir() {
				mode = 0o770 | fs.ModeSetgid
			}
			return errors.Join(os.Chown(path, -1, group), os.Chmod(path, mode))
		})
		if err == nil {
			err = os.Chmod(volume, 0o775|fs.ModeSetgid) //nolint:gosec // as kubelet does
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir, 0o755), //nolint:gosec // for the other user
		os.WriteFile(self, b, 0o755), //nolint:gosec // a program
		os.Mkdir(volume, 0o700)); err != nil {
		t.Fatal(err)
	}
	mount()
	start := func(dataDir string) (*exec.Cmd, *strings.Builder) {
		cmd := program(t, "all", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
			"--clickhouse", "clickhouse://"+free(t)+"/default", "--data-dir", dataDir)
		cmd.Path, cmd.Dir = self, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user,
			Groups: []uint32{group}}}
		var errs strings.Builder
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &errs
	}
	cmd, errs := start(volume)
	below := filepath.Join(volume, "data")
	if err := cmd.Wait(); err == nil || !strings.Contains(errs.String(), "belongs to the user with id 0 ") ||
		!strings.Contains(errs.String(), "--data-dir "+below+".") || strings.Contains(errs.String(), "Move") {
		t.Errorf("on the root of a volume: %v %s", err, errs)
	}
	if left, err := os.ReadDir(volume); err != nil || len(left) > 0 {
		t.Errorf("the refused start has left %v, %v", left, err)
	}
	var key string
	for range 2 {
		cmd, errs := start(below)
		eventually(t, "an admin key", func() bool {
			now, err := readAdminKey(below)
			return err == nil && now != "" && (key == "" || key == now)
		})
		eventually(t, "the broker's directory is closed", func() bool {
			return mode(below) == 0o700 && mode(filepath.Join(below, "broker")) == 0o700
		})
		key, _ = readAdminKey(below)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("below the root: %v %s", err, errs)
		}
		mount()
	}
	if err := os.Mkdir(filepath.Join(volume, "broker"), 0o700); err != nil {
		t.Fatal(err)
	}
	if cmd, errs = start(volume); cmd.Wait() == nil || !strings.Contains(errs.String(), "Move what") {
		t.Errorf("with the data of an earlier version: %s", errs)
	}
}

func mode(path string) fs.FileMode {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Mode().Perm()
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
	}
}
