package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

// setSilence bounds how long what is sent on a connection may be unacknowledged (tcp(7), TCP_USER_TIMEOUT).
func setSilence(fd int, d time.Duration) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}
