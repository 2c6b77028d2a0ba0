//go:build !linux || !cgo

package direct

import (
	"context"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// A Launcher runs nothing on this system.
type Launcher struct{}

// New makes a Launcher whose Run fails.
func New(host.Options) *Launcher { return &Launcher{} }

// Close does nothing here.
func (*Launcher) Close() error { return nil }

// Run fails: it needs Linux, and a stage0 in C.
func (*Launcher) Run(context.Context, oci.Container, oci.Streams) (oci.Exit, error) {
	return oci.Exit{}, &oci.HostError{
		Missing: "this build cannot start containers, which needs Linux and cgo",
		Fix:     "build it with CGO_ENABLED=1 on Linux",
	}
}
