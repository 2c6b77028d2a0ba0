//go:build linux && cgo

package libct

import (
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// weakLimits are those that bind the command only. stage0 sets them, because libcontainer's init is a Go program that
// needs more address space and threads than a small limit leaves.
type weakLimits struct {
	memory, pids uint64 // rlimits
	total        int64  // of memory, which a watchdog enforces
	tmpfs        []string
}

var specconvMu sync.Mutex

// configFor is the one way from a Container to libcontainer: through the OCI specification.
func configFor(c oci.Container, host oci.Host) (*configs.Config, weakLimits, error) {
	var weak weakLimits
	spec, err := oci.Spec(c, host)
	if err != nil {
		return nil, weak, fmt.Errorf("internal error: %w", err)
	}
	rootless := os.Geteuid() != 0
	// specconv hands out pointers into a table of its own, and writes to it.
	specconvMu.Lock()
	defer specconvMu.Unlock()
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName: c.ID, Spec: spec, RootlessEUID: rootless,
		// It forgives a missing cgroup only where the specification names none, which Spec does only without limits to
		// enforce; and it forgives that a user may not load the BPF program of a device list, in a user namespace
		// where no device can be made.
		RootlessCgroups: rootless || host.Limits != oci.ByCgroup,
	})
	if err != nil {
		return nil, weak, fmt.Errorf("internal error: cannot convert the OCI specification: %w", err)
	}
	for i, d := range config.Devices {
		own := *d
		config.Devices[i] = &own
	}
	// specconv leaves these to the runc command.
	for _, l := range spec.Process.Rlimits {
		switch l.Type {
		case "RLIMIT_AS":
			weak.memory = l.Hard
		case "RLIMIT_NPROC":
			weak.pids = l.Hard
		default:
			config.Rlimits = append(config.Rlimits, configs.Rlimit{Type: rlimitNumbers[l.Type], Soft: l.Soft, Hard: l.Hard})
		}
	}
	if host.Limits == oci.ByRlimits {
		weak.total = c.Limits.Memory
		for _, m := range spec.Mounts {
			if m.Type == "tmpfs" {
				weak.tmpfs = append(weak.tmpfs, m.Destination)
			}
		}
	}
	config.Labels = nil // "bundle=" and the current directory, which is nobody's business
	return config, weak, nil
}

var rlimitNumbers = map[string]int{
	"RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
}

// mapsFor narrows the maps of a host to what a container with this user needs.
func mapsFor(host oci.Host, u oci.User) (uid, gid []oci.IDMap) {
	pick := func(m []oci.IDMap, id uint32) []oci.IDMap {
		// A non-root user's map names its own id for 0, and a subordinate one that the container's user gets.
		m = slices.Clone(m)
		if len(m) == 2 && m[1].Size == 1 {
			m[1].Container = id
		}
		return m
	}
	return pick(host.UIDMap, u.UID), pick(host.GIDMap, u.GID)
}
