//go:build linux && cgo

// stage0 is pid 1 of every sandbox. libcontainer's init execs /proc/self/exe, which is this very program, with argv[1]
// "stage0"; the constructor below then takes over before the Go runtime exists, so that pid 1 costs a tenth of a
// millisecond and a few pages instead of a Go runtime. It needs no file in the image and none on the host: the program
// makes itself not dumpable, so that /proc/1/exe, /proc/1/mem and ptrace are closed to the guest.
//
//	/proc/self/exe stage0 EXTRA MEMORY PIDS FILTER UID GID COMMAND [ARG...]
//
// It runs COMMAND with descriptors 0, 1, 2 and EXTRA more (7, 8, ... here become 3, 4, ... there), with RLIMIT_AS
// MEMORY and RLIMIT_NPROC PIDS if these are not 0 (set here and not by libcontainer, whose Go code would not start
// within them), under the system call filter that it reads from descriptor 5, FILTER bytes of struct sock_filter, and,
// if UID is not 0, in a user namespace of its own as UID and GID: where a user has but one id to map, libcontainer maps
// 0 to it, and nothing else can be reached from there. Then it
//   - reaps orphans, which Python as pid 1 would not do: 62 of them filled a pids limit;
//   - holds the lifeline (descriptor 3): a pipe whose other end only the bridge has. At its end of file the bridge
//     is gone, or wants the sandbox gone: stage0 exits, and the kernel kills the whole pid namespace with it;
//   - reports how COMMAND ended on descriptor 4, which the guest never has: two 32-bit words, kind and value.
//
// The filter binds stage0 as well: it is loaded last before COMMAND is started.
//
// An OCI runtime program starts it by a descriptor of this program, as root of the container's user namespace with the
// capabilities to become somebody else, and with the guest's own streams in descriptors 7, 8 and 9, those of EXTRA after
// them, because 0, 1 and 2 are the runtime's, who may have something to say:
//
//	/proc/self/fd/6 stage0 EXTRA MEMORY PIDS FILTER UID GID NESTED COMMAND [ARG...]
//
// It then says that it is there, and goes on when it reads a byte from the lifeline: by then the bridge knows the process.
// UID is who the command is, if NESTED is not 0 in a user namespace of its own.
//
// The launcher that does without libcontainer starts it with an empty environment, and it makes the container first (see
// setup.c):
//
//	/proc/self/exe stage0 EXTRA
//
// With no argument it only holds a user namespace. It is also what a runtime program is run by: see keep.c.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stage0.h"

#ifndef SYS_close_range
#define SYS_close_range 436 // not in a libc before 2.32; the same on every machine
#endif

int at, nth = NO_OPERATION, lifeline;
static int status;

static void report(uint32_t kind, uint32_t value)
{
	uint32_t word[2] = { kind, value };
	// 8 bytes into an empty pipe: never short. Nobody listens when the bridge is gone.
	if (write(status, word, sizeof word) < 0)
		return;
}

void fail(void)
{
	report(FAILED | at << 8 | nth << 16, errno);
	_exit(125);
}

void started(int pid) { report(STARTED, pid); }
void runtime_ended(int wstatus) { report(RUNTIME, wstatus); }
void close_status(void) { close(status); }

static int above(int fd)
{
	int n = fcntl(fd, F_DUPFD_CLOEXEC, PRIVATE);
	if (n < 0)
		_exit(125);
	return n;
}

void close_from(unsigned first, unsigned last)
{
	if (syscall(SYS_close_range, first, last, 0) == 0)
		return;
	for (unsigned fd = first; fd <= last && fd < 1024; fd++) // before Linux 5.9
		close((int)fd);
}

static void on_child(int sig) { (void)sig; }

static void limit(int resource, const char *value)
{
	struct rlimit l = { strtoull(value, NULL, 10), 0 };
	l.rlim_max = l.rlim_cur;
	if (l.rlim_cur > 0 && setrlimit(resource, &l))
		fail();
}

static struct sock_filter filter[BPF_MAXINSNS];

static void read_filter(struct command *c, size_t size)
{
	at = AT_READ_FILTER;
	errno = EINVAL;
	if (size > sizeof filter || size % sizeof *filter)
		fail();
	c->filter = filter;
	while (c->filter_size < size) {
		ssize_t n = read(FILTER, (char *)filter + c->filter_size, size - c->filter_size);
		if (n <= 0)
			fail();
		c->filter_size += n;
	}
}

static void load_filter(struct command *c)
{
	at = AT_FILTER;
	struct sock_fprog program = { c->filter_size / sizeof *filter, c->filter };
	if (c->filter_size > 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		fail();
}

void drop_bounding(void)
{
	at = AT_CAPABILITIES;
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap))
			fail();
}

void clear_capabilities(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { { 0 } };
	at = AT_CAPABILITIES;
	if (syscall(SYS_capset, &header, none))
		fail();
}

// drop_capabilities leaves none in any set, the bounding set included.
static void drop_capabilities(void)
{
	drop_bounding();
	clear_capabilities();
}

// fork_nested forks a child into a user namespace where the one id that there is, 0, is called uid and gid. The child
// returns 0 as that, without capabilities. CAP_SETFCAP is needed to map the parent's 0 (user_namespaces(7)).
static pid_t fork_nested(const char *uid, const char *gid)
{
	int ready[2], mapped[2];
	char byte = 0;
	at = AT_NESTING;
	if (pipe2(ready, O_CLOEXEC) || pipe2(mapped, O_CLOEXEC))
		fail();
	pid_t child = fork();
	if (child < 0)
		fail();
	// Each keeps only its own ends, so that the end of the other is the end of the wait for it.
	if (child == 0) {
		close(ready[0]), close(mapped[1]);
		gid_t g = strtoul(gid, NULL, 10);
		uid_t u = strtoul(uid, NULL, 10);
		if (unshare(CLONE_NEWUSER) || write(ready[1], &byte, 1) != 1 || read(mapped[0], &byte, 1) != 1)
			fail();
		if (setresgid(g, g, g) || setresuid(u, u, u))
			fail();
		close(ready[1]), close(mapped[0]);
	} else {
		close(ready[1]), close(mapped[0]);
		if (read(ready[0], &byte, 1) != 1)
			_exit(125); // the child has said why, unless it was killed
		char uids[32], gids[32];
		snprintf(uids, sizeof uids, "%s 0 1", uid);
		snprintf(gids, sizeof gids, "%s 0 1", gid);
		write_map(child, "setgroups", "deny");
		write_map(child, "uid_map", uids);
		write_map(child, "gid_map", gids);
		if (write(mapped[1], &byte, 1) != 1)
			fail();
		close(ready[0]), close(mapped[1]);
	}
	drop_capabilities();
	return child;
}

// keep_descriptors moves those that the guest must not have out of its way.
void keep_descriptors(void)
{
	status = above(STATUS);
	lifeline = above(LIFELINE);
}

// hear_children has the end of a child interrupt what waits with no signal blocked, and nothing else.
void hear_children(void)
{
	sigset_t chld;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	struct sigaction act = { .sa_handler = on_child };
	if (sigaction(SIGCHLD, &act, NULL) || sigprocmask(SIG_BLOCK, &chld, NULL))
		fail();
}

// default_signals is for what is executed next: it shall have neither what is ours nor what nohup and the like have the bridge,
// and so everybody, ignore.
void default_signals(void)
{
	sigset_t none;
	sigemptyset(&none);
	struct sigaction act = { .sa_handler = SIG_DFL };
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &act, NULL); // of some it may not
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void supervise(struct command *c)
{
	sigset_t none;
	sigemptyset(&none);

	at = AT_START;
	hear_children();
	int nested = strcmp(c->uid, "0") != 0;
	pid_t child = nested ? fork_nested(c->uid, c->gid) : -1; // whose maps could not be written if it were not dumpable
	at = AT_DUMPABLE;
	if (prctl(PR_SET_DUMPABLE, 0))
		fail();
	load_filter(c);
	at = AT_FORK;
	if (!nested)
		child = vfork();
	if (child < 0)
		fail();
	if (child == 0) {
		// In the session of pid 1 it would have its share of the processors to lower (sched(7), "autogroup").
		at = AT_SESSION;
		if (setsid() < 0)
			fail();
		at = AT_DESCRIPTORS;
		for (int i = 0; i < c->extra; i++)
			if (dup2(FIRST_EXTRA + i, 3 + i) < 0)
				fail();
		close_from(3 + c->extra, PRIVATE - 1); // what is above closes itself at exec
		at = AT_LIMITS;
		limit(RLIMIT_AS, c->memory);
		limit(RLIMIT_NPROC, c->pids);
		default_signals();
		execve(c->argv[0], c->argv, c->env);
		report(NO_EXEC, errno);
		_exit(127);
	}
	// Keep none of the guest's pipes open: their end of file must not wait for pid 1.
	close_from(0, PRIVATE - 1);

	struct pollfd line = { .fd = lifeline, .events = POLLIN };
	for (;;) {
		int wstatus;
		pid_t pid;
		while ((pid = waitpid(-1, &wstatus, WNOHANG)) > 0) {
			if (pid == child) {
				report(EXITED, (uint32_t)wstatus);
				_exit(WIFSIGNALED(wstatus) ? 128 + WTERMSIG(wstatus) : WEXITSTATUS(wstatus));
			}
		}
		// SIGCHLD is let in only while this waits, so none is lost between waitpid and here.
		int n = ppoll(&line, 1, NULL, &none);
		if (n > 0)
			_exit(137);
		// Whoever has our ids may lower our limits, and with fewer descriptors than this waits for it fails at once.
		if (n < 0 && errno != EINTR) {
			report(EXITED, SIGKILL);
			_exit(137);
		}
	}
}

static void drop_groups(void)
{
	char word[8] = { 0 };
	at = AT_GROUPS;
	if (setgroups(0, NULL) == 0)
		return;
	// Where a user has mapped his own id, without newgidmap, the kernel does not let them go (user_namespaces(7)).
	int was = errno, fd = open("/proc/self/setgroups", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, word, sizeof word - 1) < 4 || strncmp(word, "deny", 4) != 0) {
		errno = was;
		fail();
	}
	close(fd);
}

// from_runtime is stage0 in a container that an OCI runtime program has made.
static void from_runtime(char **argv, char **env)
{
	struct command c = { .extra = atoi(argv[2]), .memory = argv[3], .pids = argv[4], .uid = argv[6], .gid = argv[7], .argv = argv + 9, .env = env };
	char byte;
	close_from(FIRST_EXTRA + 3 + c.extra, ~0U); // what the runtime has forgotten
	keep_descriptors();
	started(getpid());
	if (read(lifeline, &byte, 1) != 1)
		_exit(137);
	at = AT_DESCRIPTORS;
	for (int i = 0; i < 3 + c.extra; i++)
		if (dup2(FIRST_EXTRA + i, i < 3 ? i : FIRST_EXTRA + i - 3) < 0)
			fail();
	own_null();
	read_filter(&c, strtoul(argv[5], NULL, 10));
	drop_groups();
	if (strcmp(argv[8], "0") == 0) {
		give_streams(c.uid, c.gid, c.extra);
		become(c.uid, c.gid);
		c.uid = c.gid = "0";
	}
	supervise(&c);
}

// Priority 101 is the first that is not the C library's: before nsenter's constructor, which has none.
__attribute__((constructor(101))) static void stage0(int argc, char **argv, char **env)
{
	if (argc < 2 || strcmp(argv[1], "stage0") != 0)
		return;
	if (argc > 9 && strcmp(argv[0], "/proc/self/fd/6") == 0 && getpid() == 1)
		from_runtime(argv, env);
	if (strcmp(argv[0], "/proc/self/exe") != 0)
		return;
	if (argc == 2)
		hold();
	if (argc > 4 && strcmp(argv[2], "keep") == 0)
		keep(argv + 3);
	if (argc == 3)
		setup(atoi(argv[2]));
	if (argc < 9 || getpid() != 1)
		return;
	struct command c = {
		.extra = atoi(argv[2]), .memory = argv[3], .pids = argv[4], .uid = argv[6], .gid = argv[7], .argv = argv + 8, .env = env,
	};
	keep_descriptors();
	read_filter(&c, strtoul(argv[5], NULL, 10));
	supervise(&c);
}
