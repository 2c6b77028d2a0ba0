//go:build !linux || !cgo

package cli

import (
	"context"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// A Runtime runs nothing on this system.
type Runtime struct{}

// NewRuntime makes a Runtime whose Run fails.
func NewRuntime(string, host.Options) *Runtime { return &Runtime{} }

// Close does nothing here.
func (*Runtime) Close() error { return nil }

// Run fails: an OCI runtime is a program for Linux, and its pid 1 is a stage0 in C.
func (*Runtime) Run(context.Context, oci.Container, oci.Streams) (oci.Exit, error) {
	return oci.Exit{}, &oci.HostError{
		Missing: "this build cannot start containers with an OCI runtime, which needs Linux and cgo",
		Fix:     "build it with CGO_ENABLED=1 on Linux",
	}
}
