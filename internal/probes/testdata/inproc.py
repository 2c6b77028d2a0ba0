# Attack probes that neither exhaust resources nor touch the protocol.
# Plain Python 3.11+ stdlib; paste as the `code` of run_python, or feed to `python3 -I -`.
# Prints one line per probe:   PROBE <name> BLOCKED|ESCAPED|SKIP <detail>
# Knobs (optional, prepend as Python):  HOST={...}  ONLY="fs."  LIST=True
#   HOST keys: hostname, canary, tcp_port, abstract, shm_key, allowed_fds, pid
# The planted host side canaries are described in README.md; without them the
# probes that look for them degrade to the weaker in-sandbox check.
import errno, os, re, signal, socket, stat, struct, sys, time
try:
    import ctypes
except Exception:
    ctypes = None
try:
    import fcntl
except Exception:
    fcntl = None

try:
    if open("/proc/2/comm").read().strip() == "kthreadd" or os.readlink("/proc/self/ns/pid") == "pid:[4026531836]":
        raise SystemExit("refusing to run: this is the host's pid namespace, not a sandbox")
except OSError:
    pass
G = globals()
HOST = G.get("HOST") or {}
ONLY = G.get("ONLY") or os.environ.get("PROBE_ONLY", "")
CANARY = HOST.get("canary", "probe-host-canary")
WRITABLE = [d for d in ("/workspace", "/tmp", "/srv", "/var/tmp", "/dev/shm", "/run", "/home") if os.path.isdir(d) and os.access(d, os.W_OK)]
W = next((d for d in ("/workspace", "/tmp", "/srv") if d in WRITABLE), "/tmp")
PROBES = []


def probe(name, sev, tries, passes):
    def deco(fn):
        PROBES.append((name, sev, tries, passes, fn))
        return fn
    return deco


def en(e):
    n = e.errno if isinstance(e, OSError) else e
    return errno.errorcode.get(n, str(n))


def blocked(d=""):
    return "BLOCKED", d


def escaped(d=""):
    return "ESCAPED", d


def skip(d=""):
    return "SKIP", d


# ---------------------------------------------------------------- raw syscalls
MACH = os.uname().machine
COL = {"x86_64": 0, "aarch64": 1}.get(MACH)
NR = {  # name: (x86_64, aarch64)
    "bpf": (321, 280), "perf_event_open": (298, 241), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264), "personality": (135, 92), "modify_ldt": (154, None), "memfd_secret": (447, 447),
    "memfd_create": (319, 279), "fanotify_init": (300, 262), "move_pages": (279, 239), "mbind": (237, 235),
    "migrate_pages": (256, 238), "set_mempolicy": (238, 237), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "seccomp": (317, 277),
    "ptrace": (101, 117), "vmsplice": (278, 75), "splice": (275, 76), "tee": (276, 77), "uselib": (134, None),
    "ustat": (136, None), "sysfs": (139, None), "_sysctl": (156, None), "remap_file_pages": (216, 234),
    "lookup_dcookie": (212, 18), "acct": (163, 89), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "iopl": (172, None), "ioperm": (173, None), "syslog": (103, 116), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "nfsservctl": (180, 42), "vhangup": (153, 58), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268), "clone": (56, 220), "clone3": (435, 435),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "open_tree": (428, 428),
    "move_mount": (429, 429), "mount_setattr": (442, 442), "statmount": (457, 457), "listmount": (458, 458),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272), "sethostname": (170, 161),
    "setdomainname": (171, 162), "lsm_set_self_attr": (460, 460), "lsm_get_self_attr": (459, 459),
    "set_mempolicy_home_node": (450, 450), "mq_open": (240, 180), "shmget": (29, 194), "shmctl": (31, 195),
    "semget": (64, 190), "msgget": (68, 186), "ioprio_set": (251, 30), "sched_setattr": (314, 274),
    "mlockall": (151, 230), "sync": (162, 81), "syncfs": (306, 267), "getpid": (39, 172), "capset": (126, 91),
    "map_shadow_stack": (453, 453), "cachestat": (451, 451), "setdomain": (171, 162),
    "create_module": (174, None), "get_kernel_syms": (177, None), "query_module": (178, None), "timerfd_create": (283, 85),
}
LIBC = None
if ctypes is not None:
    try:
        LIBC = ctypes.CDLL(None, use_errno=True)
        LIBC.syscall.restype = ctypes.c_long
    except Exception:
        LIBC = None


class NoRaw(Exception):
    pass


def sysc(name, *args):
    """returns (ret, errno) of a raw syscall"""
    if LIBC is None:
        raise NoRaw("no ctypes")
    if COL is None or NR[name][COL] is None:
        raise NoRaw("no such syscall on " + MACH)
    conv = []
    for a in args:
        if isinstance(a, int):
            conv.append(ctypes.c_long(a if a < 1 << 63 else a - (1 << 64)))
        elif isinstance(a, (bytes, type(None))):
            conv.append(ctypes.c_char_p(a))
        else:
            conv.append(a)
    ctypes.set_errno(0)
    r = LIBC.syscall(ctypes.c_long(NR[name][COL]), *conv)
    if 0xFFFFF000 < r <= 0xFFFFFFFF:  # 32-bit -errno (modify_ldt)
        return -1, (1 << 32) - r
    return r, (ctypes.get_errno() if r == -1 else 0)


def deny(name, *args):
    """must not succeed; any errno is a pass"""
    r, e = sysc(name, *args)
    return blocked(en(e)) if r == -1 else escaped("%s() = %d" % (name, r))


def surface(name, *args):
    """must be stopped by the filter, before the kernel code: EPERM/ENOSYS/EACCES only.
    args are chosen so that the kernel itself would say EFAULT/EINVAL/EBADF/ESRCH."""
    r, e = sysc(name, *args)
    if r == -1 and e in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        return blocked(en(e))
    if r == -1:
        return escaped("reachable, kernel answered %s" % en(e))
    return escaped("%s() = %d" % (name, r))


def can_open(path, flags):
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        return None, en(e)
    return fd, ""


def reads(path, n=4096):
    fd, e = can_open(path, os.O_RDONLY)
    if fd is None:
        return None, e
    try:
        return os.read(fd, n), ""
    except OSError as x:
        return None, en(x)
    finally:
        os.close(fd)


def try_write_open(paths):
    bad, why = [], {}
    for p in paths:
        fd, e = can_open(p, os.O_WRONLY)
        if fd is None:
            why[e] = why.get(e, 0) + 1
        else:
            st = os.fstat(fd)
            os.close(fd)
            if stat.S_ISCHR(st.st_mode) and st.st_rdev == os.makedev(1, 3):
                why["masked"] = why.get("masked", 0) + 1
                continue
            bad.append(p)
    s = ",".join("%s*%d" % kv for kv in sorted(why.items()))
    return (escaped("writable: " + " ".join(bad[:6])) if bad else blocked(s))


def status_fields():
    d = {}
    with open("/proc/self/status") as f:
        for line in f:
            k, _, v = line.partition(":")
            d[k] = v.strip()
    return d


def in_child(fn, timeout=8):
    """run fn in a forked child; returns (kind, value): ('ret', str) or ('sig', n)"""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(r)
            for s in range(1, 32):
                try:
                    signal.signal(s, signal.SIG_DFL)
                except (OSError, ValueError):
                    pass
            signal.alarm(timeout)
            try:
                out = fn()
            except NoRaw as x:
                out = ("SKIP", str(x))
            except OSError as x:
                out = ("BLOCKED", en(x))
            except MemoryError:
                out = ("BLOCKED", "MemoryError")
            except BaseException as x:
                out = ("BLOCKED", type(x).__name__ + ": " + str(x)[:120])
            os.write(w, ("%s\0%s" % out).encode("utf-8", "replace")[:4000])
        finally:
            os._exit(0)
    os.close(w)
    buf = b""
    end = time.monotonic() + timeout + 2
    os.set_blocking(r, False)
    while time.monotonic() < end:
        try:
            c = os.read(r, 4096)
            if not c:
                break
            buf += c
        except BlockingIOError:
            time.sleep(0.005)
    else:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    os.close(r)
    _, st = os.waitpid(pid, 0)
    if buf:
        a, _, b = buf.decode("utf-8", "replace").partition("\0")
        return a, b
    if os.WIFSIGNALED(st):
        try:
            n = signal.Signals(os.WTERMSIG(st)).name
        except ValueError:
            n = str(os.WTERMSIG(st))
        return "BLOCKED", "killed by " + n
    return "BLOCKED", "no answer, exit %s" % st


# ================================================================= filesystem
@probe("fs.proc1_root", "critical", "walk /proc/1/root to the host's root", "same inode as / , or EACCES")
def _():
    me = os.stat("/")
    try:
        o = os.stat("/proc/1/root/")
    except OSError as e:
        return blocked(en(e))
    return blocked("same root") if (o.st_dev, o.st_ino) == (me.st_dev, me.st_ino) else escaped("other root dev=%d ino=%d" % (o.st_dev, o.st_ino))


@probe("fs.dotdot", "critical", "/.. , /proc/self/root/.. , deep ../ from cwd", "stays at the sandbox root")
def _():
    me = os.stat("/")
    for p in ("/..", "/proc/self/root/..", "/proc/self/cwd/" + "../" * 40, "/proc/self/task/%d/root/.." % os.getpid()):
        try:
            o = os.stat(p)
        except OSError:
            continue
        if (o.st_dev, o.st_ino) != (me.st_dev, me.st_ino):
            return escaped(p)
    return blocked("root is a wall")


@probe("fs.cwd_reachable", "critical", "cwd left outside the root (CVE-2024-21626)", "getcwd is an absolute path below /")
def _():
    l = os.readlink("/proc/self/cwd")
    try:
        c = os.getcwd()
    except OSError as e:
        return escaped("getcwd %s, link %s" % (en(e), l))
    return blocked(c) if c.startswith("/") and not l.startswith("(unreachable)") else escaped(l)


@probe("fs.inherited_fds", "critical", "descriptors left open by the runtime or the host", "only 0,1,2 (+ HOST.allowed_fds), all pipes/sockets//dev/null")
def _():
    ok = {0, 1, 2} | set(HOST.get("allowed_fds", []))
    bad, seen = [], []
    for n in sorted(int(x) for x in os.listdir("/proc/self/fd")):
        try:
            t = os.readlink("/proc/self/fd/%d" % n)
            m = os.fstat(n).st_mode
        except OSError:
            continue
        seen.append("%d=%s" % (n, t))
        if t.startswith("/proc/") or t.startswith("pipe:[") and n not in ok and n > 2 and not HOST.get("strict_fds"):
            continue  # listing dir; the pipe used by this runner
        if re.fullmatch(r"/usr/lib(64)?/([^/]+/)?libffi\.so[.0-9]*", t) and os.path.exists(t) and os.path.samestat(os.stat(t), os.fstat(n)) and not os.access("/proc/self/fd/%d" % n, os.W_OK):
            continue  # libffi 3.5, of ctypes, keeps its own file
        if n not in ok or stat.S_ISDIR(m) or stat.S_ISBLK(m) or stat.S_ISREG(m) and os.access("/proc/self/fd/%d" % n, os.W_OK):
            bad.append("%d=%s" % (n, t))
    return escaped(" ".join(bad)) if bad else blocked(" ".join(seen))


@probe("fs.pid1_fds", "high", "descriptors of pid 1 through /proc/1/fd", "EACCES, or only pipes/sockets/devnull")
def _():
    try:
        l = [os.readlink("/proc/1/fd/" + x) for x in os.listdir("/proc/1/fd")]
    except OSError as e:
        return blocked(en(e))
    bad = [t for t in l if not re.match(r"(pipe|socket|anon_inode):|/dev/(null|pts)|/proc/", t)]
    return escaped(" ".join(bad)) if bad else blocked("only pipes/sockets")


@probe("fs.proc_environ", "critical", "read /proc/*/environ for host variables", "no canary, no secret-looking names")
def _():
    hits = []
    for p in os.listdir("/proc"):
        if p.isdigit():
            b, _e = reads("/proc/%s/environ" % p, 65536)
            for kv in (b or b"").split(b"\0"):
                k = kv.split(b"=")[0]
                if CANARY.encode() in kv or re.search(rb"SECRET|TOKEN|PASSW|API_?KEY|CREDENTIAL|_LIBCONTAINER", k):
                    hits.append("%s:%s" % (p, k.decode("utf-8", "replace")))
    return escaped(" ".join(hits[:5])) if hits else blocked("clean")


@probe("env.own", "critical", "host variables or loader/interpreter hooks in os.environ", "no canary, no secrets, no LD_*/PYTHON* injected from the host")
def _():
    bad = [k for k, v in os.environ.items() if CANARY in v or re.search("SECRET|TOKEN|PASSW|API_?KEY|CREDENTIAL|SSH_|DBUS_|XDG_RUNTIME|KUBECONFIG|AWS_|GOOGLE_|AZURE_|_LIBCONTAINER|^LD_", k)]
    return escaped(" ".join(bad)) if bad else blocked("%d vars: %s" % (len(os.environ), " ".join(sorted(os.environ))[:200]))


@probe("env.argv_paths", "low", "host paths in argv, sys.path, sys.executable, cmdline", "no path that does not exist in the sandbox")
def _():
    b, _e = reads("/proc/self/cmdline", 65536)
    words = [w.decode("utf-8", "replace") for w in (b or b"").split(b"\0")] + list(sys.argv) + [sys.executable or ""] + [p for p in sys.path if not p.endswith(".zip")]
    bad = sorted({w for w in words if re.match(r"^/[\w.@/+-]+$", w) and not os.path.exists(w)})
    return escaped(" ".join(bad[:4])) if bad else blocked("ok")


@probe("fs.host_pids", "critical", "host processes visible in /proc", "no kthreadd, no canary command line, pid 1 is ours")
def _():
    pids = [p for p in os.listdir("/proc") if p.isdigit()]
    for p in pids:
        c, _e = reads("/proc/%s/comm" % p)
        l, _e = reads("/proc/%s/cmdline" % p)
        if (c or b"").strip() == b"kthreadd" or CANARY.encode() in (l or b""):
            return escaped("pid %s %s" % (p, (c or b"").decode()))
    return blocked("%d processes" % len(pids))


@probe("fs.kcore", "critical", "read physical memory through /proc/kcore, /dev/mem, /dev/kmem, /dev/port", "error or empty")
def _():
    for p in ("/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/core"):
        b, e = reads(p)
        if b:
            return escaped("%s: %d bytes" % (p, len(b)))
    return blocked("all closed")


@probe("fs.kmsg", "medium", "kernel log via /proc/kmsg, /dev/kmsg, syslog(2)", "error or empty")
def _():
    for p in ("/proc/kmsg", "/dev/kmsg"):
        b, e = reads(p)
        if b:
            return escaped(p)
    try:
        r, e = sysc("syslog", 10, None, 0)
        if r >= 0:
            return escaped("syslog(SIZE_BUFFER)=%d" % r)
        return blocked("syslog " + en(e))
    except NoRaw:
        return blocked("files closed")


@probe("fs.kallsyms", "medium", "kernel addresses in /proc/kallsyms, /proc/modules", "all zero or masked")
def _():
    for p in ("/proc/kallsyms", "/proc/modules"):
        b, e = reads(p, 65536)
        if b and re.search(rb"(^|0x)ffff[0-9a-f]{8,}", b, re.M) and re.search(rb"(^|0x)(?!0+\b)[0-9a-f]{16}", b, re.M):
            return escaped(p)
    return blocked("no addresses")


SYSCTLS = ["kernel/core_pattern", "kernel/hostname", "kernel/domainname", "kernel/modprobe", "kernel/panic", "kernel/sysrq",
           "kernel/shmmax", "kernel/shmmni", "kernel/sem", "kernel/msgmax", "kernel/ns_last_pid", "kernel/yama/ptrace_scope",
           "kernel/unprivileged_bpf_disabled", "kernel/randomize_va_space", "vm/overcommit_memory", "vm/drop_caches",
           "vm/panic_on_oom", "fs/suid_dumpable", "fs/protected_symlinks", "fs/mqueue/msg_max", "fs/binfmt_misc/register",
           "net/ipv4/ip_forward", "net/ipv4/ping_group_range", "net/ipv4/ip_unprivileged_port_start", "net/core/somaxconn",
           "user/max_user_namespaces", "user/max_net_namespaces", "user/max_inotify_watches"]


@probe("fs.proc_sys_write", "high", "open ~28 /proc/sys files for writing (incl. the namespaced ones)", "every open fails")
def _():
    return try_write_open(["/proc/sys/" + x for x in SYSCTLS])


@probe("fs.core_pattern_pipe", "medium", "a crash here would run the host's |core handler", "RLIMIT_CORE hard is 1 (kernel's 'no piped core' value), or the pattern is not a pipe")
def _():
    import resource
    b, e = reads("/proc/sys/kernel/core_pattern")
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if b and b.startswith(b"|") and hard != 1:
        return escaped("core_pattern is a pipe and RLIMIT_CORE=%d/%d (0 does not stop piped cores)" % (soft, hard))
    return blocked("RLIMIT_CORE=%d/%d pipe=%s" % (soft, hard, bool(b and b.startswith(b"|"))))


@probe("fs.coredump_file", "low", "crash a child and look for a core file", "no core file in any writable dir")
def _():
    before = {os.path.join(d, f) for d in WRITABLE for f in os.listdir(d)}

    def crash():
        os.chdir(W)
        os.abort()
    in_child(crash)
    after = {os.path.join(d, f) for d in WRITABLE for f in os.listdir(d)}
    new = [p for p in after - before if "core" in p]
    return escaped(" ".join(new)) if new else blocked("no core")


@probe("fs.sysrq", "critical", "open /proc/sysrq-trigger for writing", "fails")
def _():
    return try_write_open(["/proc/sysrq-trigger"])


@probe("fs.proc_misc_write", "high", "write /proc/self/oom_score_adj below start, /proc/irq, /proc/bus, /proc/acpi, /proc/fs", "no host-wide file is writable")
def _():
    c = ["/proc/irq/default_smp_affinity", "/proc/acpi/wakeup", "/proc/mtrr", "/proc/scsi/scsi", "/proc/timer_stats", "/proc/bus/pci/devices", "/proc/kpagecount", "/proc/kpageflags"]
    return try_write_open(c)


@probe("fs.oom_score_adj", "medium", "lower own oom_score_adj so that the host's processes are killed first", "EACCES/EPERM")
def _():
    try:
        cur = int(open("/proc/self/oom_score_adj").read())
        with open("/proc/self/oom_score_adj", "w") as f:
            f.write(str(cur - 100 if cur > -900 else -1000))
        new = int(open("/proc/self/oom_score_adj").read())
    except OSError as e:
        return blocked(en(e))
    return escaped("%d -> %d" % (cur, new)) if new < cur else blocked("unchanged %d" % new)


@probe("fs.sys_write", "high", "find any writable file below /sys (depth 6, 20k entries)", "none, or no /sys")
def _():
    if not os.path.isdir("/sys") or not os.listdir("/sys"):
        return blocked("no /sys")
    n, bad = 0, []
    for d, ds, fs in os.walk("/sys"):
        if d.count("/") > 6:
            ds[:] = []
        for f in fs:
            n += 1
            if n > 20000:
                break
            p = os.path.join(d, f)
            if os.access(p, os.W_OK) and can_open(p, os.O_WRONLY)[0] is not None:
                bad.append(p)
                if len(bad) > 3:
                    return escaped(" ".join(bad))
    return escaped(" ".join(bad)) if bad else blocked("%d files, none writable" % n)


@probe("fs.cgroup_write", "critical", "raise own limits or leave the cgroup through /sys/fs/cgroup", "no writable cgroup file")
def _():
    names = {"memory.max", "pids.max", "cpu.max", "cgroup.procs", "memory.limit_in_bytes", "release_agent", "tasks", "devices.allow", "notify_on_release", "cgroup.subtree_control", "cgroup.kill"}
    bad = []
    for d, ds, fs in os.walk("/sys/fs/cgroup"):
        if d.count("/") > 8:
            ds[:] = []
        for f in fs:
            if f in names:
                fd, e = can_open(os.path.join(d, f), os.O_WRONLY)
                if fd is not None:
                    os.close(fd)
                    bad.append(os.path.join(d, f))
    return escaped(" ".join(bad[:4])) if bad else blocked("nothing writable")


@probe("fs.cgroup_path_leak", "low", "host cgroup path in /proc/self/cgroup", "only '/' (cgroup namespace)")
def _():
    b, e = reads("/proc/self/cgroup", 65536)
    if b is None:
        return blocked(e)
    bad = [l for l in b.decode().splitlines() if l.split(":", 2)[2] not in ("/", "")]
    return escaped(bad[0]) if bad else blocked("/")


@probe("fs.host_paths", "critical", "host files: planted canary, /root, /home/*, sockets of docker/podman/systemd/dbus", "none exists or is readable")
def _():
    hits = []
    for p in ("/tmp/" + CANARY, "/root/.ssh", "/root/.bashrc", "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/user", "/host", "/mnt/host", "/var/lib/docker", "/var/lib/kubelet", "/var/run/secrets/kubernetes.io", "/etc/shadow"):
        try:
            os.stat(p)
            if p == "/etc/shadow":
                if reads(p)[0]:
                    hits.append(p)
            elif os.path.isdir(p):
                try:
                    os.listdir(p) and hits.append(p)
                except OSError:
                    pass
            else:
                if p == "/root/.bashrc" and reads(p)[0] is None:
                    continue
                hits.append(p)
        except OSError:
            pass
    if os.path.isdir("/home"):
        try:
            hits += ["/home/" + x for x in os.listdir("/home")]
        except OSError:
            pass
    hits = [h for h in hits if h != "/root/.bashrc"]
    return escaped(" ".join(hits)) if hits else blocked("none")


@probe("fs.unix_sockets", "critical", "search the file system for unix sockets or FIFOs", "none")
def _():
    hits = []
    for d, ds, fs in os.walk("/"):
        ds[:] = [x for x in ds if os.path.join(d, x) not in ("/proc", "/sys")]
        for f in fs:
            p = os.path.join(d, f)
            try:
                m = os.lstat(p).st_mode
            except OSError:
                continue
            if stat.S_ISSOCK(m) or stat.S_ISFIFO(m):
                hits.append(p)
    return escaped(" ".join(hits[:5])) if hits else blocked("none")


@probe("fs.mountinfo_paths", "low", "host paths in /proc/self/mountinfo, /proc/mounts", "no root field or overlay option that names a host directory")
def _():
    b, e = reads("/proc/self/mountinfo", 1 << 18)
    if b is None:
        return blocked(e)
    bad = []
    for l in b.decode().splitlines():
        f = l.split(" ")
        root, mp = f[3], f[4]
        fstype = f[f.index("-") + 1]
        if fstype in ("proc", "sysfs", "tmpfs", "devtmpfs", "mqueue", "devpts", "cgroup", "cgroup2") and not (fstype == "tmpfs" and root != "/"):
            continue
        if root != "/":
            bad.append("%s<-%s" % (mp, root))
        # a number of a descriptor, which is not of this process, names nothing
        bad += [o for o in re.findall(r"(?:lower|upper|work)dir[=+][^, ]*", l) if not re.fullmatch(r"lowerdir=/proc/self/fd/\d+(:/proc/self/fd/\d+)*", o)]
    return escaped(" ".join(bad)[:200]) if bad else blocked("no host path")


@probe("fs.mount_flags", "high", "writable mounts lacking noexec/nosuid/nodev; rw rootfs", "/ is ro; every rw tmpfs has noexec,nosuid,nodev")
def _():
    b, e = reads("/proc/self/mountinfo", 1 << 18)
    if b is None:
        return skip(e)
    bad = []
    for l in b.decode().splitlines():
        f = l.split(" ")
        mp, o, fstype = f[4], set(f[5].split(",")), f[f.index("-") + 1]
        if mp == "/" and "ro" not in o:
            bad.append("/ is rw")
        if "rw" in o and fstype in ("tmpfs", "ext4", "overlay", "xfs", "btrfs") and mp != "/" and not mp.startswith("/dev/"):
            miss = {"noexec", "nosuid", "nodev"} - o
            if mp == "/dev":
                miss -= {"nodev"}
            if miss and os.access(mp, os.W_OK):
                bad.append("%s lacks %s" % (mp, "+".join(sorted(miss))))
    return escaped("; ".join(bad[:4])) if bad else blocked("ok")


@probe("fs.tmpfs_caps", "high", "size and inode caps on every writable mount", "each <= 1 GiB and a finite inode count")
def _():
    out, bad = [], []
    for d in WRITABLE:
        try:
            s = os.statvfs(d)
        except OSError:
            continue
        mb = s.f_blocks * s.f_frsize >> 20
        out.append("%s=%dMiB/%din" % (d, mb, s.f_files))
        if mb > 1024 or mb == 0 or s.f_files == 0 or s.f_files > 2_000_000:
            bad.append(out[-1])
    return escaped(" ".join(bad)) if bad else blocked(" ".join(out))


@probe("fs.identity", "low", "host name, machine-id, boot_id, DMI ids", "host name differs; no machine-id; no DMI")
def _():
    bad = []
    if HOST.get("hostname") and os.uname().nodename == HOST["hostname"]:
        bad.append("hostname")
    for p in ("/etc/machine-id", "/var/lib/dbus/machine-id", "/sys/class/dmi/id/product_uuid", "/sys/class/dmi/id/board_serial", "/sys/class/dmi/id/product_name", "/etc/hostname"):
        b, e = reads(p)
        if b and b.strip() and (p != "/etc/hostname" or b.strip().decode() == HOST.get("hostname")):
            bad.append(p)
    return escaped(" ".join(bad)) if bad else blocked("nodename=%s" % os.uname().nodename)


@probe("fs.proc_leaks", "low", "host-wide files in /proc: cmdline, keys, timer_list, sched_debug, partitions, diskstats, swaps, interrupts, version_signature, config.gz, crypto, locks", "masked or empty")
def _():
    bad = []
    for n in ("cmdline", "keys", "key-users", "timer_list", "sched_debug", "partitions", "diskstats", "swaps", "interrupts", "softirqs", "vmallocinfo", "slabinfo", "iomem", "ioports", "config.gz", "crypto", "locks", "zoneinfo", "pagetypeinfo", "buddyinfo", "schedstat", "consoles", "misc", "mdstat", "fb", "latency_stats", "version_signature"):
        b, e = reads("/proc/" + n)
        if b and b.strip():
            bad.append(n)
    return escaped(" ".join(bad)) if bad else blocked("all masked")


@probe("fs.sys_leaks", "low", "host inventory in /sys: net devices, block devices, firmware, dmi", "only lo; no block devices; firmware masked")
def _():
    bad = []
    for p, ok in (("/sys/class/net", {"lo"}), ("/sys/block", set()), ("/sys/class/dmi/id", set()), ("/sys/firmware", set()), ("/sys/devices/virtual/powercap", set()), ("/sys/kernel/debug", set()), ("/sys/kernel/security", set()), ("/sys/module", set())):
        try:
            x = set(os.listdir(p)) - ok
            if x:
                bad.append("%s(%d)" % (p, len(x)))
        except OSError:
            pass
    return escaped(" ".join(bad)) if bad else blocked("nothing")


@probe("fs.rootfs_write", "critical", "create a file in /, /usr, /etc, /usr/lib/python3*, /opt, /var, /bin ...", "EROFS/EACCES everywhere")
def _():
    bad, why = [], {}
    dirs = ["/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/bin", "/lib", "/opt", "/var", "/var/lib", "/root", "/home", "/boot", "/mnt", "/media", "/proc", "/sys", "/dev"] + [p for p in sys.path if os.path.isdir(p) and p.startswith("/usr")]
    for d in dirs:
        p = os.path.join(d, ".probe-%d" % os.getpid())
        try:
            os.close(os.open(p, os.O_CREAT | os.O_WRONLY | os.O_EXCL))
            os.unlink(p)
            bad.append(d)
        except OSError as e:
            why[en(e)] = why.get(en(e), 0) + 1
    return escaped(" ".join(bad)) if bad else blocked(str(why))


@probe("fs.stdlib_write", "critical", "open the interpreter and a stdlib module for writing; chmod; utime; unlink; rename", "all fail")
def _():
    import json as j
    bad = []
    for p in (os.path.realpath(sys.executable), j.__file__, "/etc/passwd"):
        for what, f in (("open", lambda: os.close(os.open(p, os.O_RDWR))), ("chmod", lambda: os.chmod(p, 0o777)), ("utime", lambda: os.utime(p)), ("unlink", lambda: os.rename(p, p + "~"))):
            try:
                f()
                bad.append(what + " " + p)
            except OSError:
                pass
    return escaped(" ".join(bad)) if bad else blocked("all refused")


@probe("fs.self_exe_write", "critical", "overwrite /proc/self/exe and /proc/1/exe (CVE-2019-5736)", "ETXTBSY/EROFS/EACCES/EPERM")
def _():
    return try_write_open(["/proc/self/exe", "/proc/1/exe", "/proc/self/fd/0/../exe", "/proc/thread-self/exe"])


@probe("fs.pid1_exe_is_guest", "high", "is pid 1's executable a host binary?", "its path exists here with the same inode, or EACCES")
def _():
    try:
        t = os.readlink("/proc/1/exe")
        s = os.stat("/proc/1/exe")
    except OSError as e:
        return blocked(en(e))
    try:
        o = os.stat(t)
        same = (o.st_dev, o.st_ino) == (s.st_dev, s.st_ino)
    except OSError:
        same = False
    return blocked(t) if same else escaped("pid 1 runs %s which is not in this rootfs" % t)


@probe("fs.exec_noexec", "medium", "copy an ELF to every writable dir and execve it", "EACCES")
def _():
    src = next((p for p in ("/bin/true", "/usr/bin/true", os.path.realpath(sys.executable)) if os.path.exists(p)), None)
    data = open(src, "rb").read()
    bad, ok = [], []
    for d in WRITABLE:
        p = os.path.join(d, ".px%d" % os.getpid())
        try:
            with open(p, "wb") as f:
                f.write(data)
            os.chmod(p, 0o755)
        except OSError as e:
            ok.append("%s:%s" % (d, en(e)))
            continue
        pid = os.fork()
        if pid == 0:
            try:
                os.execv(p, [p, "-c", "pass"])
            except OSError as e:
                os._exit(100 if e.errno == errno.EACCES else 101)
        c = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.unlink(p)
        (ok if c in (100, 101) else bad).append("%s:%s" % (d, c))
    return escaped(" ".join(bad)) if bad else blocked(" ".join(ok))


@probe("fs.ldso_noexec", "medium", "run an ELF from a noexec mount through ld.so", "ld.so cannot map it")
def _():
    ld = next((p for p in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1") if os.path.exists(p)), None)
    # Python itself where the image has no true: without arguments, and with /dev/null for its script, it ends with 0.
    src = next((p for p in ("/bin/true", "/usr/bin/true", os.path.realpath(sys.executable)) if os.path.exists(p)), None)
    if not ld or not src:
        return skip("no ld.so or true")
    p = os.path.join(W, ".pl%d" % os.getpid())
    with open(p, "wb") as f:
        f.write(open(src, "rb").read())
    pid = os.fork()
    if pid == 0:
        n = os.open("/dev/null", os.O_RDWR)
        os.dup2(n, 0)
        os.dup2(n, 2)
        try:
            os.execv(ld, [ld, p])
        except OSError:
            os._exit(99)
    c = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.unlink(p)
    return escaped("ran") if c == 0 else blocked("exit %d" % c)


@probe("fs.exec_memfd", "low", "execve an anonymous memfd (native code without a file)", "EACCES/EPERM/ENOSYS; info only: Python can run machine code anyway")
def _():
    if not hasattr(os, "memfd_create"):
        return skip("no memfd_create")
    src = next((p for p in ("/bin/true", "/usr/bin/true") if os.path.exists(p)), None)
    try:
        fd = os.memfd_create("x", 0)
        os.write(fd, open(src, "rb").read())
    except OSError as e:
        return blocked(en(e))
    pid = os.fork()
    if pid == 0:
        try:
            os.execve(fd, ["x"], {})
        except OSError:
            os._exit(99)
    c = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return escaped("ran") if c == 0 else blocked("exit %d" % c)


@probe("fs.setuid_exec", "critical", "setuid-root binaries: exec one and look at the effective uid", "no change of uid (no_new_privs)")
def _():
    found = []
    for d in ("/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/lib", "/usr/libexec"):
        for r, ds, fs in os.walk(d):
            for f in fs:
                try:
                    s = os.lstat(os.path.join(r, f))
                except OSError:
                    continue
                if stat.S_ISREG(s.st_mode) and s.st_mode & 0o6000:
                    found.append(os.path.join(r, f))
    nnp = status_fields().get("NoNewPrivs")
    if nnp == "1":
        return blocked("%d set-id files, inert under no_new_privs" % len(found))
    return escaped("NoNewPrivs=%s, set-id: %s" % (nnp, " ".join(found[:4]))) if found else blocked("none, but NoNewPrivs=%s" % nnp)


@probe("fs.mknod", "critical", "create block/char device nodes (8:0, 1:1, 254:0) in writable dirs", "EPERM")
def _():
    bad, why = [], set()
    for d in WRITABLE:
        for k, (ma, mi) in ((stat.S_IFBLK, (8, 0)), (stat.S_IFBLK, (254, 0)), (stat.S_IFCHR, (1, 1)), (stat.S_IFCHR, (10, 229))):
            p = os.path.join(d, ".pn%d" % os.getpid())
            try:
                os.mknod(p, 0o666 | k, os.makedev(ma, mi))
                fd, e = can_open(p, os.O_RDONLY)
                (bad if fd is not None else why).append(d) if fd is not None else why.add(e)
                os.unlink(p)
            except OSError as e:
                why.add(en(e))
    return escaped(" ".join(bad)) if bad else blocked(",".join(sorted(why)))


@probe("fs.dev_nodes", "high", "device nodes beyond null/zero/full/random/urandom/tty/ptmx/pts", "no other openable device")
def _():
    okset = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)}
    bad = []
    for d, ds, fs in os.walk("/dev"):
        for f in fs:
            p = os.path.join(d, f)
            try:
                s = os.stat(p)
            except OSError:
                continue
            if stat.S_ISCHR(s.st_mode) or stat.S_ISBLK(s.st_mode):
                mm = (os.major(s.st_rdev), os.minor(s.st_rdev))
                if mm in okset or 136 <= mm[0] <= 143:
                    continue
                if can_open(p, os.O_RDONLY)[0] is not None or can_open(p, os.O_WRONLY)[0] is not None:
                    bad.append(p)
    return escaped(" ".join(bad)) if bad else blocked(" ".join(sorted(os.listdir("/dev")))[:160])


@probe("fs.dev_null_write", "medium", "chmod/unlink/rename/chown the shared /dev/null inode", "all fail and mode stays 0666")
def _():
    s0 = os.stat("/dev/null")
    bad = []
    # every call sets what is already there, so that a hit does not change the host's inode
    for w, f in (("chmod", lambda: os.chmod("/dev/null", stat.S_IMODE(s0.st_mode))), ("chown", lambda: os.chown("/dev/null", s0.st_uid, s0.st_gid)), ("utime", lambda: os.utime("/dev/null", ns=(s0.st_atime_ns, s0.st_mtime_ns))), ("rename", lambda: os.rename("/dev/null", "/dev/null")), ("create", lambda: os.close(os.open("/dev/x", os.O_CREAT | os.O_WRONLY)))):
        try:
            f()
            if w != "rename":
                bad.append(w)
        except OSError:
            pass
    return escaped(" ".join(bad)) if bad else blocked("immutable")


@probe("fs.symlink_magic", "critical", "symlinks in a writable dir to /proc/1/root, /proc/self/fd/*/.. and O_PATH tricks", "resolve inside the sandbox only")
def _():
    me = os.stat("/")
    p = os.path.join(W, ".ps%d" % os.getpid())
    bad = []
    for t in ["/proc/1/root", "/proc/1/cwd"] + ["/proc/self/fd/%d/../../../../.." % i for i in range(0, 12)] + ["/proc/1/fd/%d" % i for i in range(3, 12)]:
        try:
            os.symlink(t, p)
            s = os.stat(p + "/")
            if stat.S_ISDIR(s.st_mode):
                # a directory that is not reachable by walking from /
                r = os.path.realpath(p)
                try:
                    o = os.stat(r)
                    if (o.st_dev, o.st_ino) != (s.st_dev, s.st_ino):
                        bad.append(t)
                except OSError:
                    bad.append(t)
        except OSError:
            pass
        finally:
            try:
                os.unlink(p)
            except OSError:
                pass
    return escaped(" ".join(bad)) if bad else blocked("inside")


@probe("fs.open_by_handle_at", "critical", "open an inode by handle (the 2014 'shocker' escape)", "EPERM/ENOSYS")
def _():
    h = struct.pack("Ii", 8, 1) + struct.pack("II", 2, 0)
    fd = os.open("/", os.O_RDONLY)
    return deny("open_by_handle_at", fd, ctypes.create_string_buffer(h) if ctypes else b"", 0)


@probe("fs.hardlink", "medium", "hard-link a rootfs file into a writable dir", "EXDEV/EPERM/EROFS")
def _():
    p = os.path.join(W, ".ph%d" % os.getpid())
    try:
        os.link("/etc/passwd", p)
    except OSError as e:
        return blocked(en(e))
    os.unlink(p)
    return escaped("linked")


@probe("fs.proc_pid1_mem", "high", "open /proc/1/mem, /proc/1/maps, /proc/1/syscall of another process", "EACCES/EPERM (or pid 1 is this process)")
def _():
    if os.getpid() == 1 or os.getppid() == 1 and status_fields().get("Name", "").startswith("python") and (reads("/proc/1/comm")[0] or b"").startswith(b"python"):
        return blocked("pid 1 is the same interpreter: nothing to gain")
    for f, fl in (("mem", os.O_RDWR), ("maps", os.O_RDONLY), ("auxv", os.O_RDONLY)):
        fd, e = can_open("/proc/1/" + f, fl)
        if fd is not None:
            try:
                if f == "mem" or os.read(fd, 10):
                    return escaped("/proc/1/" + f)
            except OSError:
                pass
    return blocked("closed")


@probe("fs.proc_rw_via_thread_self", "medium", "reach masked /proc entries by another path (/proc/self/root/proc, /proc/1/root/proc, task/)", "masks hold on every path")
def _():
    for base in ("/proc/self/root/proc/", "/proc/1/root/proc/", "/proc/thread-self/root/proc/", "/proc/self/task/%d/root/proc/" % os.getpid()):
        for n in ("kcore", "keys", "timer_list"):
            b, e = reads(base + n)
            a, _e = reads("/proc/" + n)
            if b and not a:
                return escaped(base + n)
        if can_open(base + "sys/kernel/core_pattern", os.O_WRONLY)[0] is not None or can_open(base + "sysrq-trigger", os.O_WRONLY)[0] is not None:
            return escaped(base)
    return blocked("hold")


# ================================================================= namespaces, mounts
NSFLAG = {"user": 0x10000000, "mnt": 0x20000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x8000000, "uts": 0x4000000, "cgroup": 0x2000000, "time": 0x80}
for _n, _f in NSFLAG.items():
    def _mk(n, f):
        @probe("ns.unshare_" + n, "high", "unshare(CLONE_NEW%s)" % n.upper(), "EPERM/ENOSYS/ENOSPC")
        def _():
            return deny("unshare", f)
    _mk(_n, _f)


@probe("ns.unshare_user_combo", "high", "unshare(NEWUSER|NEWNS|NEWNET) in one call", "fails")
def _():
    return deny("unshare", 0x10000000 | 0x20000 | 0x40000000)


@probe("ns.clone_newuser", "high", "raw clone(CLONE_NEWUSER|SIGCHLD)", "fails")
def _():
    r, e = sysc("clone", 0x10000000 | 17, 0, 0, 0, 0)
    if r == 0:
        os._exit(0)
    return blocked(en(e)) if r == -1 else escaped("child %d" % r)


@probe("ns.clone3_newuser", "high", "clone3 with CLONE_NEWUSER (arguments a filter cannot see)", "ENOSYS (so libc falls back to clone) or EPERM")
def _():
    buf = ctypes.create_string_buffer(struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64) if ctypes else b""
    r, e = sysc("clone3", buf, 64)
    if r == 0:
        os._exit(0)
    return blocked(en(e)) if r == -1 else escaped("child %d" % r)


@probe("ns.clone3_hidden", "medium", "clone3 at all (plain fork) - is it filtered?", "ENOSYS, because a seccomp filter cannot look at its flags")
def _():
    r, e = sysc("clone3", None, 0)
    return blocked("ENOSYS") if e == errno.ENOSYS else escaped("answered %s" % en(e))


@probe("ns.setns_pid1", "high", "setns to /proc/1/ns/* and a pidfd of 1", "fails, or it is our own namespace")
def _():
    bad, why = [], set()
    for n in ("user", "mnt", "net", "pid", "ipc", "uts", "cgroup"):
        fd, e = can_open("/proc/1/ns/" + n, os.O_RDONLY)
        if fd is None:
            why.add(e)
            continue
        r, e = sysc("setns", fd, 0)
        if r == -1:
            why.add(en(e))
        elif os.stat("/proc/1/ns/" + n).st_ino != os.stat("/proc/self/ns/" + n).st_ino:
            bad.append(n)
    return escaped(" ".join(bad)) if bad else blocked(",".join(sorted(why)))


@probe("ns.all_private", "critical", "namespaces shared with the host (needs HOST.ns from the driver)", "every ns inode differs from the host's")
def _():
    mine = {n: os.readlink("/proc/self/ns/" + n) for n in ("user", "mnt", "net", "pid", "ipc", "uts", "cgroup")}
    h = HOST.get("ns")
    if not h:
        init = {"user": "user:[4026531837]", "uts": "uts:[4026531838]", "ipc": "ipc:[4026531839]", "pid": "pid:[4026531836]", "cgroup": "cgroup:[4026531835]"}
        shared = [k for k in init if mine[k] == init[k]]
    else:
        shared = [k for k in mine if mine[k] == h.get(k)]
    return escaped("shared: " + " ".join(shared)) if shared else blocked("all private")


MOUNTS = [("tmpfs", b"none", b"/tmp", b"tmpfs", 0), ("bind", b"/", b"/mnt", None, 4096), ("proc", b"proc", b"/proc", b"proc", 0), ("remount_rw", b"none", b"/", None, 32 | 4096), ("sysfs", b"sysfs", b"/sys", b"sysfs", 0), ("cgroup2", b"none", b"/tmp", b"cgroup2", 0), ("propagation", b"none", b"/", None, 1 << 20), ("move", b"/proc/sys", b"/tmp", None, 8192)]
for _m in MOUNTS:
    def _mk(m):
        @probe("ns.mount_" + m[0], "critical", "mount(2): " + m[0], "EPERM/ENOSYS")
        def _():
            return deny("mount", m[1], m[2], m[3], m[4], None)
    _mk(_m)


@probe("ns.umount_masks", "critical", "umount the masks over /proc/kcore, /proc/sys, /proc/keys (plain and MNT_DETACH)", "EPERM/EINVAL/ENOSYS")
def _():
    bad, why = [], set()
    for t in (b"/proc/kcore", b"/proc/sys", b"/proc/keys", b"/proc/timer_list", b"/proc/acpi", b"/proc", b"/dev", b"/tmp"):
        r, e = sysc("umount2", t, 2)
        why.add(en(e)) if r == -1 else bad.append(t.decode())
    return escaped(" ".join(bad)) if bad else blocked(",".join(sorted(why)))


for _nm, _a in (("fsopen", (b"tmpfs", 0)), ("open_tree", (-100, b"/", 1)), ("fsmount", (-1, 0, 0)), ("fsconfig", (-1, 0, None, None, 0)), ("fspick", (-100, b"/", 0)), ("move_mount", (-1, b"", -100, b"/tmp", 4)), ("mount_setattr", (-1, b"", 0x1000, None, 32))):
    def _mk(nm, a):
        @probe("ns." + nm, "high", "new mount API: " + nm, "EPERM/ENOSYS from the filter")
        def _():
            return surface(nm, *a)
    _mk(_nm, _a)


@probe("ns.chroot", "high", "chroot to a writable dir (the classic double-chroot escape)", "EPERM/ENOSYS")
def _():
    return deny("chroot", W.encode())


@probe("ns.pivot_root", "high", "pivot_root", "EPERM/ENOSYS")
def _():
    return surface("pivot_root", b".", b".")


@probe("ns.sethostname", "medium", "sethostname / setdomainname", "EPERM/ENOSYS")
def _():
    n, d = os.uname().nodename.encode(), b"(none)"  # same values: a hit changes nothing
    r, e = sysc("sethostname", n, len(n))
    r2, e2 = sysc("setdomainname", d, len(d))
    return blocked(en(e)) if r == r2 == -1 else escaped("changed")


# ================================================================= privilege
@probe("priv.caps_zero", "critical", "capability sets of this process", "Inh, Prm, Eff, Bnd and Amb are all zero")
def _():
    s = status_fields()
    bad = ["%s=%s" % (k, s[k].lstrip("0")) for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(s.get(k, "0"), 16)]
    return escaped(" ".join(bad)) if bad else blocked("zero")


@probe("priv.no_new_privs", "critical", "no_new_privs", "NoNewPrivs: 1")
def _():
    v = status_fields().get("NoNewPrivs")
    return blocked("1") if v == "1" else escaped("NoNewPrivs=%s" % v)


@probe("priv.seccomp_on", "critical", "seccomp mode", "Seccomp: 2 with >=1 filter")
def _():
    s = status_fields()
    return blocked("mode 2, %s filters" % s.get("Seccomp_filters")) if s.get("Seccomp") == "2" else escaped("Seccomp=%s" % s.get("Seccomp"))


@probe("priv.uid", "high", "who am I", "uid=gid=65534, no supplementary groups")
def _():
    u = (os.getresuid(), os.getresgid(), os.getgroups())
    ok = set(u[0]) == {65534} and set(u[1]) == {65534} and set(u[2]) <= {65534}
    return blocked("65534") if ok else escaped(str(u))


@probe("priv.uid_map", "high", "is the mapped host id root, or the whole id space?", "no mapping onto host uid 0, no identity map")
def _():
    bad, out = [], []
    for f in ("uid_map", "gid_map"):
        rows = [tuple(map(int, l.split())) for l in open("/proc/self/" + f)]
        out.append("%s=%s" % (f, rows))
        # a one-id map onto "0" is host root only if the host user is root (else it is the parent namespace's root)
        if not rows or any(n >= 4294967295 or o <= 0 < o + n and (n > 1 or HOST.get("uid", 0) == 0) for i, o, n in rows):
            bad.append("%s %s" % (f, rows))
    return escaped("; ".join(bad)) if bad else blocked(" ".join(out))


@probe("priv.host_uid_shared", "medium", "does this process run under the host user's own kernel uid? (needs HOST.uid)", "the outside uid of this process differs from the host user's")
def _():
    me = os.getuid()
    outside = None
    for l in open("/proc/self/uid_map"):
        i, o, n = map(int, l.split())
        if i <= me < i + n:
            outside = o + me - i
    h = HOST.get("uid")
    if h is None:
        return skip("outside uid (one level up)=%s, HOST.uid unknown" % outside)
    if outside == 0 and h != 0:
        return skip("nested user namespace: outside=0 is the parent's root; the host must look at the kernel uid (stat /proc/PID)")
    return escaped("same kernel uid %s as the host user" % h) if outside == h else blocked("outside=%s host=%s" % (outside, h))


@probe("priv.setuid0", "critical", "setuid(0)/setresuid/setgid(0)/setgroups", "EPERM/EINVAL")
def _():
    bad, why = [], set()
    for n, f in (("setgroups", lambda: os.setgroups([0])), ("setgid", lambda: os.setgid(0)), ("setresgid", lambda: os.setresgid(0, 0, 0)), ("setuid", lambda: os.setuid(0)), ("setresuid", lambda: os.setresuid(0, 0, 0)), ("seteuid", lambda: os.seteuid(0))):
        try:
            f()
            bad.append(n)
        except OSError as e:
            why.add(en(e))
    return escaped(" ".join(bad)) if bad else blocked(",".join(sorted(why)))


@probe("priv.capset", "critical", "capset all capabilities; raise an ambient one", "EPERM")
def _():
    if ctypes is None:
        return skip("no ctypes")
    h = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    d = ctypes.create_string_buffer(struct.pack("6I", *([0xffffffff, 0xffffffff, 0xffffffff, 0x1ff, 0x1ff, 0x1ff])))
    r, e = sysc("capset", h, d)
    a = LIBC.prctl(47, 2, 21, 0, 0)
    return escaped("capset=%d ambient=%d" % (r, a)) if r == 0 or a == 0 else blocked(en(e))


@probe("priv.ptrace", "high", "ptrace(SEIZE) pid 1, parent, and a child", "EPERM/ENOSYS from the filter")
def _():
    pid = os.fork()
    if pid == 0:
        time.sleep(3)
        os._exit(0)
    res = {}
    for n, t in (("pid1", 1), ("ppid", os.getppid()), ("child", pid)):
        r, e = sysc("ptrace", 0x4206, t, 0, 0)
        res[n] = "OK" if r == 0 else en(e)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return escaped(str(res)) if "OK" in res.values() else blocked(str(res))


@probe("priv.process_vm", "high", "process_vm_readv/writev on pid 1 and ppid", "EPERM/ENOSYS from the filter")
def _():
    a = surface("process_vm_readv", 1 if os.getpid() != 1 else os.getpid(), None, 0, None, 0, 0xff)
    b = surface("process_vm_writev", os.getpid(), None, 0, None, 0, 0xff)
    return a if a[0] == "ESCAPED" else b


@probe("priv.pidfd_getfd", "high", "steal a descriptor of pid 1 with pidfd_getfd", "EPERM/ENOSYS")
def _():
    r, e = sysc("pidfd_open", 1, 0)
    if r == -1:
        return blocked("pidfd_open " + en(e))
    r2, e2 = sysc("pidfd_getfd", r, 0, 0)
    return escaped("fd %d" % r2) if r2 >= 0 and os.getpid() != 1 else blocked(en(e2))


@probe("priv.kcmp", "low", "kcmp (kernel pointer ordering)", "EPERM/ENOSYS")
def _():
    return surface("kcmp", os.getpid(), os.getpid(), 99, 0, 0)


@probe("priv.kill_outside", "critical", "signal host pids (HOST.pid, ppid, 1..300, -1)", "ESRCH/EPERM for all but our own")
def _():
    tgt = [HOST["pid"]] if HOST.get("pid") else []
    mine = {int(p) for p in os.listdir("/proc") if p.isdigit()}
    hit = []
    for p in tgt + [p for p in range(2, 300) if p not in mine]:
        try:
            os.kill(p, 0)
            if not os.path.exists("/proc/%d/status" % p):  # (a thread id of a visible process has one)
                hit.append(p)
        except OSError:
            pass
    return escaped(str(hit)) if hit else blocked("none reachable")


@probe("priv.rlimits_raise", "high", "raise hard rlimits of self", "EPERM; and NOFILE, FSIZE, NPROC or pids cgroup, CORE are finite")
def _():
    import resource as R
    bad = []
    for n in ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_MEMLOCK", "RLIMIT_CORE", "RLIMIT_RTPRIO", "RLIMIT_NICE", "RLIMIT_MSGQUEUE", "RLIMIT_SIGPENDING"):
        k = getattr(R, n, None)
        if k is None:
            continue
        s, h = R.getrlimit(k)
        if h == R.RLIM_INFINITY:
            if n in ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_MEMLOCK", "RLIMIT_FSIZE"):
                bad.append(n + "=unlimited")
            continue
        try:
            R.setrlimit(k, (s, h + 1))
            bad.append(n + " raised")
        except (OSError, ValueError):
            pass
    return escaped(" ".join(bad)) if bad else blocked("all fixed")


@probe("priv.sched", "medium", "SCHED_FIFO, negative nice, RT ioprio, mlockall", "EPERM")
def _():
    bad = []
    for n, f in (("fifo", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))), ("nice", lambda: os.setpriority(os.PRIO_PROCESS, 0, -10))):
        try:
            f()
            bad.append(n)
        except OSError:
            pass
    try:
        if sysc("ioprio_set", 1, 0, (1 << 13) | 0)[0] == 0:
            bad.append("ioprio-rt")
        if sysc("mlockall", 3)[0] == 0:
            bad.append("mlockall")
    except NoRaw:
        pass
    return escaped(" ".join(bad)) if bad else blocked("refused")


# ================================================================= kernel attack surface
SURF = [
    ("bpf", (9999, None, 0), "high"), ("perf_event_open", (None, 0, -1, -1, 0), "high"),
    ("io_uring_setup", (0, None), "critical"), ("io_uring_enter", (-1, 0, 0, 0, None, 0), "high"), ("io_uring_register", (-1, 0, None, 0), "high"),
    ("userfaultfd", (0xffff0000,), "high"), ("keyctl", (9999, 0, 0, 0, 0), "high"), ("add_key", (None, None, None, 0, 0), "high"), ("request_key", (None, None, None, 0), "high"),
    ("kexec_load", (0, 99999, None, 0), "high"), ("kexec_file_load", (-1, -1, 0, None, 0xffff), "high"),
    ("init_module", (None, 0, None), "high"), ("finit_module", (-1, None, 0xffff), "high"), ("delete_module", (None, 0), "high"),
    ("name_to_handle_at", (-1, None, None, None, 0xffff), "medium"), ("fanotify_init", (0xffffffff, 0), "medium"),
    ("move_pages", (0, 1, None, None, None, 0xffff), "medium"), ("migrate_pages", (-5, 0, None, None), "medium"),
    ("process_madvise", (-1, None, 0, 0, 0xff), "medium"), ("process_mrelease", (-1, 0xff), "medium"),
    ("seccomp", (99, 0, None), "low"), ("vmsplice", (-1, None, 0, 0xffff), "medium"), ("memfd_secret", (0xffff,), "low"),
    ("uselib", (None,), "low"), ("ustat", (0xffff, None), "low"), ("sysfs", (99, 0, 0), "low"), ("_sysctl", (None,), "low"), ("remap_file_pages", (1, 0, 1, 0, 0), "low"),
    ("lookup_dcookie", (0, None, 0), "low"), ("acct", (b"/nonexistent/x",), "high"), ("swapon", (b"/nonexistent/x", 0), "high"), ("swapoff", (b"/nonexistent/x",), "high"),
    ("reboot", (0xfee1dead, 1, 0, None), "critical"), ("settimeofday", (None, None), "high"), ("clock_settime", (999, None), "high"), ("clock_adjtime", (999, None), "medium"),
    ("iopl", (9,), "high"), ("ioperm", (0, 0, 9), "high"), ("quotactl", (0xffff, None, 0, None), "medium"), ("quotactl_fd", (-1, 0, 0, None), "medium"),
    ("nfsservctl", (99, None, None), "low"), ("vhangup", (), "medium"), ("modify_ldt", (99, None, 0), "medium"), ("ptrace", (0x9999, -1, 0, 0), "high"),
    ("lsm_set_self_attr", (100, None, 0, 0xff), "medium"), ("set_mempolicy_home_node", (1, 0, 0, 0xff), "low"), ("mbind", (1, 0, 99, None, 0, 0), "low"), ("set_mempolicy", (99, None, 0), "low"),
    ("create_module", (None, 0), "low"), ("get_kernel_syms", (None,), "low"), ("query_module", (None, 0, None, 0, None), "low"), ("statmount", (None, None, 0, 0xff), "low"), ("listmount", (None, None, 0, 0xff), "low"),
    ("map_shadow_stack", (1, 0, 0xffff), "low"),
]
for _s in SURF:
    def _mk(s):
        @probe("sys." + s[0], s[2], "reach %s(2) in the kernel" % s[0], "EPERM/ENOSYS from the filter (EINVAL/EFAULT/... means reachable); killed by SIGSYS also passes")
        def _():
            return surface(s[0], *s[1])
    _mk(_s)


@probe("sys.io_uring_works", "critical", "actually create an io_uring (bypasses seccomp for I/O)", "fails")
def _():
    p = ctypes.create_string_buffer(120) if ctypes else b""
    return deny("io_uring_setup", 4, p)


@probe("sys.userfaultfd_works", "high", "actually create a userfaultfd (also /dev/userfaultfd)", "fails")
def _():
    r, e = sysc("userfaultfd", 0x80000 | 1)
    if r >= 0:
        return escaped("fd %d (user-mode only)" % r)
    fd, _e = can_open("/dev/userfaultfd", os.O_RDWR)
    return escaped("/dev/userfaultfd") if fd is not None else blocked(en(e))


@probe("sys.keyring_search", "high", "kernel keyrings: session/user keyring of the host user", "keyctl fails, or no canary key is found")
def _():
    r, e = sysc("keyctl", 0, -3, 0)
    if r == -1:
        return blocked("keyctl " + en(e))
    for ring in (-1, -2, -3, -4, -5):
        k, e = sysc("keyctl", 10, ring, b"user", CANARY.encode(), 0)
        if k > 0:
            return escaped("found key %d in ring %d" % (k, ring))
    k, e = sysc("add_key", b"user", b"probe-xrun", b"x", 1, -4)
    return escaped("keyring writable (user keyring shared by uid)" if k > 0 else "keyctl reachable, session keyring id %d" % r)


@probe("sys.personality", "medium", "personality(READ_IMPLIES_EXEC|ADDR_NO_RANDOMIZE)", "fails (query 0xffffffff may pass)")
def _():
    return deny("personality", 0x0400000 | 0x0040000)


@probe("sys.x32_abi", "high", "x32 system call numbers (nr | 0x40000000) to dodge the filter", "ENOSYS/EPERM/SIGSYS")
def _():
    if MACH != "x86_64":
        return skip(MACH)
    if LIBC is None:
        raise NoRaw("no ctypes")
    ctypes.set_errno(0)
    r = LIBC.syscall(ctypes.c_long(0x40000000 | 39))
    e = ctypes.get_errno()
    return blocked(en(e)) if r == -1 else escaped("x32 getpid() = %d" % r)


@probe("sys.ia32_abi", "high", "32-bit int 0x80 system calls (socketcall, other numbers) from machine code", "SIGSYS/SIGSEGV/ENOSYS/EPERM")
def _():
    if MACH != "x86_64":
        return skip(MACH)
    if ctypes is None:
        raise NoRaw("no ctypes")
    import mmap
    code = b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3"  # push rbx; mov eax,20(getpid); int 0x80; pop rbx; ret
    m = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    m.write(code)
    fn = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))
    r = fn()
    return blocked("ret %d" % r) if r < 0 else escaped("int80 getpid() = %d" % r)


@probe("sys.filter_add", "low", "can the guest add further seccomp filters / listeners (NEW_LISTENER)?", "no new listener fd (harmless for the host, but more surface)")
def _():
    if ctypes is None:
        raise NoRaw("no ctypes")
    prog = struct.pack("HBBI", 6, 0, 0, 0x7fff0000)
    b = ctypes.create_string_buffer(prog)
    f = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(b)))
    r, e = sysc("seccomp", 1, 8, f)
    return blocked(en(e)) if r == -1 else escaped("listener fd %d" % r)


@probe("sys.dumpable_pdeath", "medium", "prctl(PR_SET_PDEATHSIG,0): disarm the kill-me-if-the-host-dies signal", "EPERM, or none was set / pid 1 is a separate trusted process")
def _():
    if ctypes is None:
        raise NoRaw("no ctypes")
    v = ctypes.c_int(0)
    LIBC.prctl(2, ctypes.byref(v), 0, 0, 0)
    r = LIBC.prctl(1, 0, 0, 0, 0)
    if v.value and r == 0:
        return escaped("was %d, now 0" % v.value)
    return blocked("pdeathsig=%d set(0)=%d" % (v.value, r))


# ================================================================= network
FAM = [("NETLINK_ROUTE", 16, 3, 0, "medium"), ("NETLINK_XFRM", 16, 3, 6, "medium"), ("NETLINK_NETFILTER", 16, 3, 12, "medium"), ("NETLINK_UEVENT", 16, 3, 15, "medium"), ("NETLINK_AUDIT", 16, 3, 9, "medium"), ("NETLINK_CRYPTO", 16, 3, 21, "medium"),
       ("AF_PACKET", 17, 3, 0x0300, "high"), ("AF_ALG", 38, 5, 0, "critical"), ("AF_VSOCK", 40, 1, 0, "high"), ("AF_RXRPC", 33, 2, 2, "critical"), ("AF_KEY", 15, 3, 2, "high"), ("AF_XDP", 44, 3, 0, "high"),
       ("AF_TIPC", 30, 5, 0, "high"), ("AF_BLUETOOTH", 31, 3, 1, "high"), ("AF_CAN", 29, 3, 1, "medium"), ("AF_RDS", 21, 5, 0, "high"), ("AF_PPPOX", 24, 1, 0, "medium"), ("AF_LLC", 26, 1, 0, "medium"), ("AF_X25", 9, 5, 0, "low"),
       ("AF_AX25", 3, 5, 0, "low"), ("AF_NFC", 39, 5, 0, "medium"), ("AF_SMC", 43, 1, 0, "high"), ("AF_QIPCRTR", 42, 2, 0, "medium"), ("AF_KCM", 41, 5, 0, "medium"), ("AF_MCTP", 45, 2, 0, "low"), ("AF_IEEE802154", 36, 3, 0, "low"), ("AF_PHONET", 35, 2, 0, "low"), ("AF_IB", 27, 1, 0, "low"), ("AF_APPLETALK", 5, 2, 0, "low"),
       ("RAW_ICMP", 2, 3, 1, "high"), ("SCTP", 2, 1, 132, "high"), ("MPTCP", 2, 1, 262, "medium"), ("DCCP", 2, 6, 33, "high"), ("UDPLITE", 2, 2, 136, "medium"), ("PING", 2, 2, 1, "medium"), ("L2TP", 2, 2, 115, "medium")]
for _f in FAM:
    def _mk(f):
        @probe("net.sock_" + f[0].lower(), f[4], "socket(%d,%d,%d) %s" % (f[1], f[2], f[3], f[0]), "cannot be created")
        def _():
            try:
                s = socket.socket(f[1], f[2], f[3])
            except OSError as e:
                return blocked(en(e))
            s.close()
            return escaped("socket created")
    _mk(_f)


@probe("net.interfaces", "critical", "network interfaces", "none or only lo")
def _():
    try:
        names = [l.split(":")[0].strip() for l in open("/proc/self/net/dev") if ":" in l]
    except OSError as e:
        names = []
    bad = [n for n in names if n not in ("lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0", "dummy0", "teql0")]
    return escaped(" ".join(bad)) if bad else blocked(" ".join(names) or "none")


@probe("net.route_out", "critical", "UDP connect to TEST-NET 192.0.2.1 and 2001:db8::1 (no packet is sent): is there a route?", "no socket or ENETUNREACH")
def _():
    res = []
    for fam, a in ((socket.AF_INET, ("192.0.2.1", 9)), (socket.AF_INET6, ("2001:db8::1", 9))):
        try:
            s = socket.socket(fam, socket.SOCK_DGRAM)
            s.connect(a)
            return escaped("route to " + a[0])
        except OSError as e:
            res.append(en(e))
    return blocked(",".join(res))


@probe("net.host_loopback", "critical", "TCP to the host's 127.0.0.1:HOST.tcp_port (planted listener), ::1, 10.0.2.2", "no socket, refused or unreachable")
def _():
    res = []
    port = HOST.get("tcp_port", 45871)
    for fam, a in ((socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port)), (socket.AF_INET, ("10.0.2.2", port))):
        try:
            s = socket.socket(fam, socket.SOCK_STREAM)
            s.settimeout(1)
            s.connect(a)
            return escaped("connected to %s:%d" % a)
        except OSError as e:
            res.append(en(e) if e.errno else "timeout")
    return blocked(",".join(res))


@probe("net.inet_socket", "low", "is AF_INET/AF_INET6 creatable at all (tight policy: no)", "EPERM/EACCES/EAFNOSUPPORT")
def _():
    ok = []
    for n, fam in (("inet", socket.AF_INET), ("inet6", socket.AF_INET6)):
        try:
            socket.socket(fam, socket.SOCK_STREAM).close()
            ok.append(n)
        except OSError:
            pass
    return escaped(" ".join(ok)) if ok else blocked("none")


@probe("net.abstract_host", "critical", "connect to the host's abstract unix socket (planted) and to those in /proc/net/unix", "ECONNREFUSED/EPERM: other network namespace")
def _():
    names = [HOST.get("abstract", CANARY), "/tmp/.X11-unix/X0", "/tmp/dbus-probe"]
    try:
        names += [l.split()[-1][1:] for l in open("/proc/net/unix") if l.split()[-1].startswith("@")]
    except OSError:
        pass
    res = set()
    for n in names:
        try:
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            s.settimeout(1)
            s.connect("\0" + n)
            return escaped("connected to @" + n)
        except OSError as e:
            res.add(en(e) if e.errno else "timeout")
    return blocked(",".join(sorted(res)))


@probe("net.unix_socket_new", "info", "AF_UNIX socket()/socketpair() - asyncio and multiprocessing need socketpair", "socketpair works; socket(AF_UNIX) may be denied")
def _():
    out = []
    try:
        a, b = socket.socketpair()
        out.append("socketpair ok")
    except OSError as e:
        return escaped("socketpair %s: asyncio will break" % en(e))
    try:
        socket.socket(socket.AF_UNIX).close()
        out.append("socket(AF_UNIX) ok")
    except OSError as e:
        out.append("socket(AF_UNIX) " + en(e))
    return blocked("; ".join(out))


@probe("net.stdio_sockets", "high", "are fds 0/1/2 or extra fds sockets that reach the host (SO_PEERCRED, SCM_RIGHTS)?", "pipes, or sockets whose peer pid is not visible")
def _():
    out = []
    for fd in list(range(0, 3)) + HOST.get("allowed_fds", []):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                s = socket.socket(fileno=os.dup(fd))
                c = struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                out.append("fd%d fam=%d peer pid=%d uid=%d" % (fd, s.family, c[0], c[1]))
                if s.family != socket.AF_UNIX or c[0] not in (0, os.getpid()):
                    return escaped(out[-1])
        except OSError:
            pass
    return blocked("; ".join(out) or "pipes")


# ================================================================= IPC
@probe("ipc.sysv_shm", "high", "attach the host's SysV segment (planted key) and list segments", "ENOENT/ENOSYS; nothing of the host listed")
def _():
    key = HOST.get("shm_key", 0x50524F42)
    r, e = sysc("shmget", key, 0, 0)
    if r >= 0:
        return escaped("shmget -> %d" % r)
    b, _e = reads("/proc/sysvipc/shm")
    n = len((b or b"").splitlines())
    return escaped("%d segments visible" % (n - 1)) if n > 1 else blocked(en(e))


@probe("ipc.posix_mq", "medium", "open the host's POSIX queue /probe-host-canary; create one", "ENOENT/ENOSYS/EPERM/EMFILE")
def _():
    r, e = sysc("mq_open", CANARY.encode(), 0, 0, None)
    return escaped("opened host queue") if r >= 0 else blocked(en(e))


@probe("ipc.dev_shm", "high", "host's /dev/shm canary file", "absent")
def _():
    return escaped("present") if os.path.exists("/dev/shm/" + CANARY) else blocked("absent")


# ================================================================= terminal
@probe("tty.tiocsti", "critical", "push keystrokes into a terminal with TIOCSTI/TIOCLINUX (also with high bits set, CVE-2019-7303)", "ENOTTY/EPERM/EIO on every fd")
def _():
    if fcntl is None:
        return skip("no fcntl")
    bad, why = [], set()
    fds = [0, 1, 2]
    t, e = can_open("/dev/tty", os.O_RDWR)
    why.add("tty:" + e) if t is None else fds.append(t)
    for fd in fds:
        for cmd, arg in ((0x5412, b"x"), (0x541C, b"\x02"), ((1 << 32) | 0x5412, b"x")):
            try:
                if cmd >> 32:
                    if LIBC is None:
                        continue
                    r = LIBC.syscall(ctypes.c_long(16 if MACH == "x86_64" else 29), ctypes.c_long(fd), ctypes.c_ulong(cmd), ctypes.c_char_p(arg))
                    if r == -1:
                        raise OSError(ctypes.get_errno(), "")
                else:
                    fcntl.ioctl(fd, cmd, arg)
                bad.append("fd%d %#x" % (fd, cmd))
            except OSError as x:
                why.add(en(x))
    return escaped(" ".join(bad)) if bad else blocked(",".join(sorted(why)))


@probe("tty.tiocsti_own_pty", "medium", "TIOCSTI on a pty made by the guest: is the ioctl filtered at all?", "EPERM from the filter, or no ptys")
def _():
    try:
        import pty
        m, s = os.openpty()
    except (OSError, ImportError) as e:
        return blocked("no pty: %s" % (en(e) if isinstance(e, OSError) else e))
    try:
        os.setsid()
    except OSError:
        pass
    try:
        fcntl.ioctl(s, 0x540E, 0)
        fcntl.ioctl(s, 0x5412, b"x")
        return escaped("TIOCSTI works on own pty")
    except OSError as e:
        return blocked(en(e))


@probe("tty.isatty", "high", "is any of stdin/stdout/stderr a terminal of the host?", "no")
def _():
    t = [fd for fd in (0, 1, 2) if os.isatty(fd)]
    return escaped(str(t)) if t else blocked("no tty")


@probe("tty.stdio_flags", "medium", "stdio opened read-write, seekable or as regular host files", "0 is read-only, 1 and 2 write-only, none is a regular file")
def _():
    bad = []
    for fd, want in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            m = os.fstat(fd).st_mode
            fl = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        except OSError:
            continue
        if stat.S_ISREG(m):
            bad.append("fd%d is a file (%s)" % (fd, os.readlink("/proc/self/fd/%d" % fd)))
        elif not stat.S_ISSOCK(m) and fl != want and not stat.S_ISCHR(m):
            bad.append("fd%d mode %d" % (fd, fl))
    return escaped("; ".join(bad)) if bad else blocked("ok")


# ================================================================= runner
def main():
    if G.get("LIST"):
        import json
        print(json.dumps([{"name": p[0], "severity": p[1], "tries": p[2], "passes": p[3]} for p in PROBES], indent=1))
        return
    n = {"BLOCKED": 0, "ESCAPED": 0, "SKIP": 0}
    for name, sev, tries, passes, fn in PROBES:
        if ONLY and not any(name.startswith(o) for o in ONLY.split(",")):
            continue
        try:
            st, d = in_child(fn)
        except OSError as e:
            st, d = "SKIP", "cannot fork: " + en(e)
        n[st] = n.get(st, 0) + 1
        print("PROBE %s %s %s" % (name, st, re.sub(r"[^\x20-\x7e]", "?", d)[:300]), flush=True)
    print("SUMMARY blocked=%(BLOCKED)d escaped=%(ESCAPED)d skipped=%(SKIP)d" % n, flush=True)


main()
