//go:build !linux || !cgo

package cli

import "github.com/mcp-bridge/mcp-bridge/oci/host"

// A Runtime runs nothing on this system: an OCI runtime is a program for Linux, and its pid 1 is a stage0 in C.
type Runtime = host.Absent

// NewRuntime makes a Runtime whose Run fails.
func NewRuntime(string, host.Options) *Runtime {
	return &Runtime{Missing: "this build cannot start containers with an OCI runtime, which needs Linux and cgo"}
}
