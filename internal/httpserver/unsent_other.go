//go:build !linux

package httpserver

import "net"

// unsentBytes can't tell on this system.
func unsentBytes(net.Conn) int { return 0 }
