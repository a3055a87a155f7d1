package main

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTerminalWidth(t *testing.T) {
	program, person := terminal(t)
	if err := unix.IoctlSetWinsize(int(person.Fd()), unix.TIOCSWINSZ,
		&unix.Winsize{Row: 24, Col: 91}); err != nil {
		t.Fatal(err)
	}
	if n := terminalWidth(program); n != 91 {
		t.Errorf("a terminal of 91 columns has %d", n)
	}
	if n := terminalWidth(&bytes.Buffer{}); n != 0 {
		t.Errorf("what is no terminal has %d columns", n)
	}
}
