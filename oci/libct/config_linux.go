//go:build linux && cgo

package libct

import (
	"fmt"
	"os"
	"sync"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/stage0"
)

var specconvMu sync.Mutex

// configFor is the one way from a Container to libcontainer: through the OCI specification.
// weak are the rlimits that are not for its init.
func configFor(c oci.Container, on oci.Host) (config *configs.Config, spec *specs.Spec, weak stage0.Limits, err error) {
	spec, err = oci.Spec(c, on)
	if err != nil {
		return nil, nil, weak, fmt.Errorf("internal error: %w", err)
	}
	rootless := os.Geteuid() != 0
	// specconv hands out pointers into a table of its own, and writes to it.
	specconvMu.Lock()
	defer specconvMu.Unlock()
	config, err = specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName: c.ID, Spec: spec, RootlessEUID: rootless,
		// It forgives a missing cgroup only where the specification names none, which Spec does only without limits to
		// enforce; and it forgives that a user may not load the BPF program of a device list, in a user namespace
		// where no device can be made.
		RootlessCgroups: rootless || on.Limits != oci.ByCgroup,
	})
	if err != nil {
		return nil, nil, weak, fmt.Errorf("internal error: cannot convert the OCI specification: %w", err)
	}
	for i, d := range config.Devices {
		own := *d
		config.Devices[i] = &own
	}
	// specconv leaves these to the runc command.
	var rest []specs.POSIXRlimit
	weak.Memory, weak.Pids, rest = oci.CommandLimits(spec)
	for _, l := range rest {
		config.Rlimits = append(config.Rlimits, configs.Rlimit{Type: host.Rlimits[l.Type], Soft: l.Soft, Hard: l.Hard})
	}
	config.Labels = nil // "bundle=" and the current directory, which is nobody's business
	return config, spec, weak, nil
}
