//go:build linux && cgo

// stage0 is pid 1 of every sandbox. libcontainer's init execs /proc/self/exe, which is this very program, with argv[1]
// "stage0"; the program's entry point then calls stage0 below, before the C library and the Go runtime exist, so that pid 1
// costs a tenth of a millisecond and a few pages instead of both. It needs no file in the image and none on the host: the program
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
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "stage0.h"
#include "sys.h"

// All without a value of their own: what has one lies between other pages of a large program, which the kernel would map too.
int at, nth, lifeline;
static int status;

static void report(uint32_t kind, uint32_t value)
{
	uint32_t word[2] = { kind, value };
	sys(write, status, word, sizeof word); // 8 bytes into an empty pipe: never short. Nobody listens when the bridge is gone.
}

void fail(void)
{
	report(FAILED | at << 8 | nth << 16, failure);
	exit_with(125);
}

void refuse(int number)
{
	failure = number;
	fail();
}

void started(int pid) { report(STARTED, pid); }
void runtime_ended(int wstatus) { report(RUNTIME, wstatus); }
void close_status(void) { sys(close, status); }

static int above(int fd)
{
	int n = sys(fcntl, fd, F_DUPFD_CLOEXEC, PRIVATE);
	if (n < 0)
		exit_with(125);
	return n;
}

void close_from(unsigned first, unsigned last)
{
	if (sys(close_range, first, last) == 0)
		return;
	for (unsigned fd = first; fd <= last && fd < 1024; fd++) // before Linux 5.9
		sys(close, fd);
}

static void on_child(int sig) { (void)sig; }

static void limit(int resource, unsigned long value)
{
	struct rlimit l = { value, value };
	if (value > 0 && sys(prlimit64, 0, resource, &l))
		fail();
}

static struct sock_filter filter[BPF_MAXINSNS];

static void read_filter(struct command *c, size_t size)
{
	at = AT_READ_FILTER;
	if (size > sizeof filter || size % sizeof *filter)
		refuse(EINVAL);
	c->filter = filter;
	while (c->filter_size < size) {
		long n = sys(read, FILTER, (char *)filter + c->filter_size, size - c->filter_size);
		if (n < 0)
			fail();
		if (n == 0)
			refuse(EINVAL);
		c->filter_size += n;
	}
}

static void load_filter(struct command *c)
{
	at = AT_FILTER;
	struct sock_fprog program = { c->filter_size / sizeof *filter, c->filter };
	if (c->filter_size > 0 && sys(prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		fail();
}

void drop_bounding(void)
{
	at = AT_CAPABILITIES;
	for (int cap = 0; sys(prctl, PR_CAPBSET_READ, cap) >= 0; cap++)
		if (sys(prctl, PR_CAPBSET_DROP, cap))
			fail();
}

void clear_capabilities(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { { 0 } };
	at = AT_CAPABILITIES;
	if (sys(capset, &header, none))
		fail();
}

// fork_nested forks a child into a user namespace where the one id that there is, 0, is called uid and gid. The child
// returns 0 as that, without capabilities. CAP_SETFCAP is needed to map the parent's 0 (user_namespaces(7)).
static int fork_nested(unsigned uid, unsigned gid)
{
	int ready[2], mapped[2];
	char byte = 0;
	at = AT_NESTING;
	if (sys(pipe2, ready, O_CLOEXEC) || sys(pipe2, mapped, O_CLOEXEC))
		fail();
	int child = sys(clone, SIGCHLD);
	if (child < 0)
		fail();
	// Each keeps only its own ends, so that the end of the other is the end of the wait for it.
	if (child == 0) {
		sys(close, ready[0]), sys(close, mapped[1]);
		if (sys(unshare, CLONE_NEWUSER) || sys(write, ready[1], &byte, 1) != 1 || sys(read, mapped[0], &byte, 1) != 1)
			fail();
		if (sys(setresgid, gid, gid, gid) || sys(setresuid, uid, uid, uid))
			fail();
		sys(close, ready[1]), sys(close, mapped[0]);
	} else {
		sys(close, ready[1]), sys(close, mapped[0]);
		if (sys(read, ready[0], &byte, 1) != 1)
			exit_with(125); // the child has said why, unless it was killed
		char uids[32], gids[32];
		append(append_number(uids, uid), " 0 1");
		append(append_number(gids, gid), " 0 1");
		write_map(child, "setgroups", "deny");
		write_map(child, "uid_map", uids);
		write_map(child, "gid_map", gids);
		if (sys(write, mapped[1], &byte, 1) != 1)
			fail();
		sys(close, ready[0]), sys(close, mapped[1]);
	}
	drop_bounding(), clear_capabilities();
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
	if (on_signal(SIGCHLD, on_child) || set_blocked(1UL << (SIGCHLD - 1)))
		fail();
}

// default_signals is for what is executed next: it shall have neither what is ours nor what nohup and the like have the bridge,
// and so everybody, ignore.
void default_signals(void)
{
	for (int sig = 1; sig <= 64; sig++)
		on_signal(sig, SIG_DFL); // of some it may not
	set_blocked(0);
}

// run becomes the command. It is a function of its own because the child of a vfork writes to its parent's stack, and has to
// do so below what the parent comes back to.
static __attribute__((noinline, noreturn)) void run(struct command *c)
{
	// In the session of pid 1 it would have its share of the processors to lower (sched(7), "autogroup").
	at = AT_SESSION;
	if (sys(setsid) < 0)
		fail();
	at = AT_DESCRIPTORS;
	for (int i = 0; i < c->extra; i++)
		if (sys(dup3, FIRST_EXTRA + i, 3 + i, 0) < 0)
			fail();
	close_from(3 + c->extra, PRIVATE - 1); // what is above closes itself at exec
	at = AT_LIMITS;
	limit(RLIMIT_AS, c->memory);
	limit(RLIMIT_NPROC, c->pids);
	default_signals();
	sys(execve, c->argv[0], c->argv, c->env);
	report(NO_EXEC, failure);
	exit_with(127);
}

void supervise(struct command *c)
{
	at = AT_START;
	hear_children();
	int nested = c->uid != 0;
	int child = nested ? fork_nested(c->uid, c->gid) : -1; // whose maps could not be written if it were not dumpable
	at = AT_DUMPABLE;
	if (sys(prctl, PR_SET_DUMPABLE, 0))
		fail();
	load_filter(c);
	at = AT_FORK;
	if (!nested)
		child = sys(clone, CLONE_VM | CLONE_VFORK | SIGCHLD);
	if (child < 0)
		fail();
	if (child == 0)
		run(c);
	// Keep none of the guest's pipes open: their end of file must not wait for pid 1.
	close_from(0, PRIVATE - 1);

	struct pollfd line = { .fd = lifeline, .events = POLLIN };
	for (;;) {
		const unsigned long none = 0;
		int wstatus, pid;
		while ((pid = sys(wait4, -1, &wstatus, WNOHANG)) > 0) {
			if (pid == child) {
				report(EXITED, (uint32_t)wstatus);
				exit_with(WIFSIGNALED(wstatus) ? 128 + WTERMSIG(wstatus) : WEXITSTATUS(wstatus));
			}
		}
		// SIGCHLD is let in only while this waits, so none is lost between wait4 and here.
		int n = sys(ppoll, &line, 1, NULL, &none, sizeof none);
		if (n > 0)
			exit_with(137);
		// Whoever has our ids may lower our limits, and with fewer descriptors than this waits for it fails at once.
		if (n < 0 && failure != EINTR) {
			report(EXITED, SIGKILL);
			exit_with(137);
		}
	}
}

static void drop_groups(void)
{
	char word[] = "....";
	at = AT_GROUPS;
	if (sys(setgroups, 0, NULL) == 0)
		return;
	// Where a user has mapped his own id, without newgidmap, the kernel does not let them go (user_namespaces(7)).
	int was = failure, fd = open_file("/proc/self/setgroups", O_RDONLY);
	if (fd < 0 || sys(read, fd, word, 4) != 4 || !same(word, "deny"))
		refuse(was);
	sys(close, fd);
}

// command_of is what the first arguments say of the command that follows them.
static struct command command_of(char **argv, char **command, char **env)
{
	return (struct command){
		.argv = command, .env = env, .extra = parsed(argv[2]), .memory = parsed(argv[3]), .pids = parsed(argv[4]),
		.uid = parsed(argv[6]), .gid = parsed(argv[7]),
	};
}

// from_runtime is stage0 in a container that an OCI runtime program has made.
static void from_runtime(char **argv, char **env)
{
	struct command c = command_of(argv, argv + 9, env);
	char byte;
	close_from(FIRST_EXTRA + 3 + c.extra, ~0U); // what the runtime has forgotten
	keep_descriptors();
	started(sys(getpid));
	if (sys(read, lifeline, &byte, 1) != 1)
		exit_with(137);
	at = AT_DESCRIPTORS;
	for (int i = 0; i < 3 + c.extra; i++)
		if (sys(dup3, FIRST_EXTRA + i, i < 3 ? i : FIRST_EXTRA + i - 3, 0) < 0)
			fail();
	own_null();
	read_filter(&c, parsed(argv[5]));
	drop_groups();
	if (same(argv[8], "0")) {
		give_streams(c.uid, c.gid, c.extra);
		become(c.uid, c.gid);
		c.uid = c.gid = 0;
	}
	supervise(&c);
}

// Timers may be late in libcontainer's init, the only other program that lives for a container: the monitor thread of its Go
// runtime, which begins with sleeps of 20 us, would else have a tenth of the processor time. When that has become stage0, they
// are what they are by default (prctl(2), PR_SET_TIMERSLACK), whatever they were in the bridge.
enum { INIT_SLACK = 10000000, DEFAULT_SLACK = 50000 }; // ns

// stage0 gets the stack that the kernel has made: the number of arguments, these, NULL, the environment, NULL. It returns if
// the program is not to be stage0.
void stage0(void *stack)
{
	long argc = *(long *)stack;
	char **argv = (char **)stack + 1, **env = argv + argc + 1;
	if (argc == 2 && same(argv[1], "init"))
		sys(prctl, PR_SET_TIMERSLACK, INIT_SLACK);
	if (argc < 2 || !same(argv[1], "stage0"))
		return;
	nth = NO_OPERATION;
	if (argc > 9 && same(argv[0], "/proc/self/fd/6") && sys(getpid) == 1)
		from_runtime(argv, env);
	if (!same(argv[0], "/proc/self/exe"))
		return;
	if (argc == 2)
		hold();
	if (argc > 4 && same(argv[2], "keep"))
		keep(argv + 3, env);
	if (argc == 3)
		setup(parsed(argv[2]));
	if (argc < 9 || sys(getpid) != 1)
		return;
	struct command c = command_of(argv, argv + 8, env);
	sys(prctl, PR_SET_TIMERSLACK, DEFAULT_SLACK);
	keep_descriptors();
	read_filter(&c, parsed(argv[5]));
	supervise(&c);
}
