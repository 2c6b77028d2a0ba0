//go:build !linux

package cli

// Where containers are in a virtual machine, what limits a process here says nothing of them, and what became of one is the
// engine's to tell.

func engineHardLimits() map[string]uint64 { return nil }

func hybridRuntime() string { return "" }

func unifiedCgroups() bool { return true }

type oomWatch struct{}

func watchOOM(string) *oomWatch { return nil }

func (*oomWatch) close() bool { return false }
