//go:build linux && cgo

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/stage0"
)

// run is one container from its start to its end.
type run struct {
	runtime *Runtime
	program program
	setting setting
	offer   host.Offer
	spec    *specs.Spec
	dir     string // of the bundle and of the runtime's state
	cgroup  host.Cgroup
	born    bool // the cgroup is ours to make, and the runtime is born in it
}

func (x *run) pidFile() string { return filepath.Join(x.dir, "pid") }

func (x *run) bundle() error {
	b, err := json.Marshal(x.spec)
	if err != nil {
		return fmt.Errorf("internal error: cannot encode the OCI specification: %w", err)
	}
	// The container's root, which is another user, has to find the runtime's fifo in it.
	if err = os.Mkdir(x.dir, 0o711); err == nil {
		err = os.WriteFile(filepath.Join(x.dir, "config.json"), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot write the bundle: %w", err)
	}
	return nil
}

// remove removes all that there is of the container.
func (x *run) remove(ctx context.Context, id string) error {
	// What it keeps is in x.dir, and what ran has ended with the lifeline or ends with the cgroup: it is asked for the sake of
	// runtimes that have more, and after a cancellation too. If somebody has removed x.dir, it would make another.
	if _, err := os.Stat(x.dir); errors.Is(err, os.ErrNotExist) {
		return x.cgroup.Destroy()
	}
	t, err := newTranscript()
	if err == nil {
		defer t.end()
		cmd := x.program.command(x.program.remove(x.setting, id), t.w)
		if err = runProgram(context.WithoutCancel(ctx), min(x.runtime.patience, maxRemove), cmd, x.start); err != nil {
			err = said(err, t.end())
		}
	}
	if err != nil {
		x.runtime.Logger.Debug("the runtime does not delete a container", "runtime", x.program.String(), "error", err)
	}
	return errors.Join(x.cgroup.Destroy(), os.RemoveAll(x.dir))
}

// maxRemove bounds what Run does for a runtime after its end.
const maxRemove = 5 * time.Second

// start starts a command, as the runtime is to find this host.
func (x *run) start(cmd *exec.Cmd) error {
	if os.Geteuid() != 0 {
		return cmd.Start()
	}
	return host.OnThread(func() error { return x.startHere(cmd) })
}

// startHere starts a command in a mount namespace of its own, from a thread that is ours alone. What it mounts on the
// way, and leaves if it is killed, is nobody else's then.
func (x *run) startHere(cmd *exec.Cmd) error {
	err := unix.Unshare(unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err != nil {
		return fmt.Errorf("cannot unshare the mount namespace (mounting): %w", err)
	}
	if x.program.kind == "crun" && x.offer.CgroupV1() {
		// crun refuses to work where a cgroup v2 tree is beside those of v1. It has no use for either here.
		_ = unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH)
	}
	host.CoverRootfs(x.spec.Root.Path)
	return cmd.Start()
}

func (x *run) run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	rootfs, err := host.OpenRootfs(c.Rootfs) // for an error of our own
	if err != nil {
		return oci.Exit{}, err
	}
	rootfs.Close()
	if err := host.Give(s, x.spec.Linux.UIDMappings, x.spec.Linux.GIDMappings, c.User); err != nil {
		return oci.Exit{}, err
	}
	d, err := openDescriptors(x.offer.Filter, s)
	if err != nil {
		return oci.Exit{}, err
	}
	defer d.close()
	pid, err := x.begin(ctx, c, d)
	defer d.wait()
	if err != nil {
		return oci.Exit{}, err
	}
	defer host.AtEnd(ctx, d.end)()
	defer host.HoldMounts(pid).Close()
	verdict := x.offer.Watch(pid, c, s, x.spec, x.cgroup.Paths(), d.kill)
	exit, _, err := stage0.ReadReport(d.status, c.Args[0])
	verdict(&exit)
	if err == nil && s.Exited != nil {
		s.Exited(exit)
	}
	return exit, err
}

// begin has the runtime start stage0, and returns when that runs the command.
func (x *run) begin(ctx context.Context, c oci.Container, d *descriptors) (pid int, err error) {
	var tasks []string
	if x.born {
		if tasks, err = x.cgroup.MakeV1(); err != nil {
			return 0, &oci.StartError{Step: host.StepStart, Err: err}
		}
	}
	cmd := x.program.command(x.program.run(x.setting, x.dir, x.pidFile(), c.ID, len(d.files)), d.words.w, d.files...)
	cmd.Path, cmd.Args = "/proc/self/exe", stage0.KeepArgs(tasks, cmd.Args)
	if err := x.start(cmd); err != nil {
		return 0, &oci.StartError{Step: host.StepStart, Err: err}
	}
	d.keeper = cmd
	d.closeChild()

	deadline := time.Now().Add(x.runtime.patience)
	_ = d.status.SetReadDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = d.status.SetReadDeadline(time.Unix(1, 0)) })
	ws, ended, running, err := stage0.ReadRuntime(d.status)
	stop()
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case err != nil:
	case !ended && time.Now().Before(deadline):
		err = errors.New("the process that was to start it has ended without a word") // for want of descriptors, say
	case !ended:
		err = errHangs
	case ws.Signaled():
		err = fmt.Errorf("it was ended by signal %d (%v)", int(ws.Signal()), ws.Signal())
	case ws != 0:
		err = fmt.Errorf("exit status %d", ws.ExitStatus())
	case !running:
		err = errors.New("it said that it had started the container's first process, which is not there; are the arguments too long?")
	default:
		pid, err = firstProcess(x.pidFile())
	}
	_ = d.status.SetReadDeadline(time.Time{})
	if err == nil {
		// That it takes this shows that it lives, and so that its number is its own.
		if _, err = d.lifeline.Write([]byte{1}); err == nil {
			return pid, nil
		}
	}
	d.kill()
	return 0, x.failed(err, d.words.end())
}

// failed is the error of a start, in the words of a runtime that cannot be trusted to have any.
func (x *run) failed(err error, text string) error {
	err = fmt.Errorf("%s: %w", x.program, said(err, text))
	if host.Passing(err) {
		return &oci.StartError{Step: host.StepStart, Err: err}
	}
	if strings.Contains(text, "hybrid mode") {
		// Root has a mount namespace where it is none.
		return &oci.HostError{
			Missing: fmt.Sprintf("cannot start container: %v", err),
			Fix:     "start Linux with cgroup v2 only (systemd.unified_cgroup_hierarchy=1), set MCP_BRIDGE_RUNTIME=runc, or unset it",
		}
	}
	if errors.Is(err, errHangs) {
		return &oci.HostError{
			Missing: fmt.Sprintf("cannot start container: %v (within %v)", err, x.runtime.patience),
			Fix:     "see whether it runs by itself, or unset MCP_BRIDGE_RUNTIME",
		}
	}
	if oldest, old := x.program.old(); old {
		return &oci.HostError{
			Missing: fmt.Sprintf("cannot start container: %v", err),
			Fix:     fmt.Sprintf("install %s %s or later, or unset MCP_BRIDGE_RUNTIME", x.program.kind, oldest),
		}
	}
	return &oci.StartError{Step: host.StepStart, Err: err}
}

// descriptors are the ends of pipes that a run has.
type descriptors struct {
	lifeline, status *os.File // ours
	words            *transcript
	keeper           *exec.Cmd  // once it has started
	files            []*os.File // the first process's, from 3 on
	child            []*os.File // those of files that are ours to close
}

func openDescriptors(filter []byte, s oci.Streams) (d *descriptors, err error) {
	d = &descriptors{}
	defer func() {
		if err != nil {
			d.closeChild()
			d.close()
			d = nil
		}
	}()
	lifeline, holdLifeline, err := os.Pipe()
	if err != nil {
		return d, fmt.Errorf("cannot make a pipe: %w", err)
	}
	d.lifeline, d.child = holdLifeline, append(d.child, lifeline)
	status, reportStatus, err := os.Pipe()
	if err != nil {
		return d, fmt.Errorf("cannot make a pipe: %w", err)
	}
	d.status, d.child = status, append(d.child, reportStatus)
	filterPipe, err := stage0.FilterPipe(filter)
	if err != nil {
		return d, fmt.Errorf("cannot make a pipe: %w", err)
	}
	d.child = append(d.child, filterPipe)
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		return d, fmt.Errorf("cannot open own program: %w", err)
	}
	d.child = append(d.child, program)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return d, err
	}
	d.child = append(d.child, null)
	d.files = append(d.files, lifeline, reportStatus, filterPipe, program) // stage0.Lifeline to stage0.Program
	for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if f == nil {
			f = null // stage0 takes the container's own instead
		}
		d.files = append(d.files, f)
	}
	d.files = append(d.files, s.Extra...)
	if d.words, err = newTranscript(); err != nil {
		return d, err
	}
	d.child = append(d.child, d.words.w)
	return d, nil
}

func (d *descriptors) closeChild() {
	for _, f := range d.child {
		f.Close()
	}
	d.child = nil
}

// kill ends the lifeline, and with it all that the runtime has started.
func (d *descriptors) kill() { d.lifeline.Close() }

// end ends the lifeline, and kills who has not ended by it: the keeper may be stopped, or whom it waits for.
func (d *descriptors) end() {
	d.kill()
	ended := make(chan struct{})
	go func() { defer close(ended); host.WaitExit(d.keeper.Process.Pid) }()
	patience := time.NewTimer(keeperPatience)
	defer patience.Stop()
	for round := 0; ; round++ {
		select {
		case <-ended:
			return
		case <-patience.C:
		}
		host.KillBelow(d.keeper.Process.Pid)
		// As long as it is there, it buries what the others leave; nobody else may do that.
		_ = d.keeper.Process.Signal(unix.SIGCONT)
		if round > 20 {
			_ = d.keeper.Process.Kill()
		}
		patience.Reset(keeperPatience / 20)
	}
}

// keeperPatience is how long a keeper may take to kill what it keeps.
const keeperPatience = time.Second

// wait waits until all is gone.
func (d *descriptors) wait() {
	if d.keeper == nil {
		d.kill()
		return
	}
	d.end()
	_ = d.keeper.Wait() // how it ends says nothing
}

func (d *descriptors) close() {
	for _, f := range []*os.File{d.lifeline, d.status} {
		if f != nil {
			f.Close()
		}
	}
	if d.words != nil {
		d.words.end()
	}
}
