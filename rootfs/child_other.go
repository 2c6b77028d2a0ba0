//go:build !linux

package rootfs

import (
	"context"
	"errors"
	"os"
)

// canReexec: only Linux has something that keeps the child from writing elsewhere.
const canReexec = false

func limitChild() error { return errors.New("there is no unpacker process on this system") }

func growPipe(*os.File) {}

func startChild(context.Context, job, []*os.File, *os.File) (func() (jobResult, error), error) {
	return nil, errors.New("there is no unpacker process on this system")
}
