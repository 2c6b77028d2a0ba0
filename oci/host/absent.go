//go:build !linux || !cgo

package host

import (
	"context"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// An Absent is a [Launcher] in a build without it: it runs nothing.
type Absent struct{ Missing string } // of the error of Run

// Run fails.
func (a *Absent) Run(context.Context, oci.Container, oci.Streams) (oci.Exit, error) {
	return oci.Exit{}, &oci.HostError{Missing: a.Missing, Fix: "build it with CGO_ENABLED=1 on Linux"}
}

// Close does nothing.
func (*Absent) Close() error { return nil }
