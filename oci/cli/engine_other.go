//go:build !linux

package cli

import (
	"context"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// Where containers are in a virtual machine, what became of one is the engine's to tell.

func hybridRuntime() string { return "" }

func unifiedCgroups() bool { return true }

// waitExit cannot wait for a child and leave it to be waited for.
func waitExit(int) bool { return false }

type firstWatch struct{}

func watchFirst(string) *firstWatch { return nil }

func (*firstWatch) died(context.Context) bool { return false }

func (*firstWatch) oom() (killed, starved bool) { return false, false }

func (*firstWatch) enforced(oci.Limits) error { return nil }

func (*firstWatch) look() {}

func (*firstWatch) close() {}
