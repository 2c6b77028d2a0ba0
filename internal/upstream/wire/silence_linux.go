package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

// setSilence bounds how long what is sent on a connection may be unacknowledged or not sent at all for want of a window (tcp(7),
// TCP_USER_TIMEOUT). It is the bound of keep-alive, too.
func setSilence(fd int, d time.Duration) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}
