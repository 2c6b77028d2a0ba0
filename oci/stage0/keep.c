//go:build linux && cgo

// keep runs an OCI runtime program, and is whose child all becomes that this starts and leaves: a container's first process
// above all, which would else be pid 1's to bury, who may not.
//
//	/proc/self/exe stage0 keep FILE... -- PROGRAM [ARG...]
//
// The program is born in the cgroups whose "tasks" files these are. How it ends is reported on descriptor 4. At the end of
// the lifeline, descriptor 3, all are killed; when none is left, this ends.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "stage0.h"
#include "sys.h"

// kill_children kills those that there are now. Theirs become ours then.
static void kill_children(void)
{
	char path[64], text[512];
	long n, pid = 0;
	append(append_number(append(path, "/proc/self/task/"), sys(getpid)), "/children");
	int fd = open_file(path, O_RDONLY);
	if (fd < 0)
		return;
	while ((n = sys(read, fd, text, sizeof text)) > 0)
		for (long i = 0; i < n; i++) {
			if (text[i] >= '0' && text[i] <= '9') {
				pid = pid * 10 + (text[i] - '0');
				continue;
			}
			if (pid > 0)
				sys(kill, pid, SIGKILL); // ours until it is waited for
			pid = 0;
		}
	sys(close, fd);
}

void keep(char **argv, char **env)
{
	at = AT_START;
	keep_descriptors();
	if (sys(prctl, PR_SET_CHILD_SUBREAPER, 1))
		fail();
	hear_children();
	at = AT_FORK;
	int child = sys(clone, SIGCHLD);
	if (child < 0)
		fail();
	if (child == 0) {
		at = AT_ENTER_CGROUP;
		for (; !same(*argv, "--"); argv++)
			write_file(*argv, "0");
		default_signals();
		at = AT_RUNTIME;
		sys(execve, argv[1], argv + 1, env);
		fail();
	}
	close_from(0, PRIVATE - 1); // the ends of all these pipes must not wait for us
	for (;;) {
		const unsigned long none = 0;
		int wstatus, pid;
		while ((pid = sys(wait4, -1, &wstatus, WNOHANG)) > 0)
			if (pid == child) {
				runtime_ended(wstatus);
				close_status();
			}
		if (pid < 0)
			exit_with(0);
		// SIGCHLD is let in only while this waits. A byte in the lifeline is for stage0.
		struct pollfd line = { .fd = lifeline, .events = 0 };
		if (sys(ppoll, &line, 1, NULL, &none, sizeof none) > 0)
			break;
	}
	set_blocked(0);
	do
		kill_children();
	while (sys(wait4, -1) > 0 || failure == EINTR);
	exit_with(137);
}
