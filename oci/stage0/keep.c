//go:build linux && cgo

// keep runs an OCI runtime program, and is whose child all becomes that this starts and leaves: a container's first process
// above all, which would else be pid 1's to bury, who may not.
//
//	/proc/self/exe stage0 keep FILE... -- PROGRAM [ARG...]
//
// The program is born in the cgroups whose "tasks" files these are. How it ends is reported on descriptor 4. At the end of
// the lifeline, descriptor 3, all are killed; when none is left, this ends.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stage0.h"

// kill_children kills those that there are now. Theirs become ours then.
static void kill_children(void)
{
	char path[64], word[16];
	snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
	FILE *f = fopen(path, "re");
	if (!f)
		return;
	while (fscanf(f, "%15s", word) == 1)
		kill(atoi(word), SIGKILL); // ours until it is waited for
	fclose(f);
}

void keep(char **argv)
{
	sigset_t none;
	sigemptyset(&none);

	at = AT_START;
	keep_descriptors();
	if (prctl(PR_SET_CHILD_SUBREAPER, 1))
		fail();
	hear_children();
	at = AT_FORK;
	pid_t child = fork();
	if (child < 0)
		fail();
	if (child == 0) {
		at = AT_ENTER_CGROUP;
		for (; strcmp(*argv, "--") != 0; argv++)
			write_file(*argv, "0");
		default_signals();
		at = AT_RUNTIME;
		execve(argv[1], argv + 1, environ);
		fail();
	}
	close_from(0, PRIVATE - 1); // the ends of all these pipes must not wait for us
	for (;;) {
		int wstatus;
		pid_t pid;
		while ((pid = waitpid(-1, &wstatus, WNOHANG)) > 0)
			if (pid == child) {
				runtime_ended(wstatus);
				close_status();
			}
		if (pid < 0)
			_exit(0);
		// SIGCHLD is let in only while this waits. A byte in the lifeline is for stage0.
		struct pollfd line = { .fd = lifeline, .events = 0 };
		if (ppoll(&line, 1, NULL, &none) > 0)
			break;
	}
	sigprocmask(SIG_SETMASK, &none, NULL);
	do
		kill_children();
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR);
	_exit(137);
}
