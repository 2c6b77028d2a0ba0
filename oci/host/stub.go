//go:build !linux

package host

import (
	"context"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// Diagnose has one thing to say here.
func Diagnose(context.Context, func(Options) Launcher, string, oci.Limits) []Check {
	return []Check{{
		Step: "system", Status: Failed, Detail: "a sandbox needs Linux",
		Fix: "run it on Linux",
	}}
}

// HardLimits are none that say anything of a container, which is in a virtual machine.
func HardLimits() map[string]uint64 { return nil }

// Shareable is always true here.
func Shareable() bool { return true }
