// Package host is this machine as a place to run containers in: how ids are mapped, what enforces limits, what a crash
// has left, and a diagnosis of all that. The launchers that run in this process stand on it; it starts no container itself.
package host

import (
	"log/slog"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// Options of a [Host], and so of the launchers that stand on one.
type Options struct {
	// StateDir holds what a later start needs to clean up after a crash. It is made when the first container runs.
	StateDir string
	// AllowWeakLimits lets containers run with rlimits where the host has no cgroup for them.
	AllowWeakLimits bool
	// Unfiltered leaves out the system call filter. It is for the tests and the benchmark, which must show
	// what the filter keeps from happening, and what it costs.
	Unfiltered bool
	// Logger gets what libcontainer logs too, as debug messages; nil discards.
	Logger *slog.Logger
}

// A Launcher is one of this module: what its user has to know beside how to run containers.
type Launcher interface {
	oci.Launcher
	// Close removes what is kept in the state directory. No Run may be going on.
	Close() error
}

// StepStart is the step of a start in which what the host does not offer shows.
const StepStart = "start"
