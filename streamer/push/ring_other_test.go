//go:build !linux

package push

func hasIOURing() bool { return false }
