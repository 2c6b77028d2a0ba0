//go:build linux && cgo

package libct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "github.com/opencontainers/cgroups/devices" // without it: "cgroup manager is not configured to set device rules"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// lifelineFD is the descriptor of the lifeline in a container's first process, before and in stage0.
const lifelineFD = 3

// A Launcher runs containers with libcontainer. It is safe for concurrent use.
type Launcher struct {
	opts Options

	mu     sync.Mutex // guards the rest, which the first Run fills
	state  *state
	host   oci.Host
	cgroup cgroupParent
}

// New makes a Launcher. It touches nothing but GOMAXPROCS in the environment, which children inherit; what is wrong with
// the host shows in Run.
func New(opts Options) *Launcher {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	redirectLogrus(opts.Logger)
	// All that a container's init inherits, by libcontainer's choice: with one P it starts faster. The runtime of this
	// process has read its own value long ago.
	os.Setenv("GOMAXPROCS", "1")
	return &Launcher{opts: opts}
}

// Close removes what the Launcher keeps in the state directory. No Run may be going on.
func (l *Launcher) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == nil {
		return nil
	}
	err := l.state.close()
	l.state = nil
	return err
}

// prepare finds out once what the host offers and opens the state directory.
func (l *Launcher) prepare(ctx context.Context) (oci.Host, cgroupParent, *state, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != nil {
		return l.host, l.cgroup, l.state, nil
	}
	if err := executable(); err != nil {
		return oci.Host{}, cgroupParent{}, nil, err
	}
	host, cg, err := probe(ctx, l.opts.AllowWeakLimits)
	if err != nil {
		return oci.Host{}, cgroupParent{}, nil, err
	}
	st, err := openState(l.opts.StateDir, l.opts.Logger)
	if err != nil {
		return oci.Host{}, cgroupParent{}, nil, err
	}
	if host.Limits != oci.ByCgroup {
		l.opts.Logger.Warn("limits are weak: no cgroup to enforce them", "limits", host.Limits)
	}
	l.host, l.cgroup, l.state = host, cg, st
	return host, cg, st, nil
}

// Run implements [oci.Launcher]. An error is an [*oci.StartError] or an [*oci.HostError] where the user can act on it.
func (l *Launcher) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	if err := ctx.Err(); err != nil {
		return oci.Exit{}, context.Cause(ctx)
	}
	host, cg, st, err := l.prepare(ctx)
	if err != nil {
		return oci.Exit{}, err
	}
	if host.Limits == oci.ByCgroup && c.Limits.CPUs > 0 && !cg.cpu {
		return oci.Exit{}, &oci.HostError{
			Missing: "cannot enforce the limit of CPU time (MCP_BRIDGE_CPUS): the cpu controller is not delegated below " + cg.parent,
			Fix:     "have it delegated (mcp-bridge doctor says how), or unset MCP_BRIDGE_CPUS",
		}
	}
	exit, err := l.launch(ctx, c, s, host, cg, st)
	var start *oci.StartError
	if !errors.As(err, &start) || ctx.Err() != nil {
		return exit, err
	}
	if host, cg, again := l.reconsider(ctx, start, host); again {
		if exit, err = l.launch(ctx, c, s, host, cg, st); !errors.As(err, &start) {
			return exit, err
		}
	}
	if start.Step == stepStart {
		err = explain(start, c)
	}
	return exit, err
}

// launch is one try of Run.
func (l *Launcher) launch(ctx context.Context, c oci.Container, s oci.Streams, host oci.Host, cg cgroupParent, st *state) (oci.Exit, error) {
	host.UIDMap, host.GIDMap = mapsFor(host, c.User)
	config, weak, err := configFor(c, host)
	if err != nil {
		return oci.Exit{}, err
	}
	var own cgroupV1
	if cg.v1 != nil {
		own = newCgroupV1(cg.v1, c.ID, config)
	}
	container, err := libcontainer.Create(st.dir, c.ID, config)
	if err != nil {
		return oci.Exit{}, &oci.StartError{Step: "create", Err: err}
	}
	paths, err := cgroupPaths(container, own)
	if err == nil {
		err = st.record(c.ID, paths)
	}
	if err != nil {
		return oci.Exit{}, errors.Join(err, container.Destroy())
	}
	var filter []byte
	if !l.opts.Unfiltered {
		if filter, err = oci.Filter(); err != nil {
			return oci.Exit{}, errors.Join(err, container.Destroy())
		}
	}
	var nested oci.User
	if host.Nested {
		nested = c.User
	}
	r := run{nested: nested, filter: filter, container: container, command: c.Args[0], stateDir: filepath.Join(st.dir, c.ID), limits: host.Limits, weak: weak, cgroup: own, cgroups: paths}
	exit, err := r.run(ctx, c, s)
	exit.Limits = host.Limits
	if derr := errors.Join(container.Destroy(), own.remove()); derr != nil {
		l.opts.Logger.Error("cannot remove container; the next start will try again", "id", c.ID, "error", derr)
	} else {
		st.forget(c.ID)
	}
	return exit, err
}

// run is one container from its start to its end.
type run struct {
	container *libcontainer.Container
	command   string
	stateDir  string
	limits    oci.Enforcement
	weak      weakLimits
	filter    []byte
	nested    oci.User          // whom stage0 makes the command, in a user namespace of its own; zero if it does not
	cgroup    cgroupV1          // if we made it
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

	filter, err := filterPipe(r.filter)
	if err != nil {
		return oci.Exit{}, fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer filter.Close()
	rootfs, err := openRootfs(c.Rootfs)
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
		Args: stage0Args(len(s.Extra), r.weak, len(r.filter), r.nested, c.Args), Env: c.Env, Cwd: oci.Workspace,
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

	// The end of the lifeline ends the container in every phase, also while libcontainer still holds its lock; the
	// signal is for a stage0 that should not get to run.
	killed := make(chan struct{})
	started := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		// libcontainer does not wait for a child that dies before it has asked it for everything, and leaves a zombie. A
		// start takes some 20 ms; one that hangs is not waited for.
		select {
		case <-started:
		case <-time.After(maxStart):
		}
		holdLifeline.Close()
		_ = r.container.Signal(unix.SIGKILL)
	})
	defer func() {
		if !stop() {
			<-killed
		}
	}()

	err = r.cgroup.start(func() error { return r.container.Start(p) })
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
		// When init is through but for the exec, or died in it, libcontainer leaves it to us.
		_ = r.container.Signal(unix.SIGKILL)
		_, _ = p.Wait()
		if ctx.Err() != nil {
			return oci.Exit{}, context.Cause(ctx)
		}
		return oci.Exit{}, &oci.StartError{Step: stepStart, Err: err}
	}
	defer holdMounts(p).Close()
	stopWatch := r.watch(p)
	ps, werr := p.Wait()
	overLimit := stopWatch()
	exit, reported, err := readReport(statusPipe, r.command)
	if !reported {
		if ps == nil {
			return oci.Exit{}, fmt.Errorf("internal error: cannot wait for container: %w", werr)
		}
		if ps.Exited() && ctx.Err() == nil {
			// Neither killed nor through: init's last step failed, and it could only tell the container's stderr.
			return oci.Exit{}, &oci.StartError{
				Step: "exec", Err: fmt.Errorf("the container's init ended with exit code %d; are the arguments too long?", ps.ExitCode()),
			}
		}
		exit = oci.Exit{Code: 128 + int(unix.SIGKILL), Signal: unix.SIGKILL}
	}
	exit.OOM, exit.Limits = overLimit || oomKilled(r.cgroups), r.limits
	if err == nil && s.Exited != nil {
		s.Exited(exit)
	}
	return exit, err
}

// holdMounts keeps a container's mounts until what it returns is closed, which may be nil: unmounting takes milliseconds,
// and would be part of the end of its last process.
func holdMounts(p *libcontainer.Process) *os.File {
	pid, err := p.Pid()
	if err != nil {
		return nil
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return nil // as a user, who may not
	}
	return f
}

// maxStart is how long a cancel waits for a start that is under way.
const maxStart = 5 * time.Second

// oomKilled reads the kernel's own count.
func oomKilled(paths map[string]string) bool {
	for controller, file := range map[string]string{"memory": "memory.oom_control", "": "memory.events"} {
		dir, ok := paths[controller]
		if !ok {
			continue
		}
		b, err := readSmall(filepath.Join(dir, file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
				return f[1] != "0"
			}
		}
	}
	return false
}

// executable checks that the container's user may execute this program, which becomes its stage0. A sealed copy always
// may be.
func executable() error {
	if Shareable() {
		return nil
	}
	name, err := os.Executable()
	if err != nil {
		name = "mcp-bridge"
	}
	return &oci.HostError{
		Missing: name + " may not be executed by others, and a sandbox is another user",
		Fix:     "chmod o+x " + name,
	}
}

// Shareable says whether others may execute this program's file. If not, [Seal] is needed before a container starts.
func Shareable() bool {
	st, err := os.Stat("/proc/self/exe")
	return err == nil && st.Mode().Perm()&1 != 0
}

func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<16))
}
