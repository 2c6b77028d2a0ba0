//go:build linux

package ocitest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

//go:embed testdata/prisoner.py
var prisoner string

// An effect is what somebody inside a container sees of one operation: a value or an errno. Alternatives are separated
// by "|": the first is what this version does; the others are stronger and come with the seccomp filter, which answers
// before the kernel's own checks do.
type effect struct{ name, code, want string }

// observe runs all operations in one container of l and compares.
func (suite Suite) observe(t *testing.T, l oci.Launcher, c oci.Container, effects []effect, extra ...*os.File) {
	t.Helper()
	list := make([][2]string, len(effects))
	for i, e := range effects {
		list[i] = [2]string{e.name, e.code}
	}
	in, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	o := run(t, t.Context(), l, c, string(in), extra...)
	if o.err != nil || o.Code != 0 {
		t.Fatalf("%v", o)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil {
		t.Fatalf("%v\n%v", err, o)
	}
	for _, e := range effects {
		t.Run(e.name, func(t *testing.T) {
			suite.excepted(t)
			if answer, ok := got[e.name]; !ok || !slices.Contains(strings.Split(e.want, "|"), answer) {
				t.Errorf("the prisoner sees %q, want %q", answer, e.want)
			}
		})
	}
}

// Effects is the sandbox by what a prisoner can observe. A new privilege, mount or system call needs a line here.
func (suite Suite) Effects(t *testing.T) {
	suite.excepted(t)
	suite.effects(t, nil)
}

// Effects are also those of pid 1.
func (suite HostSuite) Effects(t *testing.T) {
	suite.excepted(t)
	suite.effects(t, stage0Effects())
}

// stage0Effects are what a prisoner sees of stage0, which is pid 1.
func stage0Effects() []effect {
	return []effect{
		{"parent of the command", "r = status('PPid', os.getppid())[0]", "1"},
		{"processes seen", "r = sorted(int(n) for n in os.listdir('/proc') if n.isdigit()) == [1, os.getppid(), os.getpid()]", "True"},
		{"pid 1 is stage0", "r = read('/proc/1/cmdline').split(b'\\0')[1]", "b'stage0'"},
		{"pid 1 has no threads", "r = status('Threads', 1)[0]", "1"},
		{"SIGKILL for pid 1", "os.kill(1, 9); r = status('State', 1)[0] in 'SR'", "True|EPERM"},
		{"SIGSTOP for pid 1", "os.kill(1, 19); r = status('State', 1)[0] in 'SR'", "True|EPERM"},
		{"SIGTERM and SIGCHLD for pid 1", "os.kill(1, 15); os.kill(1, 17); r = status('State', 1)[0] in 'SR'", "True|EPERM"},
		{"trace pid 1", "r = call('ptrace', 16, 1, 0, 0)", "EPERM|ENOSYS"},
		{"program of pid 1", "r = os.readlink('/proc/1/exe')", "EACCES"},
		{"open program of pid 1", "r = os.open('/proc/1/exe', os.O_RDONLY)", "EACCES"},
		{"memory of pid 1", "r = os.open('/proc/1/mem', os.O_RDONLY)", "EACCES"},
		{"write memory of pid 1", "r = os.open('/proc/1/mem', os.O_RDWR)", "EACCES"},
		{"environment of pid 1", "r = read('/proc/1/environ')", "EACCES"},
		{"maps of pid 1", "r = read('/proc/1/maps')", "EACCES"},
		{"root of pid 1", "r = os.listdir('/proc/1/root')", "EACCES"},
		{"directory of pid 1", "r = os.readlink('/proc/1/cwd')", "EACCES"},
		// The guest that has the user's own id may see their numbers; following one is another matter.
		{"descriptors of pid 1", "r = os.listdir('/proc/1/fd')", ifNested("['64', '65']|EACCES", "EACCES")},
		{"a descriptor of pid 1", "r = os.readlink('/proc/1/fd/64')", "EACCES"},
		{"open a descriptor of pid 1", "r = os.open('/proc/1/fd/64', os.O_RDONLY)", "EACCES"},
		{"namespaces of pid 1", "r = os.readlink('/proc/1/ns/user')", "EACCES"},
		{"stack of pid 1", "r = read('/proc/1/stack')", "EACCES|EPERM|ENOENT"},
		{"system call of pid 1", "r = read('/proc/1/syscall')", "EACCES|EPERM|ENOENT"},
		{"take a descriptor of pid 1", "r = call('syscall', 438, call('syscall', 434, 1, 0), 64, 0)", "EPERM|ENOSYS"},
	}
}

// effects wants more of processes.
func (suite Suite) effects(t *testing.T, processes []effect) {
	t.Helper()
	l := suite.launcher(t)
	for name, effects := range map[string][]effect{
		"who": {
			{"uid", "r = os.getresuid()", "(65534, 65534, 65534)"},
			{"gid", "r = os.getresgid()", "(65534, 65534, 65534)"},
			{"groups", "r = os.getgroups()", "[]|[65534]"},
			{"file system uid", "r = status('Uid')[3], status('Gid')[3]", "('65534', '65534')"},
			{"inheritable capabilities", "r = int(status('CapInh')[0], 16)", "0"},
			{"permitted capabilities", "r = int(status('CapPrm')[0], 16)", "0"},
			{"effective capabilities", "r = int(status('CapEff')[0], 16)", "0"},
			{"bounding capabilities", "r = int(status('CapBnd')[0], 16)", "0"},
			{"ambient capabilities", "r = int(status('CapAmb')[0], 16)", "0"},
			{"host paths in mountinfo", "r = [l for l in open('/proc/self/mountinfo') if '/rootfs' in l or '/home' in l or '/var' in l]", "[]"},
			{"no new privileges", "r = status('NoNewPrivs')[0]", "1"},
			{"setuid", "os.setuid(0); r = 'root'", "EPERM"},
			{"setgid", "os.setgid(0); r = 'root'", "EPERM"},
			{"setgroups", "os.setgroups([0]); r = 'root'", "EPERM"},
			{
				"no id is its own on the host", "r = [l for f in ('uid_map', 'gid_map') for l in open('/proc/self/' + f) if l.split()[1] == '0' or l.split()[0] == l.split()[1]]",
				// Read from inside, the outer id is that of the namespace around, where it is the user's.
				ifNested(`['     65534          0          1\n', '     65534          0          1\n']`, "[]"),
			},
			{"host name", "r = os.uname().nodename", "sandbox"},
			{"set host name", "r = call('sethostname', 'x', 1)", "EPERM"},
			{"environment", "r = sorted(os.environ)", "['HOME', 'PATH']|['HOME', 'LC_CTYPE', 'PATH']"},
			{"environment of the process", "r = sorted(read('/proc/self/environ').decode().split(chr(0))[:2])", "['HOME=/workspace', 'PATH=/usr/bin:/bin']"},
			{"working directory", "r = os.getcwd()", "/workspace"},
			{"session", "r = os.ttyname(0)", "ENOTTY"},
			{"terminal", "r = os.open('/dev/tty', os.O_RDWR)", "ENXIO|ENOENT"},
			{"cgroup", "r = [l for l in open('/proc/self/cgroup') if 'mcp-bridge' in l or 'process_api' in l]", "[]"},
		},
		"processes": {
			{"own pid namespace", "r = len(status('NSpid'))", "1"},
			{"real-time priority", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); r = 'set'", "EPERM|ENOSYS"},
			{"higher priority", "os.setpriority(os.PRIO_PROCESS, 0, -5); r = 'set'", "EACCES|EPERM|ENOSYS"},
			{"hard limit", "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)); r = 'set'", "ValueError: not allowed to raise maximum limit"},
			{"limits of pid 1", "resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0)); r = 'set'", "EPERM|ENOSYS"},
			// pid 1 has to end when the bridge says so, whatever a script does with the processors.
			{"lower priority", "os.setpriority(os.PRIO_PROCESS, 0, 1); r = 'set'", "set"},
			{"priority of pid 1", "os.setpriority(os.PRIO_PROCESS, 1, 19); r = 'set'", "EPERM|ENOSYS"},
			{"priority of the process group", "os.setpriority(os.PRIO_PGRP, 0, 19); r = 'set'", "EPERM|ENOSYS"},
			{"priority of the user", "os.setpriority(os.PRIO_USER, 0, 19); r = 'set'", "EPERM|ENOSYS"},
			{"own processors", "os.sched_setaffinity(0, os.sched_getaffinity(0)); r = 'set'", "set"},
			{"processors of pid 1", "os.sched_setaffinity(1, {0}); r = 'set'", "EPERM|ENOSYS"},
			{"session of pid 1", "r = os.getsid(0) == os.getsid(1)", "False"},
			{"pending signals", "r = max(resource.getrlimit(resource.RLIMIT_SIGPENDING)) <= 1024", "True"},
			{"score of the OOM killer", "r = write('/proc/self/oom_score_adj', '-1000')", "EACCES"},
		},
		"kernel": {
			{"mount", "r = call('mount', 'none', '/tmp', 'tmpfs', 0, None)", "EPERM|ENOSYS"},
			{"mount over the root", "r = call('mount', '/tmp', '/', None, 4096, None)", "EPERM|ENOSYS"},
			{"make the root writable", "r = call('mount', None, '/', None, 32 | 4096, None)", "EPERM|ENOSYS"},
			{"unmount", "r = call('umount2', '/proc/sys', 2)", "EPERM|ENOSYS"},
			{"pivot_root", "os.mkdir('/tmp/p'); r = call('syscall', {'x86_64': 155}.get(os.uname().machine, 41), '/tmp/p', '/tmp/p')", "EPERM|ENOSYS"},
			{"new mount API", "r = call('syscall', 430, 'tmpfs', 0)", "EPERM|ENOSYS"},
			{"open_tree", "r = call('syscall', 428, -100, '/', 1)", "EPERM|ENOSYS"},
			{"chroot", "os.chroot('/tmp'); r = 'done'", "EPERM|ENOSYS"},
			{"device node", "os.mknod('/tmp/disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0)); r = 'made'", "EPERM|ENOSYS"},
			{"memory device node", "os.mknod('/tmp/mem', 0o600 | stat.S_IFCHR, os.makedev(1, 1)); r = 'made'", "EPERM|ENOSYS"},
			// ENOSPC is user.max_user_namespaces.
			{"new user namespace", "r = call('unshare', 0x10000000)", "ENOSPC|EPERM|ENOSYS"},
			{"clone with a new user namespace", "r = call('syscall', {'x86_64': 56}.get(os.uname().machine, 220), 0x10000000 | 17, 0, 0, 0, 0)", "ENOSPC|EPERM|ENOSYS"},
			{"new user and mount namespace", "r = call('unshare', 0x10020000)", "ENOSPC|EPERM|ENOSYS"},
			{"new mount namespace", "r = call('unshare', 0x20000)", "EPERM|ENOSYS"},
			{"new network namespace", "r = call('unshare', 0x40000000)", "EPERM|ENOSYS"},
			{"new pid namespace", "r = call('unshare', 0x20000000)", "EPERM|ENOSYS"},
			{"new cgroup namespace", "r = call('unshare', 0x2000000)", "EPERM|ENOSYS"},
			{"join own user namespace", "r = call('setns', os.open('/proc/self/ns/user', 0), 0)", "EINVAL|EPERM|ENOSYS"},
			{"join own mount namespace", "r = call('setns', os.open('/proc/self/ns/mnt', 0), 0)", "EPERM|ENOSYS"},
			{"allow more user namespaces", "r = write('/proc/sys/user/max_user_namespaces', '1000')", "EACCES|EROFS"},
			{"reboot", "r = call('reboot', 0)", "EPERM|ENOSYS"},
			{"clock", "import time; time.clock_settime(0, 0); r = 'set'", "EPERM|ENOSYS"},
			{"swap", "r = call('swapon', '/tmp/x', 0)", "EPERM|ENOSYS"},
			{"kernel log", "r = call('klogctl', 3, 0, 0)", "EPERM|EINVAL|ENOSYS"},
			{"kernel module", "r = call('syscall', {'x86_64': 313}.get(os.uname().machine, 273), 0, '', 0)", "EPERM|ENOSYS"},
			{"kexec", "r = call('syscall', {'x86_64': 246}.get(os.uname().machine, 104), 0, 0, 0, 0)", "EPERM|ENOSYS"},
			{"file handle", "r = call('open_by_handle_at', os.open('/', 0), b'\\x08\\0\\0\\0\\1\\0\\0\\0' + b'\\0' * 8, 0)", "EPERM|ENOSYS"},
			{"keyring of the host", "r = call('syscall', {'x86_64': 250}.get(os.uname().machine, 219), 11, -3, 0, 0) ; r = 'own' if r < 64 else r", "own|EACCES|ENOKEY|ENOSYS|EPERM"},
		},
		"network": {
			{"interfaces", "r = [n for i, n in socket.if_nameindex()]", "['lo']|EAFNOSUPPORT|ENOSYS|EPERM"},
			{"interfaces in /proc", "r = [l.split(':')[0].strip() for l in open('/proc/net/dev') if ':' in l]", "['lo']"},
			{"outside", "socket.create_connection(('1.1.1.1', 53), 5); r = 'connected'", "ENETUNREACH|EAFNOSUPPORT|ENOSYS|EPERM"},
			{"outside, IPv6", "s = socket.socket(socket.AF_INET6); s.connect(('2606:4700:4700::1111', 53)); r = 'connected'", "ENETUNREACH|EADDRNOTAVAIL|EAFNOSUPPORT|ENOSYS|EPERM"},
			{"metadata service", "socket.create_connection(('169.254.169.254', 80), 5); r = 'connected'", "ENETUNREACH|EAFNOSUPPORT|ENOSYS|EPERM"},
			{"datagram", "r = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53))", "ENETUNREACH|EAFNOSUPPORT|ENOSYS|EPERM"},
			{"loopback is down", "socket.create_connection(('127.0.0.1', 22), 5); r = 'connected'", "ENETUNREACH|ECONNREFUSED|EAFNOSUPPORT|ENOSYS|EPERM"},
			{"raw socket", "r = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "EPERM|EAFNOSUPPORT|ENOSYS"},
			{"packet socket", "r = socket.socket(17, socket.SOCK_RAW, 3)", "EPERM|EAFNOSUPPORT|ENOSYS"},
			{"abstract sockets of the host", "r = [l for l in open('/proc/net/unix') if '@' in l]", "[]"},
			// Compiled, they are in memory of which all of the host has so much.
			{"filter of a socket", "socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, 26, bytes(16)); r = 'set'", "ENOPROTOOPT|ENOSYS|EPERM"},
			{"buffer of a socket", "socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24); r = 'set'", "ENOPROTOOPT|ENOSYS|EPERM"},
			{"credentials on a socket", "socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1); r = 'set'", "set"},
			{"bring up loopback", "s = socket.socket(); r = fcntl.ioctl(s, 0x8914, b'lo' + b'\\0' * 14 + b'\\1\\0' + b'\\0' * 22)", "EPERM|EAFNOSUPPORT|ENOSYS|ENOTTY"},
		},
	} {
		if name == "processes" {
			effects = append(effects, processes...)
		}
		t.Run(name, func(t *testing.T) {
			t.Setenv("OCITEST_SECRET", "must not be seen inside") // Env is all there is
			suite.observe(t, l, python(prisoner), effects)
		})
	}
}

// mounts is code that lists a field of those lines of mountinfo that are writable and fulfil a condition, without the devices.
func mounts(condition, field string) string {
	return fmt.Sprintf("r = sorted({%s for f in map(str.split, open('/proc/self/mountinfo')) if 'rw' in f[5].split(',') and not (f[4].startswith('/dev/') and f[4] != '/dev/shm') and %s})", field, condition)
}

// EffectsOnFiles: what can be read, written and executed.
func (suite Suite) EffectsOnFiles(t *testing.T) {
	suite.excepted(t)
	effects := []effect{
		{"write to /", "r = create('/x')", "EROFS"},
		{"write to /etc", "r = create('/etc/x')", "EROFS"},
		{"write to /usr", "r = create('/usr/x')", "EROFS"},
		{"write to an existing file", fmt.Sprintf("r = write(%q)", tree.Python), "EACCES|EROFS"},
		{"chmod", fmt.Sprintf("os.chmod(%q, 0o4755); r = 'done'", tree.Python), "EROFS"},
		{"remove", "os.rmdir('/etc'); r = 'done'", "EROFS"},
		{"make a directory", "os.mkdir('/x'); r = 'done'", "EROFS"},
		{"anything that may be written", `r = sorted(
    p for d, dirs, files in os.walk('/') for p in [d] + [os.path.join(d, f) for f in files]
    if os.stat(d).st_dev == os.stat('/').st_dev and not os.path.islink(p) and os.access(p, os.W_OK))`, "[]"},
		// A masked file is the host's /dev/null bound over it, into which anybody may write.
		{"writable mounts", mounts("f[3] != '/null'", "f[4]"), "['/dev/shm', '/proc', '/tmp', '/workspace']"},
		{"writable mounts without nosuid, nodev and noexec", mounts("f[3] != '/null' and not {'nosuid', 'nodev', 'noexec'} <= set(f[5].split(','))", "f[4]"), "[]"},
		{"writable mounts of the host's disks", mounts("f[f.index('-') + 1] not in ('proc', 'tmpfs', 'devtmpfs')", "f[4]"), "[]"},
		{"devices of the host", "r = sorted({f[3] for f in map(str.split, open('/proc/self/mountinfo')) if f[f.index('-') + 1] == 'devtmpfs'})", "['/full', '/null', '/random', '/tty', '/urandom', '/zero']"},
		{"propagation from the host", "r = [l for l in open('/proc/self/mountinfo') if 'shared:' in l or 'master:' in l]", "[]"},
		{"exec from /tmp", "program('/tmp')", "EACCES"},
		{"exec from /workspace", "program('/workspace')", "EACCES"},
		{"exec from /dev/shm", "program('/dev/shm')", "EACCES"},
		{"map a file of /tmp executable", "import mmap\nf = open('/tmp/m', 'w+b'); f.write(b'x' * 4096); f.flush()\nr = mmap.mmap(f.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)", "EPERM"},
		{"size of /tmp", "s = os.statvfs('/tmp'); r = s.f_blocks * s.f_frsize >> 20, s.f_files", "(64, 16384)"},
		{"size of /workspace", "s = os.statvfs('/workspace'); r = s.f_blocks * s.f_frsize >> 20, s.f_files", "(128, 32768)"},
		{"size of /dev/shm", "s = os.statvfs('/dev/shm'); r = s.f_blocks * s.f_frsize >> 20, s.f_files", "(32, 1024)"},
		{"fill /dev/shm", "f = open('/dev/shm/fill', 'wb', 0)\nfor i in range(33): f.write(bytes(1 << 20))\nr = 'written'", "ENOSPC"},
		{"fill the inodes of /dev/shm", "os.unlink('/dev/shm/fill')\nfor i in range(1025): create('/dev/shm/%d' % i)\nr = 'made'", "ENOSPC"},
		{"owner and mode of /tmp and /workspace", "r = [(s.st_uid, s.st_gid, oct(s.st_mode)) for s in map(os.stat, ('/tmp', '/workspace'))]", "[(65534, 65534, '0o40700'), (65534, 65534, '0o40700')]"},
		{"devices", "r = sorted(os.listdir('/dev'))", withCore("['fd', 'full', 'null', 'ptmx', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero']")},
		{"make a device", "r = create('/dev/x')", "EROFS|EACCES"},
		{"remove a device", "os.unlink('/dev/null'); r = 'done'", "EROFS|EBUSY|EACCES"},
		// The devices are the host's own, bound: who owned one in here could close it to the whole host. (Its mode stays
		// as it is, so that this test does no harm where it fails.)
		{"change a device", "r = []\nfor n in ('null', 'zero', 'full', 'random', 'urandom', 'tty'):\n  try: os.chmod('/dev/' + n, 0o666); r.append(n)\n  except OSError: pass", "[]"},
		{"times of a device", "os.utime('/dev/null'); r = 'set'", "EROFS"},
		{"the devices that are needed", "r = len(read('/dev/zero')), len(os.urandom(8)), read('/dev/null'), write('/dev/null')", "(65536, 8, b'', 'written')"},
		{"/dev/full", "r = write('/dev/full')", "ENOSPC"},
		{"new terminal", "r = os.openpty()", "ENOENT|EACCES|EIO|ENOSYS|EPERM"},
		{"/sys", "r = os.listdir('/sys') if os.path.isdir('/sys') else []", "[]"},
		{"cgroup files", "r = os.path.exists('/sys/fs/cgroup')", "False"},
		{"write to /proc/sys", "r = write('/proc/sys/kernel/hostname')", "EACCES|EROFS"},
		{"write to /proc/sys/kernel/core_pattern", "r = write('/proc/sys/kernel/core_pattern')", "EROFS|EACCES"},
		{"write to /proc/sysrq-trigger", "r = write('/proc/sysrq-trigger')", "EROFS|EACCES|ENOENT"},
		{"core size", "r = resource.getrlimit(resource.RLIMIT_CORE)", coreLimit()},
		{"file size", "r = resource.getrlimit(resource.RLIMIT_FSIZE)", "(268435456, 268435456)"},
		{"file beyond its size", "f = open('/tmp/big', 'wb'); f.truncate(300 << 20); r = 'made'", "EFBIG"},
		{"open files", "n, m = resource.getrlimit(resource.RLIMIT_NOFILE); r = n == m and n <= 1024", "True"},
		{"too many open files", "fds = [os.open('/', 0) for i in range(1024)]", "EMFILE"},
	}
	// The specification says which files of /proc are masked; here is what that comes to.
	line := []oci.IDMap{{Container: 0, Host: 1, Size: 1}, {Container: 65534, Host: 2, Size: 1}}
	spec, err := oci.Spec(python(""), oci.Host{UIDMap: line, GIDMap: line, Limits: oci.ByRlimits})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range spec.Linux.MaskedPaths {
		effects = append(effects, effect{p, fmt.Sprintf("p = %q; r = len(os.listdir(p) if os.path.isdir(p) else read(p))", p), "0|ENOENT"})
	}
	for _, p := range spec.Linux.ReadonlyPaths {
		effects = append(effects, effect{
			"read only " + p, fmt.Sprintf("p = %q; r = os.statvfs(p).f_flag & os.ST_RDONLY", p), "1|ENOENT",
		})
	}
	suite.observe(t, suite.launcher(t), python(prisoner), effects)
}

// Descriptors: a descriptor of the host that got in could be a way out.
func (suite Suite) Descriptors(t *testing.T) {
	suite.excepted(t)
	const code = `
import os
def is_open(n):
    try:
        os.fstat(n)
        return True
    except OSError:
        return False
print([n for n in range(70000) if is_open(n)], sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1])
`
	l := suite.launcher(t)
	// What is open here, without close-on-exec, must not get in; neither what other containers are given.
	leak, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	if _, _, errno := syscallDupWithoutCloexec(leak.Fd()); errno != 0 {
		t.Fatal(errno)
	}
	if got, want := mustRun(t, l, code), "[0, 1, 2] [0, 1, 2]\n"; got != want {
		t.Errorf("descriptors %q, want %q", got, want)
	}
	extraR, extraW := pipe(t)
	defer closeAll(extraR, extraW)
	o := run(t, t.Context(), l, python(code), "", extraR, extraW, extraW)
	if want := "[0, 1, 2, 3, 4, 5] [0, 1, 2, 3, 4, 5]\n"; o.stdout != want {
		t.Errorf("descriptors %q, want %q\n%v", o.stdout, want, o)
	}
	t.Run("nil streams", func(t *testing.T) {
		c := python("import os, sys\nsys.exit(42 if os.read(0, 1) == b'' and os.write(1, b'x') == 1 else 1)")
		exit, err := l.Run(t.Context(), c, oci.Streams{})
		if err != nil || exit.Code != 42 {
			t.Errorf("exit %+v, %v; want the code 42 of a script that has /dev/null for its streams", exit, err)
		}
		// A runtime that owns its standard streams would own the host's device.
		if is, was := ownerOf(t, os.DevNull), ownerOf(t, "/dev/zero"); is != was {
			t.Errorf("the host's %s is %v's", os.DevNull, is)
			_ = os.Chown(os.DevNull, int(was.UID), int(was.GID))
		}
	})
	t.Run("extra arrive as 3 and 4", func(t *testing.T) {
		toR, toW := pipe(t)
		fromR, fromW := pipe(t)
		defer closeAll(toR, toW, fromR)
		if _, err := toW.WriteString("question"); err != nil {
			t.Fatal(err)
		}
		o := run(t, t.Context(), l, python("import os\nos.write(4, b'answer to ' + os.read(3, 100))"), "", toR, fromW)
		fromW.Close()
		b := make([]byte, 100)
		n, _ := fromR.Read(b)
		if got, want := string(b[:n]), "answer to question"; got != want {
			t.Errorf("got %q, want %q\n%v", got, want, o)
		}
	})
}

func ownerOf(t *testing.T, name string) oci.User {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return oci.User{UID: st.Uid, GID: st.Gid}
}

// withCore: libcontainer makes /dev/core, a link to what is masked, where the host has a /proc/kcore, and crun everywhere.
func withCore(devices string) string {
	with := strings.Replace(devices, "['fd'", "['core', 'fd'", 1)
	if _, err := os.Stat("/proc/kcore"); err == nil {
		return with
	}
	return devices + "|" + with
}

// coreLimit is 1, the kernel's word for no core handler either, unless this process may not have as much.
func coreLimit() string {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err == nil && l.Max == 0 {
		return "(0, 0)"
	}
	return "(1, 1)"
}
