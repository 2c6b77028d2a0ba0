package host

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// Passing says that an error can be one of this moment: something is short of something, or does not answer. It says nothing
// of what the host can do.
func Passing(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.EAGAIN, unix.EINTR, unix.ENOMEM, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
