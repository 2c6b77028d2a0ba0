//go:build linux && cgo

package direct

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/stage0"
)

// A Launcher runs containers by itself. It is safe for concurrent use.
type Launcher struct{ *host.Host }

// New makes a Launcher. It touches nothing; what is wrong with the host shows in Run.
func New(opts Options) *Launcher { return &Launcher{host.New(opts)} }

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
	var filter []byte
	if !l.Unfiltered {
		if filter, err = oci.Filter(); err != nil {
			return oci.Exit{}, err
		}
	}
	cgroup := o.NewCgroup(spec.Linux.Resources)
	w := way{root: os.Geteuid() == 0, host: o.Host, user: c.User, filter: filter}
	if dir, ok := cgroup.Paths()[""]; ok && !clone3() {
		w.enter = filepath.Join(dir, "cgroup.procs")
	}
	p, err := planFor(spec, w)
	if err != nil {
		return oci.Exit{}, err
	}
	if err := o.Record(cgroup.Paths()); err != nil {
		return oci.Exit{}, err
	}
	r := run{offer: o, spec: spec, plan: p, cgroup: cgroup}
	exit, err := r.run(ctx, c, s)
	exit.Limits = o.Limits
	if err == nil && s.Exited != nil {
		s.Exited(exit)
	}
	o.Removed(cgroup.Remove())
	return exit, err
}

// run is one container from its start to its end.
type run struct {
	offer  host.Offer
	spec   *specs.Spec
	plan   *plan
	cgroup host.Cgroup
}

func (r run) run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	d, err := openDescriptors(r.plan.text)
	if err != nil {
		return oci.Exit{}, err
	}
	defer d.close()
	if err := r.give(s); err != nil {
		return oci.Exit{}, err
	}
	if err := r.cgroup.Start(func(dir *os.File) error { return d.start(s, dir) }); err != nil {
		return oci.Exit{}, &oci.StartError{Step: host.StepStart, Err: err}
	}
	child, err := r.first(d)
	if err != nil {
		return oci.Exit{}, err
	}
	// The end of the lifeline ends the container too, should this process be killed.
	stop := context.AfterFunc(ctx, func() { _ = child.Kill() })
	defer stop()
	var mapErr error
	if os.Geteuid() != 0 && !r.offer.Nested { // with the helpers
		if mapErr = mapIDs(ctx, child.Pid, r.offer.Host); mapErr == nil {
			_, mapErr = d.goOn.Write([]byte{1})
		}
	}
	d.goOn.Close()
	stopWatch := r.offer.Watch(child.Pid, c.Limits.Memory, oci.TmpfsMounts(r.spec), func() { _ = child.Kill() })
	ps, err := child.Wait()
	overLimit := stopWatch()
	exit, reported, reportErr := stage0.ReadReport(d.status, c.Args[0])
	switch {
	case err != nil:
		return oci.Exit{}, fmt.Errorf("internal error: cannot wait for container: %w", err)
	case reported:
	case ctx.Err() != nil && mapErr != nil:
		return oci.Exit{}, context.Cause(ctx)
	case mapErr != nil:
		return oci.Exit{}, &oci.StartError{Step: host.StepStart, Err: mapErr}
	case ps.Exited():
		return oci.Exit{}, &oci.StartError{Step: host.StepStart, Err: fmt.Errorf("its first process ended with exit code %d and without a word", ps.ExitCode())}
	default:
		exit = oci.Exit{Code: 128 + int(unix.SIGKILL), Signal: unix.SIGKILL}
	}
	exit.OOM = overLimit || host.OOMKilled(r.cgroup.Paths())
	return exit, r.explain(reportErr)
}

// first is the container's first process, which the one that was started has made.
func (r run) first(d *descriptors) (*os.Process, error) {
	pid, ok, err := stage0.ReadStarted(d.status)
	ps, werr := d.maker.Wait()
	switch {
	case err != nil:
		return nil, r.explain(err)
	case !ok:
		return nil, &oci.StartError{Step: host.StepStart, Err: fmt.Errorf("stage0 ended without a word: %v, %v", ps, werr)}
	}
	child, err := os.FindProcess(pid) // a child of ours, so the number stays its own until it is waited for
	if err != nil {
		return nil, fmt.Errorf("internal error: cannot find the container's first process: %w", err)
	}
	return child, nil
}

// explain says of a step that stage0 did not get through what it was about.
func (r run) explain(err error) error {
	var f *stage0.Failure
	if !errors.As(err, &f) {
		return err
	}
	what := r.plan.at(f.Nth)
	if what != "" {
		what = ": " + what
	}
	return &oci.StartError{Step: host.StepStart, Err: fmt.Errorf("cannot %s%s: %w", f.Step, what, f.Err)}
}

// give makes the guest the owner of its pipes, so that it can open them by name (/dev/stdout). Where this process is not
// root stage0 can do it, as the pipes' owner is root there.
func (r run) give(s oci.Streams) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid := hostID(r.spec.Linux.UIDMappings, r.spec.Process.User.UID), hostID(r.spec.Linux.GIDMappings, r.spec.Process.User.GID)
	for _, f := range append([]*os.File{s.Stdin, s.Stdout, s.Stderr}, s.Extra...) {
		if f == nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			return fmt.Errorf("internal error: a stream is no pipe: %w", err)
		}
		if err := unix.Fchown(int(f.Fd()), uid, gid); err != nil {
			return fmt.Errorf("cannot give a pipe to the container: %w", err)
		}
	}
	return nil
}

func hostID(maps []specs.LinuxIDMapping, id uint32) int {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int(m.HostID + id - m.ContainerID)
		}
	}
	return -1
}

// descriptors are those of stage0 that are not the guest's.
type descriptors struct {
	lifeline, status, goOn          *os.File // ours
	childLifeline, childStatus, nod *os.File
	plan, null                      *os.File
	maker                           *os.Process // who makes the container
}

func openDescriptors(plan []byte) (d *descriptors, err error) {
	d = &descriptors{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	for _, p := range []struct{ r, w **os.File }{{&d.childLifeline, &d.lifeline}, {&d.status, &d.childStatus}, {&d.nod, &d.goOn}} {
		if *p.r, *p.w, err = os.Pipe(); err != nil {
			return d, fmt.Errorf("cannot make a pipe: %w", err)
		}
	}
	fd, err := unix.MemfdCreate("mcp-bridge-plan", unix.MFD_CLOEXEC)
	if err != nil {
		return d, fmt.Errorf("cannot make a memfd: %w", err)
	}
	d.plan = os.NewFile(uintptr(fd), "plan")
	if _, err := d.plan.Write(plan); err != nil {
		return d, fmt.Errorf("cannot write to a memfd: %w", err)
	}
	if d.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return d, err
	}
	return d, nil
}

func (d *descriptors) closeChild() {
	for _, f := range []*os.File{d.childLifeline, d.childStatus, d.nod, d.plan, d.null} {
		if f != nil {
			f.Close()
		}
	}
}

func (d *descriptors) close() {
	d.closeChild()
	for _, f := range []*os.File{d.lifeline, d.status, d.goOn} {
		if f != nil {
			f.Close()
		}
	}
}

// clone3 says that a process can be born in a cgroup. A kernel before 5.7 cannot do that, and an outer container's filter
// may not have it.
var clone3 = sync.OnceValue(func() bool {
	_, _, errno := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0)
	return errno == unix.EINVAL
})

// start starts who makes the container, in the cgroup whose directory is dir if there is one.
func (d *descriptors) start(s oci.Streams, dir *os.File) (err error) {
	files := []*os.File{s.Stdin, s.Stdout, s.Stderr, d.childLifeline, d.childStatus, d.plan, d.nod}
	for i := range 3 {
		if files[i] == nil {
			files[i] = d.null // of the host, until stage0 has made another
		}
	}
	attr := &os.ProcAttr{Env: []string{}, Files: append(files, s.Extra...), Sys: &syscall.SysProcAttr{}}
	if dir != nil && clone3() {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
	}
	d.maker, err = os.StartProcess("/proc/self/exe", stage0.SetupArgs(len(s.Extra)), attr)
	d.closeChild()
	if err != nil {
		return fmt.Errorf("cannot start stage0 in the container's cgroup: %w", err)
	}
	return nil
}
