//go:build linux && cgo

package direct

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/stage0"
)

// A Launcher runs containers by itself. It is safe for concurrent use.
type Launcher struct {
	*host.Host
	base base
}

// New makes a Launcher. It touches nothing; what is wrong with the host shows in Run.
func New(opts host.Options) *Launcher { return &Launcher{Host: host.New(opts, stage0.HoldArgs())} }

// Close removes what the Launcher keeps in the state directory. No Run may be going on.
func (l *Launcher) Close() error {
	l.base.close()
	return l.Host.Close()
}

// Run implements [oci.Launcher]. An error is an [*oci.StartError] or an [*oci.HostError] where the user can act on it.
func (l *Launcher) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	return l.Host.Run(ctx, c, func(o host.Offer) (oci.Exit, error) { return l.launch(ctx, c, s, o) })
}

// launch is one try of Run.
func (l *Launcher) launch(ctx context.Context, c oci.Container, s oci.Streams, o host.Offer) (oci.Exit, error) {
	spec, err := oci.Spec(c, o.Host)
	if err != nil {
		return oci.Exit{}, fmt.Errorf("internal error: %w", err)
	}
	cgroup := o.NewCgroup(spec.Linux.Resources)
	w := way{root: os.Geteuid() == 0, host: o.Host, user: c.User, filter: o.Filter}
	if dir, ok := cgroup.Paths()[""]; ok && !clone3() {
		w.enter = filepath.Join(dir, "cgroup.procs")
	}
	p, err := planFor(spec, w)
	if err != nil {
		return oci.Exit{}, err
	}
	r := run{offer: o, spec: spec, plan: p, cgroup: cgroup}
	if !w.root && !o.Nested {
		if r.base, err = l.base.open(ctx, l.Host, o.Host); err != nil {
			return oci.Exit{}, &oci.StartError{Step: host.StepStart, Err: err}
		}
	}
	if err := o.Record(cgroup.Paths()); err != nil {
		return oci.Exit{}, err
	}
	exit, err := r.run(ctx, c, s)
	o.Removed(cgroup.Remove())
	return exit, err
}

// run is one container from its start to its end.
type run struct {
	offer  host.Offer
	spec   *specs.Spec
	plan   *plan
	cgroup host.Cgroup
	base   *os.File // the user namespace below which this one's is, if it is not our own
}

func (r run) run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	d, err := openDescriptors(r.plan.text)
	if err != nil {
		return oci.Exit{}, err
	}
	defer d.close()
	if err := host.Give(s, r.spec.Linux.UIDMappings, r.spec.Linux.GIDMappings, c.User); err != nil {
		return oci.Exit{}, err
	}
	child, err := r.start(ctx, s, d)
	if err != nil {
		return oci.Exit{}, err
	}
	// The end of the lifeline ends the container too, should this process be killed.
	kill := func() { _ = child.Kill() }
	defer context.AfterFunc(ctx, kill)()
	defer host.HoldMounts(child.Pid).Close()
	verdict := r.offer.Watch(child.Pid, c, s, r.spec, r.cgroup.Paths(), kill)
	exit, reported, err := stage0.ReadReport(d.status, c.Args[0])
	verdict(&exit)
	if reported {
		if err = r.explain(err); err != nil {
			kill() // it may wait for what will not come
		} else if s.Exited != nil {
			s.Exited(exit)
		}
		_, _ = child.Wait()
		return exit, err
	}
	ps, err := child.Wait()
	switch {
	case err != nil:
		return oci.Exit{}, fmt.Errorf("internal error: cannot wait for container: %w", err)
	case ps.Exited():
		return oci.Exit{}, &oci.StartError{Step: host.StepStart, Err: fmt.Errorf("its first process ended with exit code %d and without a word", ps.ExitCode())}
	}
	if s.Exited != nil {
		s.Exited(exit)
	}
	return exit, nil
}

// start makes the container's first process.
func (r run) start(ctx context.Context, s oci.Streams, d *descriptors) (*os.Process, error) {
	bury := r.cgroup.Bury
	if r.cgroup.Paths() == nil {
		// What this thread has started is then what there is of the container.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		births := host.WatchBirths(ctx)
		defer births.Stop()
		bury = births.Bury
	}
	var maker *os.Process
	err := r.cgroup.Start(func(dir *os.File) error {
		var err error
		maker, err = d.start(s, dir, r.base)
		return err
	})
	d.closeChild()
	if err != nil {
		return nil, &oci.StartError{Step: host.StepStart, Err: err}
	}
	return r.first(ctx, d, maker, bury)
}

// first is the container's first process, which maker has made. bury ends those that are not known.
func (r run) first(ctx context.Context, d *descriptors, maker *os.Process, bury func()) (*os.Process, error) {
	stop := host.AtEnd(ctx, func() {
		_ = maker.Kill() // it may be stopped; the first process then says who it is
		_ = d.status.SetReadDeadline(time.Now().Add(lastWord))
	})
	pid, ok, err := stage0.ReadStarted(d.status)
	ps, werr := maker.Wait()
	stop()
	switch {
	case err != nil:
		return nil, r.explain(err)
	case !ok:
		bury() // the first process may be stopped as well
		return nil, &oci.StartError{Step: host.StepStart, Err: fmt.Errorf("stage0 ended without a word (%v, %v)", ps, werr)}
	}
	child, err := os.FindProcess(pid) // a child of ours, so the number stays its own until it is waited for
	if err != nil {
		return nil, fmt.Errorf("internal error: cannot find the container's first process: %w", err)
	}
	return child, nil
}

// lastWord is how long the first process may take to say who it is, when it is to be killed for that.
const lastWord = 200 * time.Millisecond

// explain says of a step that stage0 did not get through what it was about.
func (r run) explain(err error) error {
	var f *stage0.Failure
	if !errors.As(err, &f) {
		return err
	}
	what := r.plan.at(f.Nth)
	switch {
	case strings.Contains(what, "\n"):
		what = "" // maps of ids, which are nothing to read in an error
	case what != "":
		what = ": " + what
	}
	return &oci.StartError{Step: host.StepStart, Err: fmt.Errorf("cannot %s%s: %w", f.Step, what, f.Err)}
}

// clone3 says that a process can be born in a cgroup. A kernel before 5.7 cannot do that, and an outer container's filter
// may not let it: only then a descriptor that is none is not what is wrong with this.
var clone3 = sync.OnceValue(func() bool {
	args := struct{ flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64 }{
		flags: unix.CLONE_INTO_CGROUP, exitSignal: uint64(unix.SIGCHLD), cgroup: 1 << 30,
	}
	_, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	return errno == unix.EBADF
})

// start starts who makes the container, in the cgroup whose directory is dir if there is one.
func (d *descriptors) start(s oci.Streams, dir, base *os.File) (*os.Process, error) {
	// The host's /dev/null is good until stage0 has made another, and good enough for a base that nobody looks at.
	null := uintptr(d.null)
	files := []uintptr{null, null, null, uintptr(d.childLifeline), uintptr(d.childStatus), uintptr(d.plan), null}
	if base != nil {
		files[stage0.Base] = base.Fd()
	}
	pins := []*os.File{base}
	for i, f := range append([]*os.File{s.Stdin, s.Stdout, s.Stderr}, s.Extra...) {
		switch {
		case i < 3 && f != nil:
			files[i] = f.Fd()
		case i >= 3:
			files = append(files, f.Fd())
		}
		pins = append(pins, f)
	}
	attr := &syscall.ProcAttr{Env: []string{}, Files: files, Sys: &syscall.SysProcAttr{}}
	if dir != nil && clone3() {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
	}
	pid, err := syscall.ForkExec("/proc/self/exe", stage0.SetupArgs(len(s.Extra)), attr)
	runtime.KeepAlive(pins)
	if err != nil {
		return nil, fmt.Errorf("cannot start stage0 in the container's cgroup: %w", err)
	}
	maker, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("internal error: cannot find stage0: %w", err)
	}
	return maker, nil
}
