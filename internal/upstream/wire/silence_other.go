//go:build !linux && !darwin

package wire

import (
	"errors"
	"time"
)

func setSilence(int, time.Duration) error { return errors.ErrUnsupported }
