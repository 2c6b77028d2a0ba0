// Package libct is the [oci.Launcher] that runs a container in-process with runc's libcontainer: no daemon, and no
// runtime program on the host. It is Linux only, and the only cgo of the house.
//
// A program that uses it calls [Init] first thing in main, because libcontainer re-executes the program as the first
// process of each container, and then, if it starts more than one, [Seal]. Test binaries do so in TestMain.
package libct

import "log/slog"

// Options of a [Launcher].
type Options struct {
	// StateDir holds what a later start needs to clean up after a crash. It is made when the first container runs.
	StateDir string
	// AllowWeakLimits lets containers run with rlimits where the host has no cgroup for them.
	AllowWeakLimits bool
	// Unfiltered leaves out the system call filter. It is for the tests and the benchmark, which must show
	// what the filter keeps from happening, and what it costs.
	Unfiltered bool
	// Logger gets libcontainer's own warnings too; nil discards.
	Logger *slog.Logger
}
