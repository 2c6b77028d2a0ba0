//go:build !linux

package rootfs

// canSnapshot: containers are Linux everywhere, this machine's Python is not for it.
const canSnapshot = false
