package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/seccomp"
)

// A contestant has its turns.
type contestant struct {
	name, note string
	// run does the thing once. Workers do so at the same time; what must not be shared has the worker's number.
	run func(ctx context.Context, worker int) error
	// after, if not nil, ends what run has left, when the clock has stopped.
	after func() error
	// uncounted says that the CPU time of a run cannot be told from that of after.
	uncounted bool
}

// The limits that all run within.
var limits = oci.Limits{Memory: 512 << 20, Pids: 128}

// workers is how many runs there are at once when throughput is measured.
func workers() int { return min(max(runtime.NumCPU(), 2), 4) }

// coldContestants run `python3 -I -S -c pass`.
func (b *bench) coldContestants() ([]contestant, error) {
	command := []string{b.Python, "-I", "-S", "-c", "pass"}
	all := []contestant{{name: bareName, run: func(ctx context.Context, _ int) error { return b.program(ctx, b.bare(command)) }}}
	for _, l := range b.Launchers {
		all = append(all, contestant{name: ours + ", " + l.Name, note: l.Note, run: func(ctx context.Context, _ int) error {
			exit, err := l.Launcher.Run(ctx, b.container(command), oci.Streams{})
			if err == nil && exit.Code != 0 {
				err = fmt.Errorf("exit code %d", exit.Code)
			}
			return err
		}})
	}
	for _, r := range []struct {
		program, name, note string
		filter              bool
	}{
		{"crun", crunName, "the same specification, the same system calls allowed", true},
		{"crun", "crun run, unfiltered", "no system call filter", false},
		{"runc", "runc run", "the same specification, the same system calls allowed", true},
	} {
		run, err := b.runtime(r.program, r.filter, command)
		if err != nil {
			return nil, err
		}
		all = append(all, contestant{name: r.name, note: r.note, run: run})
	}
	return append(all,
		contestant{name: "bwrap", note: "the same filter; no cgroup: no limit of memory, processes or CPU", run: func(ctx context.Context, _ int) error {
			return b.bwrap(ctx, command)
		}, after: b.afterDaemons},
		contestant{name: podmanName, note: "the same filter and limits; no user namespace as root", run: b.podmanRun(command), after: b.afterDaemons},
	), nil
}

// processContestants print 1, from the start of a program to its end.
func (b *bench) processContestants() ([]contestant, error) {
	command := []string{b.Python, "-I", "-S", "-c", "print(1)"}
	var all []contestant
	for _, l := range b.programs() {
		all = append(all, contestant{name: ours + " run, " + l.Name, note: notes("all that a run_python has, too", l.Note), run: func(ctx context.Context, _ int) error {
			cmd := exec.Command(b.Program, "run", "-c", "print(1)")
			cmd.Env = b.env(l, "state-run")
			return b.program(ctx, cmd)
		}})
	}
	for _, filter := range []bool{true, false} {
		run, err := b.runtime("crun", filter, command)
		if err != nil {
			return nil, err
		}
		c := contestant{name: crunName, run: run}
		if !filter {
			c.name, c.note = crunName+", unfiltered", "no system call filter"
		}
		all = append(all, c)
	}
	all = append(all, contestant{name: podmanName, run: b.podmanRun(command), after: b.afterDaemons})
	for _, l := range b.programs() {
		var c *client
		all = append(all, contestant{
			name: ours + ", " + l.Name + ", to its answer to initialize", note: notes("no run", l.Note), uncounted: true,
			run: func(ctx context.Context, _ int) (err error) {
				c, err = connect(ctx, b.server(l))
				return err
			},
			after: func() error { return c.close() },
		})
	}
	return all, nil
}

// notes joins those that there are.
func notes(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), "; ")
}

// programs are the launchers that the program can be told to use.
func (b *bench) programs() []Launcher {
	var out []Launcher
	for _, l := range b.Launchers {
		if l.Runtime != "" {
			out = append(out, l)
		}
	}
	return out
}

// server is mcp-bridge as an MCP server, with a state directory of its own.
func (b *bench) server(l Launcher, more ...string) *exec.Cmd {
	cmd := exec.Command(b.Program) // ended by client.close
	cmd.Env = append(b.env(l, fmt.Sprintf("state-%d", b.count.Add(1))), more...)
	return cmd
}

// env is what mcp-bridge is started with: nothing of the user's configuration, but for the word that limits may be weak.
func (b *bench) env(l Launcher, state string) []string {
	env := append(
		b.environ(), "HOME="+b.Dir, config.EnvRuntime+"="+l.Runtime, config.EnvImage+"="+b.Image, config.EnvCacheDir+"="+b.Cache,
		config.EnvStateDir+"="+filepath.Join(b.Dir, state), config.EnvLogLevel+"=error", config.EnvAllowSelfServer+"=1",
	)
	if weak := os.Getenv(config.EnvAllowWeakLimits); weak != "" {
		env = append(env, config.EnvAllowWeakLimits+"="+weak)
	}
	return env
}

// environ is what every program gets. It is without GOMAXPROCS, which libcontainer has set for its own init and which
// would slow down, or speed up, those that are made with Go.
func (b *bench) environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if name != "GOMAXPROCS" && name != programVariable && !strings.HasPrefix(name, "MCP_") && !strings.HasPrefix(name, "XDG_CONFIG") && !strings.HasPrefix(name, "_LIBCONTAINER_") {
			env = append(env, kv)
		}
	}
	return env
}

func (b *bench) container(command []string) oci.Container {
	return oci.Container{
		ID: fmt.Sprintf("bench-%d-%d", os.Getpid(), b.count.Add(1)), Rootfs: b.Tree, Args: command,
		Env:  []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + oci.Workspace},
		User: oci.User{UID: 65534, GID: 65534}, Limits: limits,
	}
}

// bare is a program of the tree without a sandbox. A user needs a user namespace for the chroot.
func (b *bench) bare(command []string) *exec.Cmd {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: b.Tree}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
		one := func(id int) []syscall.SysProcIDMap {
			return []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
		}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = one(os.Geteuid()), one(os.Getegid())
	}
	return cmd
}

// program runs a program to its end, also when ctx ends meanwhile: a run of milliseconds soon ends by itself.
func (b *bench) program(ctx context.Context, cmd *exec.Cmd) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	isolate(cmd)
	if cmd.Env == nil {
		cmd.Env = b.environ()
	}
	// A pipe: crun 1.8 gives its standard input to the container's user, and /dev/null is everybody's.
	cmd.Stdin = strings.NewReader("")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return err
	}
	kill := time.AfterFunc(runTimeout, func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	err := cmd.Wait()
	if !kill.Stop() {
		return fmt.Errorf("it hung: %s", &output)
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(output.Bytes()))
	}
	return nil
}

// A runtimeRoot is the state directory of crun or runc.
type runtimeRoot struct{ program, dir string }

// runtime runs a command by an OCI runtime, from the specification that our own launchers have. Each worker has a bundle
// of its own, for its cgroup.
func (b *bench) runtime(program string, filter bool, command []string) (func(ctx context.Context, worker int) error, error) {
	id := fmt.Sprintf("mcp-bridge-bench-%d-%d", os.Getpid(), b.count.Add(1))
	root := runtimeRoot{program, filepath.Join(b.Dir, id)}
	bundles := make([]string, workers())
	for w := range bundles {
		bundles[w] = filepath.Join(b.Dir, fmt.Sprintf("bundle-%s-%d", id, w))
		if err := b.writeBundle(bundles[w], fmt.Sprintf("/%s-%d-", id, w), filter, command); err != nil {
			return nil, err
		}
	}
	b.roots = append(b.roots, root)
	return func(ctx context.Context, worker int) error {
		return b.program(ctx, exec.Command(program, "--root", root.dir, "run", "--bundle", bundles[worker], fmt.Sprintf("%s-%d", id, worker)))
	}, nil
}

func (b *bench) writeBundle(dir, cgroup string, filter bool, command []string) error {
	ids := []oci.IDMap{{Container: 0, Host: 500_000, Size: 65_536}} // nobody's, as those of our own launchers
	c := b.container(command)
	c.ID = "x"
	spec, err := oci.Spec(c, oci.Host{UIDMap: ids, GIDMap: ids, Limits: oci.ByCgroup, Cgroup: cgroup})
	if err != nil {
		return err
	}
	spec.Version = "1.0.2"  // nothing in it is newer, and Debian 12's crun refuses what it does not know
	spec.Linux.Sysctl = nil // crun and runc 1.1 refuse user.*; that is one write less for them
	if filter {
		if spec.Linux.Seccomp, err = seccomp.Profile(runtime.GOARCH); err != nil {
			return err
		}
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("cannot write a specification: %v", err)
	}
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644)
}

// bwrap takes the compiled filter from a descriptor, and reads it to its end.
func (b *bench) bwrap(ctx context.Context, command []string) error {
	filter, err := os.Open(b.filter)
	if err != nil {
		return err
	}
	defer filter.Close()
	args := []string{
		"--unshare-all", "--die-with-parent", "--ro-bind", b.Tree, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", oci.Workspace,
		"--uid", "65534", "--gid", "65534", "--cap-drop", "ALL", "--clearenv", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin", "--setenv", "HOME", oci.Workspace,
		"--chdir", oci.Workspace, "--seccomp", "3",
	}
	cmd := exec.Command("bwrap", append(args, command...)...)
	cmd.ExtraFiles = []*os.File{filter}
	return b.program(ctx, cmd)
}

// podman has its storage where it finds nothing of anybody's.
func (b *bench) podman(args ...string) []string {
	return append([]string{
		"podman", "--root", filepath.Join(b.Dir, "podman"), "--runroot", filepath.Join(b.Dir, "podman-run"), "--cgroup-manager", "cgroupfs", "--log-level", "error",
	}, args...)
}

// podmanRun is podman with the limits and restrictions of the others. The ulimits are its own, where it may not raise them.
func (b *bench) podmanRun(command []string) func(ctx context.Context, worker int) error {
	argv := append(b.podman(
		"run", "--rm", "--log-driver", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--network", "none", "--read-only",
		"--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--security-opt", "seccomp="+b.profile, "--memory", "512m", "--pids-limit", "128",
		"--user", "65534:65534", "--tmpfs", oci.Workspace, "--rootfs", b.Tree,
	), command...)
	return func(ctx context.Context, _ int) error {
		return b.program(ctx, exec.Command(argv[0], argv[1:]...))
	}
}

// afterDaemons waits for conmon, and for the podman that it starts to clean up; and for the first process of a container
// of bwrap, which bwrap does not wait for.
func (b *bench) afterDaemons() error {
	b.daemons(false)
	return nil
}

// writeFilters writes the filter in the forms that bwrap and podman read.
func (b *bench) writeFilters() error {
	b.filter, b.profile = filepath.Join(b.Dir, "filter.bpf"), filepath.Join(b.Dir, "filter.json")
	filter, err := oci.Filter()
	if err != nil {
		return err
	}
	profile, err := seccomp.Profile(runtime.GOARCH)
	if err != nil {
		return err
	}
	text, err := json.Marshal(profile)
	return errors.Join(err, os.WriteFile(b.filter, filter, 0o644), os.WriteFile(b.profile, text, 0o644))
}
