//go:build linux && cgo

package cli

import (
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/stage0"
)

// specVersion is the version of the runtime specification that Debian 12's runtimes know; crun refuses a later one. Spec
// uses nothing that is newer.
const specVersion = "1.0.2"

// adapt makes of the specification that all launchers share the one for an OCI runtime program: what stage0 does is
// taken out, and stage0 gets what it needs for that. filter is the size of the filter that it reads.
func adapt(spec *specs.Spec, c oci.Container, nested bool, extra, filter int) {
	spec.Version = specVersion
	// Neither runc nor crun knows a sysctl of the user namespace. It is the second lock of its door: the filter is the first.
	delete(spec.Linux.Sysctl, "user.max_user_namespaces")
	var weak stage0.Limits
	weak.Memory, weak.Pids, spec.Process.Rlimits = oci.CommandLimits(spec)
	// A runtime that a user starts keeps the user's supplementary groups, and their rights, and makes the guest the owner of
	// its own streams only. So stage0 starts as root of the namespace and does it all, as it does without a runtime.
	caps := []string{"CAP_CHOWN", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"}
	if nested {
		caps = append(caps, "CAP_SETFCAP")
	}
	spec.Process.User = specs.User{}
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	spec.Process.Args = stage0.RuntimeArgs(extra, weak, filter, c.User, nested, c.Args)
}

// A setting is what the command line depends on, beside the program.
type setting struct {
	root     string // for the runtime's own state
	rootless bool
	cgroups  bool // whether it is to make one
}

// global are the options that come before the command.
func (p program) global(s setting) []string {
	options := []string{"--root", s.root}
	switch p.kind {
	case "crun":
		manager := "disabled"
		if s.cgroups {
			manager = "cgroupfs"
		}
		options = append(options, "--cgroup-manager", manager)
	case "runc":
		options = append(options, "--rootless", strconv.FormatBool(s.rootless || !s.cgroups))
	case "runsc":
		options = append(options, "--rootless="+strconv.FormatBool(s.rootless), "--ignore-cgroups="+strconv.FormatBool(!s.cgroups))
	}
	return options
}

// run are the arguments that start a container and return. files is the number of descriptors that it gets beside 0, 1 and 2.
func (p program) run(s setting, bundle, pidFile, id string, files int) []string {
	args := append(p.global(s), "run", "--detach", "--bundle", bundle, "--pid-file", pidFile)
	if p.kind == "runsc" {
		for i := range files {
			fd := strconv.Itoa(3 + i)
			args = append(args, "--pass-fd", fd+":"+fd)
		}
	} else {
		args = append(args, "--preserve-fds", strconv.Itoa(files))
	}
	return append(args, id)
}

// remove are the arguments that end a container and remove what the runtime has of it.
func (p program) remove(s setting, id string) []string {
	return append(p.global(s), "delete", "--force", id)
}
