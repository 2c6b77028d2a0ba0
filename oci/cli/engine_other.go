//go:build !linux

package cli

import "context"

// Where containers are in a virtual machine, what limits a process here says nothing of them, and what became of one is the
// engine's to tell.

func engineHardLimits() map[string]uint64 { return nil }

func hybridRuntime() string { return "" }

func unifiedCgroups() bool { return true }

type oomWatch struct{}

func watchOOM(string) *oomWatch { return nil }

func (*oomWatch) died(context.Context) (killed, ok bool) { return false, false }

func (*oomWatch) close() bool { return false }
