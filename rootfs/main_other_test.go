//go:build !linux

package rootfs

var systemChildren map[string]func() int
