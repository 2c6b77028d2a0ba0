//go:build !linux || !cgo

package direct

import "github.com/mcp-bridge/mcp-bridge/oci/host"

// A Launcher runs nothing on this system: it needs Linux, and a stage0 in C.
type Launcher = host.Absent

// New makes a Launcher whose Run fails.
func New(host.Options) *Launcher {
	return &Launcher{Missing: "this build cannot start containers, which needs Linux and cgo"}
}
