//go:build !linux || !cgo

package libct

import (
	"context"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// Diagnose has one thing to say here.
func Diagnose(context.Context, string, oci.Limits) []Check {
	return []Check{{
		Step: "system", Status: Failed, Detail: "this build has no libcontainer, which needs Linux and cgo",
		Fix: "build it with CGO_ENABLED=1 on Linux",
	}}
}
