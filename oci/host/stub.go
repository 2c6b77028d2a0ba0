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

// Shareable is always true here.
func Shareable() bool { return true }
