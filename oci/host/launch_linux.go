//go:build linux

package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// A Host finds out once what this machine offers, and hands it to each container. It is safe for concurrent use.
type Host struct {
	Options
	hold []string

	mu    sync.Mutex // guards the rest, which the first Run fills
	state *state
	offer oci.Host
	cg    cgroupParent
}

// New makes a Host. It touches nothing; what is wrong with the machine shows in Run. hold is the command line of this
// program that does nothing until the end of its standard input.
func New(opts Options, hold []string) *Host {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Host{Options: opts, hold: hold}
}

// An Offer is what the machine has for one container.
type Offer struct {
	oci.Host        // for [oci.Spec]; the maps are those for the container's user
	Filter   []byte // of system calls; nil if there is to be none

	id    string
	cg    cgroupParent
	state *state
	log   *slog.Logger
}

// Close removes what is kept in the state directory. No Run may be going on.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == nil {
		return nil
	}
	err := h.state.close()
	h.state = nil
	return err
}

// Nested says that there was but one id to map, as far as containers have run.
func (h *Host) Nested() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.offer.Nested
}

// prepare finds out once what the host offers and opens the state directory.
func (h *Host) prepare(ctx context.Context) (oci.Host, cgroupParent, *state, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.state == nil:
	case h.state.Lost():
		// By "git clean", say, where it is in a repository. What runs goes on without.
		h.Logger.Warn("the state directory has been removed; making another", "dir", h.state.Path)
		st, err := openState(h.StateDir, h.Logger)
		if err != nil {
			return oci.Host{}, cgroupParent{}, nil, err
		}
		_ = h.state.Close(true)
		h.state = st
		return h.offer, h.cg, st, nil
	default:
		return h.offer, h.cg, h.state, nil
	}
	if err := cmp.Or(executable(), EnoughFiles(HardLimits())); err != nil {
		return oci.Host{}, cgroupParent{}, nil, err
	}
	offer, cg, err := probe(ctx, h.AllowWeakLimits)
	if err != nil {
		return oci.Host{}, cgroupParent{}, nil, err
	}
	st, err := openState(h.StateDir, h.Logger)
	if err != nil {
		return oci.Host{}, cgroupParent{}, nil, err
	}
	if offer.Limits != oci.ByCgroup {
		h.Logger.Warn("limits are weak: no cgroup to enforce them", "limits", offer.Limits)
	}
	h.offer, h.cg, h.state = offer, cg, st
	return offer, cg, st, nil
}

// Run calls launch with what the machine has for c, and once more if the start failed and the machine has turned out to
// be another than before. What it returns is fit to be returned by [oci.Launcher.Run].
func (h *Host) Run(ctx context.Context, c oci.Container, launch func(Offer) (oci.Exit, error)) (oci.Exit, error) {
	if err := ctx.Err(); err != nil {
		return oci.Exit{}, context.Cause(ctx)
	}
	offer, cg, st, err := h.prepare(ctx)
	if err != nil {
		return oci.Exit{}, err
	}
	if offer.Limits == oci.ByCgroup && c.Limits.CPUs > 0 && !cg.cpu {
		return oci.Exit{}, &oci.HostError{
			Missing: "cannot enforce the limit of CPU time (MCP_BRIDGE_CPUS): the cpu controller is not delegated below " + cg.parent,
			Fix:     "have it delegated (mcp-bridge doctor says how), or unset MCP_BRIDGE_CPUS",
		}
	}
	var filter []byte
	if !h.Unfiltered {
		if filter, err = oci.Filter(); err != nil {
			return oci.Exit{}, err
		}
	}
	try := func(offer oci.Host, cg cgroupParent) (oci.Exit, error) {
		offer.UIDMap, offer.GIDMap = mapsFor(offer, c.User)
		exit, err := launch(Offer{Host: offer, Filter: filter, id: c.ID, cg: cg, state: st, log: h.Logger})
		if err != nil && ctx.Err() != nil {
			// What a process that starts sees of it, when pid 1 is killed under it, can be any error.
			return oci.Exit{}, context.Cause(ctx)
		}
		exit.Limits = cmp.Or(exit.Limits, offer.Limits)
		return exit, err
	}
	exit, err := try(offer, cg)
	var start *oci.StartError
	if !errors.As(err, &start) {
		return exit, err
	}
	if offer, cg, again := h.reconsider(ctx, start, offer); again {
		if exit, err = try(offer, cg); !errors.As(err, &start) {
			return exit, err
		}
	}
	if start.Step == StepStart {
		err = explain(start, c)
	}
	return exit, err
}

// StateDir is where the launcher may keep what it needs of a container that runs.
func (o Offer) StateDir() string { return o.state.Path }

// Record notes the container's cgroups, by controller, which no crash takes away by itself.
func (o Offer) Record(cgroups map[string]string) error { return o.state.record(o.id, cgroups) }

// Removed ends the record of a container, unless err says that something of it is left: then that is for the next
// start.
func (o Offer) Removed(err error) {
	if err != nil {
		o.log.Error("cannot remove container; the next start will try again", "id", o.id, "error", err)
		return
	}
	o.state.forget(o.id)
}

// executable checks that the container's user may execute this program, which becomes its stage0. A sealed copy always
// may be.
func executable() error {
	if Shareable() {
		return nil
	}
	name, err := os.Executable()
	if err != nil {
		return &oci.HostError{Missing: fmt.Sprintf("cannot find out about this program: %v", err), Fix: "mount -t proc proc /proc"}
	}
	return &oci.HostError{
		Missing: name + " may not be executed by others, and a sandbox is another user",
		Fix:     "chmod o+x " + name,
	}
}

// Shareable says whether others may execute this program's file. If not, a sealed copy is needed before a container
// starts.
func Shareable() bool {
	st, err := os.Stat("/proc/self/exe")
	return err == nil && st.Mode().Perm()&1 != 0
}

func readSmall(name string) ([]byte, error) {
	// Not os.Open, for the reason of writeFile.
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 1<<16)
	for len(b) < cap(b) {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: name, Err: err}
		}
		if n == 0 {
			break
		}
		b = b[:len(b)+n]
	}
	return b, nil
}

// HoldMounts keeps the mounts of the container whose first process is pid until what it returns is closed, which may be
// nil: unmounting takes milliseconds, and would be part of the end of its last process.
func HoldMounts(pid int) *os.File {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return nil // as a user, who may not
	}
	return f
}
