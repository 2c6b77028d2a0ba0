//go:build linux && cgo

package libct

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/stage0"
)

// A Launcher runs containers with libcontainer. It is safe for concurrent use.
type Launcher struct{ *host.Host }

// New makes a Launcher. It touches nothing but GOMAXPROCS in the environment, which children inherit; what is wrong with
// the host shows in Run.
func New(opts host.Options) *Launcher {
	h := host.New(opts, stage0.HoldArgs())
	redirectLogrus(h.Logger)
	// All that a container's init inherits, by libcontainer's choice: with one P it starts faster. The runtime of this
	// process has read its own value long ago.
	os.Setenv("GOMAXPROCS", "1")
	return &Launcher{h}
}

// Run implements [oci.Launcher]. An error is an [*oci.StartError] or an [*oci.HostError] where the user can act on it.
func (l *Launcher) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	return l.Host.Run(ctx, c, func(o host.Offer) (oci.Exit, error) { return l.launch(ctx, c, s, o) })
}

// launch is one try of Run.
func (l *Launcher) launch(ctx context.Context, c oci.Container, s oci.Streams, o host.Offer) (oci.Exit, error) {
	config, spec, weak, err := configFor(c, o.Host)
	if err != nil {
		return oci.Exit{}, err
	}
	var own host.Cgroup
	if o.CgroupV1() {
		own = o.NewCgroup(spec.Linux.Resources)
		leave(config, c.ID)
	}
	container, err := libcontainer.Create(o.StateDir(), c.ID, config)
	if err != nil {
		return oci.Exit{}, &oci.StartError{Step: "create", Err: err}
	}
	paths, err := cgroupPaths(container, own)
	if err == nil {
		err = o.Record(paths)
	}
	if err != nil {
		return oci.Exit{}, errors.Join(err, container.Destroy())
	}
	r := run{
		offer: o, spec: spec, container: container, stateDir: filepath.Join(o.StateDir(), c.ID), weak: weak, cgroup: own, cgroups: paths,
	}
	if o.Nested {
		r.nested = c.User
	}
	exit, err := r.run(ctx, c, s)
	o.Removed(errors.Join(container.Destroy(), own.Remove()))
	return exit, err
}

// leave takes the cgroup out of config, if it is not libcontainer's to make. What libcontainer is left with is what it has
// when a user without rights starts it: a manager without paths.
func leave(config *configs.Config, id string) {
	config.Cgroups = &cgroups.Cgroup{Name: id, Rootless: true, Resources: &cgroups.Resources{}}
	config.RootlessCgroups = true
}

// cgroupPaths tells what cgroups a container will have. If we make them, libcontainer's manager is made to forget its
// own: the map in State is the manager's. Were it a copy one day, containers would have both, and start as slowly as
// they do with libcontainer alone.
func cgroupPaths(c *libcontainer.Container, own host.Cgroup) (map[string]string, error) {
	st, err := c.State()
	if err != nil {
		return nil, fmt.Errorf("cannot read container state: %w", err)
	}
	if own.Paths() != nil {
		clear(st.CgroupPaths)
		return own.Paths(), nil
	}
	return st.CgroupPaths, nil
}

// run is one container from its start to its end.
type run struct {
	offer     host.Offer
	spec      *specs.Spec
	container *libcontainer.Container
	stateDir  string
	weak      stage0.Limits
	nested    oci.User          // whom stage0 makes the command, in a user namespace of its own; zero if it does not
	cgroup    host.Cgroup       // if we made it
	cgroups   map[string]string // all of the container's, by controller
}

func (r run) run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	lifeline, holdLifeline, err := os.Pipe()
	if err != nil {
		return oci.Exit{}, fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer lifeline.Close()
	defer holdLifeline.Close()
	statusPipe, reportStatus, err := os.Pipe()
	if err != nil {
		return oci.Exit{}, fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer statusPipe.Close()
	defer reportStatus.Close()

	filter, err := stage0.FilterPipe(r.offer.Filter)
	if err != nil {
		return oci.Exit{}, fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer filter.Close()
	rootfs, err := host.OpenRootfs(c.Rootfs)
	if err != nil {
		return oci.Exit{}, err
	}
	defer rootfs.Close()

	user := c.User
	if r.nested != (oci.User{}) {
		user = oci.User{} // stage0 makes it c.User
	}
	p := &libcontainer.Process{
		Init: true, LogLevel: strconv.Itoa(int(logrus.ErrorLevel)), // else its C half sends some thirty debug messages
		Args: stage0.Args(len(s.Extra), r.weak, len(r.offer.Filter), r.nested, c.Args), Env: c.Env, Cwd: oci.Workspace,
		UID: int(user.UID), GID: int(user.GID),
		ExtraFiles: append([]*os.File{lifeline, reportStatus, filter, rootfs}, s.Extra...),
	}
	// A nil *os.File in an interface is not a nil interface.
	if s.Stdin != nil {
		p.Stdin = s.Stdin
	}
	if s.Stdout != nil {
		p.Stdout = s.Stdout
	}
	if s.Stderr != nil {
		p.Stderr = s.Stderr
	}

	// It is killed as a process: Container.Signal panics where init could not even be started, for want of descriptors, say.
	started := make(chan struct{})
	defer host.AtEnd(ctx, func() {
		<-started
		holdLifeline.Close()
		_ = p.Signal(unix.SIGKILL)
	})()

	start := func(*os.File) error {
		births := host.WatchBirths(ctx)
		err := r.container.Start(p)
		births.Stop()
		if err != nil {
			// When init is through but for the exec, or died in it, libcontainer leaves it to us.
			_ = p.Signal(unix.SIGKILL)
			_, _ = p.Wait()
			births.Bury() // nor does it wait for all others that it has made
		}
		return err
	}
	if r.cgroup.Paths() == nil {
		err = host.OnThread(func() error { return start(nil) })
	} else {
		err = r.cgroup.Start(start) // on a thread, too
	}
	var fifo *os.File
	if err == nil {
		// The last thing that init waits for before its exec is a reader of this. Container.Exec would open it
		// blocking, in a thread that it leaves there for ever when init is killed before.
		if fifo, err = os.OpenFile(filepath.Join(r.stateDir, "exec.fifo"), os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			defer fifo.Close()
		}
	}
	close(started)
	reportStatus.Close() // ours: so that the pipe ends with stage0
	if err != nil {
		_ = p.Signal(unix.SIGKILL)
		_, _ = p.Wait()
		return oci.Exit{}, &oci.StartError{Step: host.StepStart, Err: err}
	}
	pid, _ := p.Pid() // of a process that has started
	defer host.HoldMounts(pid).Close()
	verdict := r.offer.Watch(pid, c, s, r.spec, r.cgroups, func() { _ = p.Signal(unix.SIGKILL) })
	exit, reported, err := stage0.ReadReport(statusPipe, c.Args[0])
	verdict(&exit)
	if reported {
		if err != nil {
			_ = p.Signal(unix.SIGKILL) // stage0 may wait for what will not come
		} else if s.Exited != nil {
			s.Exited(exit)
		}
		_, _ = p.Wait()
		return exit, err
	}
	ps, err := p.Wait()
	switch {
	case ps == nil:
		return oci.Exit{}, fmt.Errorf("internal error: cannot wait for container: %w", err)
	case ps.Exited() && ctx.Err() == nil:
		// Neither killed nor through: init's last step failed, and it could only tell the container's stderr.
		return oci.Exit{}, &oci.StartError{
			Step: "exec", Err: fmt.Errorf("the container's init ended with exit code %d; are the arguments too long?", ps.ExitCode()),
		}
	}
	if s.Exited != nil {
		s.Exited(exit)
	}
	return exit, nil
}
