// Package seccomp is which system calls a sandboxed script may make: the policy as data, and the classic BPF program
// made from it (seccomp(2), seccomp_unotify is not used). It is pure and knows nothing of containers.
//
// The policy is an allowlist for CPython with the standard library, numpy, pandas and matplotlib, tighter than Docker's
// and podman's. What is not named gets ENOSYS, for which C libraries have fallbacks; what is named and denied gets an
// errno that a person can read. A call for another architecture kills the process.
package seccomp

// A Group is a set of system calls that are treated alike, for one reason.
type Group struct {
	// Why is for the documentation, which is generated from this data.
	Why string
	// Names are the kernel's. One that an architecture does not have is left out there.
	Names []string
	// Allow says that they may be called. Where Args are set, only with these values of arguments: all must hold, and all but
	// the last have one value.
	Allow bool
	Args  []Arg
	// Errno is what else a call returns; 0 makes it succeed without doing anything.
	Errno Errno
}

// An Arg restricts one argument of a call. All 64 bits of it are compared: a kernel may look at 32 of them, and a filter
// that looks at fewer than the kernel has been the hole before (CVE-2019-7303, CVE-2019-10063).
type Arg struct {
	Index int
	// OneOf are the values allowed; if it is nil, no bit of NoneOf may be set instead.
	OneOf  []uint64
	NoneOf uint64
}

// An Errno is an error number of Linux, the same on all architectures here.
type Errno uint16

// The errors that denied calls return.
const (
	EPERM        Errno = 1
	EINVAL       Errno = 22
	ENOTTY       Errno = 25
	ENOSYS       Errno = 38
	ENOTSOCK     Errno = 88
	ENOPROTOOPT  Errno = 92
	EOPNOTSUPP   Errno = 95
	EAFNOSUPPORT Errno = 97
)

// Default is what a call returns that no group names.
const Default = ENOSYS

// namespaces are the flags of clone(2) that make a namespace: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
// NEWTIME (0x80) lies in clone's exit signal and works with unshare and clone3 only.
const namespaces = 0x7E020000

// Policy is the whole policy. The order of groups has no meaning; no call is in two.
var Policy = []Group{
	{
		Allow: true, Why: "reading and writing files that are open",
		Names: []string{
			"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "lseek",
			"close", "close_range", "dup", "dup2", "dup3", "pipe", "pipe2", "fcntl", "flock", "fsync", "fdatasync",
			"fadvise64", "copy_file_range", "fallocate", "ftruncate",
		},
	},
	{
		Allow: true, Why: "files and directories",
		Names: []string{
			"open", "openat", "creat", "stat", "fstat", "lstat", "newfstatat", "statx", "statfs", "fstatfs", "access",
			"faccessat", "faccessat2", "readlink", "readlinkat", "getdents", "getdents64", "getcwd", "chdir", "fchdir",
			"mkdir", "mkdirat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
			"unlink", "unlinkat", "chmod", "fchmod", "fchmodat", "fchmodat2", "umask", "utime", "utimes", "utimensat",
			"futimesat", "truncate", "getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr",
		},
	},
	{
		Allow: true, Why: "memory",
		Names: []string{
			"mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "msync", "mlock", "mlock2", "munlock", "munlockall",
			"membarrier", "mseal",
		},
	},
	{
		Allow: true, Why: "processes and threads",
		Names: []string{
			"execve", "fork", "vfork", "exit", "exit_group", "wait4", "waitid", "kill", "tkill", "tgkill",
			"set_tid_address", "set_robust_list", "get_robust_list", "rseq", "futex", "futex_wait", "futex_wake",
			"futex_requeue", "futex_waitv", "pidfd_open", "pidfd_send_signal", "arch_prctl",
			"getpid", "gettid", "getppid", "getpgid", "getpgrp", "setpgid", "getsid", "setsid",
			"getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups", "capget",
			"getpriority", "sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler",
			"sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval", "sched_getattr", "getcpu", "getrlimit", "setrlimit", "getrusage", "times", "sysinfo", "uname",
		},
	},
	{
		Allow: true, Args: []Arg{{Index: 0, OneOf: []uint64{0}}}, Errno: EPERM, Names: []string{"prlimit64", "sched_setaffinity"},
		Why: "only of the caller itself: pid 1 has the same ids, and must see the bridge go, and die, in time",
	},
	{
		Allow: true, Args: []Arg{{Index: 0, OneOf: []uint64{0}}, {Index: 1, OneOf: []uint64{0}}}, Errno: EPERM,
		Names: []string{"setpriority"}, Why: "as above; a process group or a user's processes may have pid 1 among them",
	},
	{
		Allow: true, Why: "time and timers",
		Names: []string{
			"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "setitimer",
			"getitimer", "alarm", "pause", "timer_create", "timer_delete", "timer_settime", "timer_gettime",
			"timer_getoverrun", "timerfd_create", "timerfd_settime", "timerfd_gettime",
		},
	},
	{
		Allow: true, Why: "signals",
		Names: []string{
			"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait", "rt_sigsuspend",
			"rt_sigqueueinfo", "sigaltstack", "restart_syscall",
		},
	},
	{
		Allow: true, Why: "waiting for events",
		Names: []string{
			"poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait",
			"epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2",
		},
	},
	{
		Allow: true, Why: "sockets that exist; which may be made is below",
		Names: []string{
			"bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname", "getpeername", "getsockopt",
			"sendto", "recvfrom", "sendmsg", "recvmsg",
		},
	},
	{
		Allow: true, Errno: ENOPROTOOPT, Names: []string{"setsockopt"},
		// REUSEADDR BROADCAST KEEPALIVE LINGER REUSEPORT PASSCRED RCVLOWAT SNDLOWAT RCVTIMEO SNDTIMEO TIMESTAMP PASSSEC
		// TIMESTAMPNS PEEK_OFF RCVTIMEO_NEW SNDTIMEO_NEW, of SOL_SOCKET: sockets of AF_UNIX know no other
		Args: []Arg{{Index: 2, OneOf: []uint64{2, 6, 9, 13, 15, 16, 18, 19, 20, 21, 29, 34, 35, 42, 66, 67}}},
		Why:  "sixteen options; ATTACH_FILTER and its like compile programs into memory that all of the host has 500 MB of, with which nobody can load a filter any more; larger buffers are memory that weak limits do not see",
	},
	{Allow: true, Why: "random numbers", Names: []string{"getrandom"}},
	{
		Allow: true, Args: []Arg{{Index: 0, NoneOf: namespaces}}, Errno: EPERM, Names: []string{"clone"},
		Why: "a new user namespace is the door to most ways from a kernel bug to root",
	},
	{
		Errno: ENOSYS, Names: []string{"clone3"},
		Why: "its flags stand behind a pointer, where no filter sees them; C libraries fall back to clone on ENOSYS",
	},
	{
		Allow: true, Args: []Arg{{Index: 0, OneOf: []uint64{1}}}, Errno: EAFNOSUPPORT, Names: []string{"socket", "socketpair"},
		Why: "AF_UNIX only: there is no network to speak of, and AF_ALG, AF_RXRPC, AF_VSOCK, netlink, packet sockets and the rest are kernel surface (CVE-2026-31431, CVE-2026-43500)",
	},
	{
		Allow: true, Errno: ENOTTY, Names: []string{"ioctl"},
		// TCGETS TIOCGWINSZ TIOCGPGRP FIONREAD FIONBIO FIONCLEX FIOCLEX
		Args: []Arg{{Index: 1, OneOf: []uint64{0x5401, 0x5413, 0x540F, 0x541B, 0x5421, 0x5450, 0x5451}}},
		Why:  "seven harmless requests; TIOCSTI and TIOCLINUX type into somebody else's terminal",
	},
	{
		Allow: true, Errno: EINVAL, Names: []string{"prctl"},
		// GET_PDEATHSIG GET_DUMPABLE SET_NAME GET_NAME GET_SECCOMP CAPBSET_READ GET_SECUREBITS SET_TIMERSLACK GET_TIMERSLACK
		// SET_CHILD_SUBREAPER GET_CHILD_SUBREAPER SET_NO_NEW_PRIVS GET_NO_NEW_PRIVS SET_THP_DISABLE GET_THP_DISABLE SET_VMA
		Args: []Arg{{Index: 0, OneOf: []uint64{2, 3, 15, 16, 21, 23, 27, 29, 30, 36, 37, 38, 39, 41, 42, 0x53564D41}}},
		Why:  "sixteen operations; without SET_PDEATHSIG, SET_SECCOMP, SET_MM, SET_PTRACER and ambient capabilities",
	},
	{
		Errno: EPERM, Why: "namespaces and mounts",
		Names: []string{"unshare", "setns", "mount", "umount2", "pivot_root", "chroot"},
	},
	{
		Errno: EPERM, Why: "other processes' memory and descriptors",
		Names: []string{
			"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "pidfd_getfd", "kcmp",
		},
	},
	{
		Errno: EPERM, Why: "kernel surface with a history",
		Names: []string{"bpf", "perf_event_open", "seccomp", "personality", "modify_ldt", "lookup_dcookie", "nfsservctl"},
	},
	{
		Errno: EPERM, Why: "keys are not fully namespaced: they are shared by all of a user's processes",
		Names: []string{"keyctl", "add_key", "request_key"},
	},
	{
		Errno: EPERM, Why: "kernel modules and images",
		Names: []string{"kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module"},
	},
	{
		Errno: EPERM, Why: "files by handle, past the directories that lead to them; watches of a whole file system",
		Names: []string{"open_by_handle_at", "name_to_handle_at", "fanotify_init", "fanotify_mark"},
	},
	{
		Errno: EPERM, Why: "ids, owners and capabilities: nothing is to be gained, so nothing is to be tried",
		Names: []string{
			"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid",
			"capset", "chown", "fchown", "lchown", "fchownat",
		},
	},
	{
		Errno: EPERM, Why: "settings of the machine",
		Names: []string{
			"sethostname", "setdomainname", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "reboot",
			"swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog", "vhangup", "iopl", "ioperm",
		},
	},
	{
		Errno: EPERM, Why: "scheduling that takes from others, and memory that cannot be reclaimed",
		Names: []string{
			"sched_setscheduler", "sched_setparam", "sched_setattr", "ioprio_set", "mlockall", "mbind", "set_mempolicy",
			"migrate_pages", "move_pages",
		},
	},
	{Errno: EPERM, Why: "devices and FIFOs: a trap for whoever copies files out", Names: []string{"mknod", "mknodat"}},
	{
		Errno: EOPNOTSUPP, Why: "attributes: a trap for whoever copies files out",
		Names: []string{"setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"},
	},
	{
		Errno: ENOTSOCK, Why: "passes references to cached pages of files, as splice does (CVE-2022-0847); with this error shutil and pathlib read and write instead",
		Names: []string{"sendfile"},
	},
	{
		Errno: 0, Why: "would wait for all the host's disks; pretending costs nothing, as nothing here is on a disk",
		Names: []string{"sync", "syncfs", "sync_file_range"},
	},
}
