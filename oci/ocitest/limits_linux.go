//go:build linux

package ocitest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// eat takes memory until it is refused, or killed.
const eat = `
kept = []
try:
    while True:
        kept.append(b'x' * (8 << 20))
        if len(kept) > 128:
            print('a GiB')
            break
except MemoryError:
    n = len(kept)
    kept.clear()
    print('refused')
`

func (suite Suite) MemoryLimit(t *testing.T) {
	suite.excepted(t)
	c := python(eat)
	c.Limits.Memory = 64 << 20
	o := run(t, t.Context(), suite.launcher(t), c, "")
	switch {
	case o.Limits == oci.ByCgroup:
		if o.err != nil || !o.OOM || o.Starved || o.Signal != syscall.SIGKILL || o.Code != 137 || o.stdout != "" {
			t.Errorf("%v\nwant OOM by its own limit, SIGKILL and code 137", o)
		}
	case o.Limits == oci.ByRlimits:
		// The watchdog's kill, or a MemoryError at four times the limit if it came late.
		killed := o.OOM && o.Signal == syscall.SIGKILL && o.Code == 137 && o.stdout == ""
		if o.err != nil || !killed && (o.Code != 0 || o.stdout != "refused\n") {
			t.Errorf("%v\nwant OOM, SIGKILL and code 137", o)
		}
	default:
		t.Errorf("nothing enforces limits: %v", o)
	}
}

// MemoryIsOfTheWholeContainer: no process is over the limit, and none of these is a process's own; whatever
// enforces the limit has to see their sum. The script would wait for ever.
func (suite Suite) MemoryIsOfTheWholeContainer(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	for name, code := range map[string]string{
		"processes": "import os\nfor i in range(4):\n    if os.fork() == 0:\n        kept = b'x' * (30 << 20)\n        sys.stdin.read()\nos.wait()\nos._exit(0)  # before cgroup v2 the kernel ends one of them only\n",
		// The tmpfs mounts are memory, and a container cannot have both in full.
		"files":         "f = open('/workspace/f', 'wb', 0)\nfor i in range(100): f.write(b'x' * (1 << 20))\n",
		"shared memory": "import mmap\nfor i in range(4):\n    m = mmap.mmap(-1, 30 << 20)\n    m.write(b'x' * len(m))\n    globals()[f'm{i}'] = m\n",
	} {
		t.Run(name, func(t *testing.T) {
			inR, inW := pipe(t)
			defer closeAll(inR, inW)
			c := python("import sys\n" + code + "sys.stdin.read()")
			c.Limits.Memory = 64 << 20
			if o := runWithStdin(t, l, c, inR); o.err != nil || !o.OOM || o.Starved || o.Signal != syscall.SIGKILL && name != "processes" {
				t.Errorf("%v\nwant OOM", o)
			}
		})
	}
}

// SharedMemoryCountsOnce: what children share with their parent is there once, however long they have it.
func (suite Suite) SharedMemoryCountsOnce(t *testing.T) {
	suite.excepted(t)
	c := python(`
import os, sys, time
kept = bytearray(40 << 20)
for i in range(4):
    if os.fork() == 0:
        time.sleep(0.3)  # for a watchdog to look some times
        os._exit(0)
for i in range(4): os.wait()
print('done')`)
	c.Limits.Memory = 96 << 20
	if o := run(t, t.Context(), suite.launcher(t), c, ""); o.err != nil || o.OOM || o.stdout != "done\n" {
		t.Errorf("%v", o)
	}
}

// ChildOutOfMemory: on cgroup v2 all processes go with the one that was over the limit. Before, a child may be killed
// and its parent not, and both are told.
func (suite Suite) ChildOutOfMemory(t *testing.T) {
	suite.excepted(t)
	c := python("import os\npid = os.fork()\nif pid == 0:\n    " + strings.ReplaceAll(eat, "\n", "\n    ") +
		"\n    os._exit(0)\nprint(os.waitpid(pid, 0)[1])")
	c.Limits.Memory = 64 << 20
	o := run(t, t.Context(), suite.launcher(t), c, "")
	if o.Limits != oci.ByCgroup {
		t.Skip("only a cgroup has an OOM killer of its own")
	}
	if cgroups.IsCgroup2UnifiedMode() && o.Signal != syscall.SIGKILL {
		t.Errorf("%v\nwant nothing of it to live on", o)
	}
	if o.err != nil || !o.OOM || o.Starved || !(o.Code == 0 && o.stdout == "9\n" || o.Signal == syscall.SIGKILL) {
		t.Errorf("%v\nwant OOM, and a child that was killed", o)
	}
}

const forkUntilRefused = `
import os, errno, sys, time
n = 0
try:
    while n < 400:
        if os.fork() == 0:
            sys.stdin.read()
            os._exit(0)
        n += 1
except OSError as e:
    print(errno.errorcode[e.errno], n)
`

func (suite HostSuite) PidsLimit(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	c := python(forkUntilRefused + "os.kill(-1, 9)\n") // all but itself and pid 1
	c.Limits.Pids = 20
	inR, inW := pipe(t)
	defer inW.Close() // the children wait for it
	o := runWithStdin(t, l, c, inR)
	inR.Close()
	// stage0 and the command are two of them. With rlimits the thread that makes the namespaces may count too.
	fields := strings.Fields(o.stdout)
	if o.err != nil || len(fields) != 2 || fields[0] != "EAGAIN" {
		t.Fatalf("%v\nwant EAGAIN", o)
	}
	most := 18
	if nested() {
		most = 19 // stage0 is in another namespace than the one that is counted
	}
	least := 10
	if o.Limits == oci.ByCgroup {
		most, least = 18, 17 // what the runtime has started by may not be reaped yet
	}
	if n, _ := strconv.Atoi(fields[1]); n > most || n < least {
		t.Errorf("%d children at a limit of 20 tasks (%s)", n, o.Limits)
	}
}

func (suite Suite) ForkBomb(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	c := python("import os\npid = os.getpid()\nwhile True:\n    try: os.fork()\n    except OSError:\n        if os.getpid() == pid: os._exit(7)\n")
	c.Limits.Pids = 64
	if o := run(t, t.Context(), l, c, ""); o.err != nil || o.Code != 7 {
		t.Errorf("%v\nwant code 7", o)
	}
}

func runWithStdin(t *testing.T, l oci.Launcher, c oci.Container, stdin *os.File) outcome {
	t.Helper()
	outR, outW := pipe(t)
	defer outR.Close()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("the test's patience is at its end"))
	defer cancel()
	exit, err := l.Run(ctx, c, oci.Streams{Stdin: stdin, Stdout: outW})
	outW.Close()
	b, _ := io.ReadAll(outR)
	return outcome{Exit: exit, err: err, stdout: string(b)}
}

// Cgroup looks at a running container from outside: the limits are the kernel's, and its own directory has them.
func (suite HostSuite) Cgroup(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	c := python(untilEOF)
	c.Limits = oci.Limits{Memory: 100 << 20, Pids: 33, CPUs: 0.5}
	s := background(t, t.Context(), l, c)
	dirs := cgroupsNamed(t, "mcp-bridge-"+c.ID)
	if os.Geteuid() != 0 && len(dirs) == 0 {
		t.Skip("no cgroup for this user")
	}
	read := func(names ...string) string {
		for _, d := range dirs {
			for _, n := range names {
				if b, err := os.ReadFile(filepath.Join(d, n)); err == nil {
					return strings.TrimSpace(string(b))
				}
			}
		}
		return "no " + strings.Join(names, " or ")
	}
	for _, tt := range []struct{ v1, v2, want1, want2 string }{
		{"memory.limit_in_bytes", "memory.max", "104857600", "104857600"},
		{"pids.max", "pids.max", "33", "33"},
		{"cpu.cfs_quota_us", "cpu.max", "50000", "50000 100000"},
	} {
		if got := read(tt.v1, tt.v2); got != tt.want1 && got != tt.want2 {
			t.Errorf("%s or %s is %q, want %q or %q (cgroups %v)", tt.v1, tt.v2, got, tt.want1, tt.want2, dirs)
		}
	}
	if got := read("memory.memsw.limit_in_bytes"); got != "104857600" && !strings.HasPrefix(got, "no ") {
		t.Errorf("memory and swap together are %s, want no swap", got)
	}
	if n := len(processesIn(t, c.ID)); n != 2 {
		t.Errorf("%d processes in the cgroup, want stage0 and the command", n)
	}
	s.release.Close()
	if o := s.wait(t); o.err != nil || o.Code != 0 || o.Limits != oci.ByCgroup {
		t.Errorf("%v", o)
	}
	if left := cgroupsNamed(t, c.ID); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
	if cgroups.IsCgroup2UnifiedMode() {
		lost(t, l)
	}
}

// lost: a limit that is taken away while a container runs is not said to have been enforced.
func lost(t *testing.T, l oci.Launcher) {
	t.Helper()
	for controller, limits := range map[string]oci.Limits{"memory": {Memory: 100 << 20}, "pids": {Pids: 33}, "cpu": {CPUs: 0.5}} {
		c := python(untilEOF)
		c.Limits = limits
		s := background(t, t.Context(), l, c)
		above := filepath.Join(filepath.Dir(cgroupsNamed(t, "mcp-bridge-"+c.ID)[0]), "cgroup.subtree_control")
		if err := os.WriteFile(above, []byte("-"+controller), 0); err != nil {
			t.Fatal(err)
		}
		s.release.Close()
		if o := s.wait(t); o.err != nil || o.Code != 0 || o.Limits != oci.Lost {
			t.Errorf("without %s: %v, want lost limits", controller, o)
		}
		if err := os.WriteFile(above, []byte("+"+controller), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// NoLimits: none were asked for, which no host refuses.
func (suite Suite) NoLimits(t *testing.T) {
	suite.excepted(t)
	c := python("print(1)")
	c.Limits = oci.Limits{}
	if o := run(t, t.Context(), suite.launcher(t), c, ""); o.err != nil || o.stdout != "1\n" {
		t.Errorf("%v", o)
	}
}

// OtherUser: the user may be any that the host can map; for a user with single ids the map follows.
func (suite Suite) OtherUser(t *testing.T) {
	suite.excepted(t)
	l := suite.launcher(t)
	c := python("import os; print(os.getuid(), os.getgid()); open('/tmp/x', 'w'); open('/workspace/x', 'w')")
	c.User = oci.User{UID: 1234, GID: 4321}
	if o := run(t, t.Context(), l, c, ""); o.err != nil || o.Code != 0 || o.stdout != "1234 4321\n" {
		t.Errorf("%v", o)
	}
}

// WeakLimitsMustBeAllowed: a host that cannot enforce limits says so, with what to do, instead of running without.
func (suite HostSuite) WeakLimitsMustBeAllowed(t *testing.T) {
	suite.excepted(t)
	l := suite.New(host.Options{StateDir: filepath.Join(t.TempDir(), "state")})
	defer l.Close()
	o := run(t, t.Context(), l, python("print(1)"), "")
	if os.Geteuid() == 0 || o.Limits == oci.ByCgroup {
		t.Skip("this host and user have cgroups")
	}
	var missing *oci.HostError
	if !errors.As(o.err, &missing) || !strings.Contains(missing.Fix, "MCP_BRIDGE_ALLOW_WEAK_LIMITS") || !strings.Contains(missing.Missing, "memory") {
		t.Errorf("%v\nwant a HostError about limits with its remedy", o)
	}
}

// FewDescriptors: a shortage that passes is the error of a run, and not what is known of the host from then on.
func (suite HostSuite) FewDescriptors(t *testing.T) {
	suite.excepted(t)
	usual := run(t, t.Context(), suite.launcher(t), python("print(1)"), "").Limits // what is opened once has been opened
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	l := suite.launcher(t)
	lowest, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	few := int(lowest.Fd())
	lowest.Close()
	failed := 0
	for more := range 24 { // each of these is short at another place
		now := limit
		now.Cur = uint64(few + more)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
			t.Fatal(err)
		}
		// The streams would take descriptors too.
		_, err := l.Run(t.Context(), python("print(1)"), oci.Streams{})
		if rerr := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); rerr != nil {
			t.Fatal(rerr)
		}
		var host *oci.HostError
		if errors.As(err, &host) {
			t.Errorf("with %d descriptors: %v, want no HostError", more, err)
		}
		if err != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Error("no run was short of descriptors, so this tests nothing")
	}
	if o := run(t, t.Context(), l, python("print(1)"), ""); o.err != nil || o.stdout != "1\n" || o.Limits != usual {
		t.Errorf("afterwards: %v\nwant limits by %s", o, usual)
	}
}

// ClosedDirectory: root's containers run as users that have no name. Either that does not matter, or the error is to say
// which directory does not let them through.
func (suite HostSuite) ClosedDirectory(t *testing.T) {
	suite.excepted(t)
	if os.Geteuid() != 0 {
		t.Skip("a user's own directories are open to the user's containers while they start")
	}
	dir, err := os.MkdirTemp("/var/tmp", "mcp-bridge-"+suite.Name+"-closed-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	closed := filepath.Join(dir, "closed")
	for _, d := range []string{"proc", "dev", "tmp", "workspace"} {
		if err := os.MkdirAll(filepath.Join(closed, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for d, mode := range map[string]os.FileMode{dir: 0o711, closed: 0o700} {
		if err := os.Chmod(d, mode); err != nil {
			t.Fatal(err)
		}
	}
	c := python("")
	c.Rootfs = filepath.Join(closed, "rootfs")
	o := run(t, t.Context(), suite.launcher(t), c, "")
	if suite.ThroughClosed {
		if !errors.Is(o.err, fs.ErrNotExist) || !strings.Contains(o.err.Error(), c.Args[0]) {
			t.Errorf("%v\nwant an error about %s, which is not in the image", o, c.Args[0])
		}
		return
	}
	var missing *oci.HostError
	if !errors.As(o.err, &missing) || !strings.Contains(missing.Missing, closed+" may not be entered") {
		t.Errorf("%v\nwant a HostError that names %s", o, closed)
	}
}

func (suite Suite) MissingRootfs(t *testing.T) {
	suite.excepted(t)
	c := python("")
	c.Rootfs = filepath.Join(t.TempDir(), "missing")
	if o := run(t, t.Context(), suite.launcher(t), c, ""); o.err == nil || !strings.Contains(o.err.Error(), c.Rootfs) {
		t.Errorf("%v\nwant an error that names %s", o, c.Rootfs)
	}
}
