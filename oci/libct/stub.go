//go:build !linux || !cgo

package libct

import (
	"context"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// Init does nothing here.
func Init() {}

// Seal does nothing here.
func Seal() error { return nil }

// A Launcher runs nothing on this system.
type Launcher struct{}

// New makes a Launcher whose Run fails.
func New(host.Options) *Launcher { return &Launcher{} }

// Close does nothing here.
func (*Launcher) Close() error { return nil }

// Run fails: libcontainer needs Linux and cgo.
func (*Launcher) Run(context.Context, oci.Container, oci.Streams) (oci.Exit, error) {
	return oci.Exit{}, &oci.HostError{
		Missing: "this build has no libcontainer, which needs Linux and cgo",
		Fix:     "build it with CGO_ENABLED=1 on Linux",
	}
}
