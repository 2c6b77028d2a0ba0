//go:build linux && cgo

package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/stage0"
)

// A Runtime runs containers with an OCI runtime program. It is safe for concurrent use.
type Runtime struct {
	*host.Host
	name     string
	patience time.Duration // with the program

	mu    sync.Mutex // guards found
	found *program
}

// NewRuntime makes a Runtime that runs a program, which is a name or an absolute path. It touches nothing; what is wrong
// with the host or the program shows in Run.
func NewRuntime(program string, o host.Options) *Runtime {
	return &Runtime{Host: host.New(o, stage0.HoldArgs()), name: program, patience: 20 * time.Second}
}

// Run implements [oci.Launcher]. An error is an [*oci.StartError] or an [*oci.HostError] where the user can act on it.
func (r *Runtime) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	return r.Host.Run(ctx, c, func(o host.Offer) (oci.Exit, error) { return r.launch(ctx, c, s, o) })
}

// program is the runtime, which is looked for once: until it has been found.
func (r *Runtime) program(ctx context.Context) (program, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.found == nil {
		p, err := findProgram(ctx, r.name, r.patience)
		if err != nil {
			return program{}, err
		}
		r.found = &p
	}
	return *r.found, nil
}

// launch is one try of Run.
func (r *Runtime) launch(ctx context.Context, c oci.Container, s oci.Streams, o host.Offer) (oci.Exit, error) {
	p, err := r.program(ctx)
	if err != nil {
		return oci.Exit{}, err
	}
	spec, err := oci.Spec(c, o.Host)
	if err != nil {
		return oci.Exit{}, fmt.Errorf("internal error: %w", err)
	}
	x := run{
		runtime: r, program: p, offer: o, spec: spec, dir: filepath.Join(o.StateDir(), c.ID),
		setting: setting{rootless: os.Geteuid() != 0, cgroups: o.Limits == oci.ByCgroup},
	}
	x.setting.root = filepath.Join(x.dir, "state")
	if p.kind == "crun" && o.CgroupV1() {
		// crun knows a path from the root of the tree only, and what limits the bridge should limit its containers.
		x.cgroup, x.born, x.setting.cgroups = o.NewCgroup(spec.Linux.Resources), true, false
		spec.Linux.Resources, spec.Linux.CgroupsPath = nil, ""
	} else if x.cgroup, err = o.OthersCgroup(); err != nil {
		return oci.Exit{}, err
	}
	adapt(spec, c, o.Nested, len(s.Extra), len(o.Filter))
	if err := o.Record(x.cgroup.Paths()); err != nil {
		return oci.Exit{}, err
	}
	var exit oci.Exit
	if err = x.bundle(); err == nil {
		exit, err = x.run(ctx, c, s)
	}
	o.Removed(x.remove(ctx, c.ID))
	return exit, err
}
