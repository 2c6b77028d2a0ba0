//go:build !linux || !cgo

package libct

import "github.com/mcp-bridge/mcp-bridge/oci/host"

// Init does nothing here.
func Init() {}

// Seal does nothing here.
func Seal() error { return nil }

// A Launcher runs nothing on this system: libcontainer needs Linux and cgo.
type Launcher = host.Absent

// New makes a Launcher whose Run fails.
func New(host.Options) *Launcher {
	return &Launcher{Missing: "this build has no libcontainer, which needs Linux and cgo"}
}
