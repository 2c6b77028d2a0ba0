//go:build !linux

package bench

import (
	"context"
	"errors"
	"os/exec"
)

var errLinux = errors.New("cannot measure here: sandboxes run on Linux only")

// Isolate fails, as does Run.
func Isolate() (program string, err error) { return "", errLinux }

// Run fails: sandboxes are measured where they run.
func Run(context.Context, Options) (Report, error) { return Report{}, errLinux }

func isolate(*exec.Cmd) {}
