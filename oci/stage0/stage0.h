// What the parts of stage0 share: stage0.c, which is pid 1; setup.c, which makes the container that it is pid 1 of, if
// libcontainer has not; keep.c, which starts an OCI runtime that makes it; sys.c, what they have for a C library; and
// stage0_linux.go.
#ifndef STAGE0_H
#define STAGE0_H

#include <linux/filter.h>
#include <stddef.h>

enum { LIFELINE = 3, STATUS = 4, FILTER = 5, PLAN = 5, BASE = 6, FIRST_EXTRA = 7, PRIVATE = 64 };

// The kinds of report, and their values.
enum {
	EXITED = 1, // a wait status
	NO_EXEC,    // errno
	FAILED,     // errno; above the first byte of the kind what stage0 was at, above that the operation of the plan
	STARTED,    // the pid of the first process, from who has made it
	RUNTIME,    // a wait status
};

// What stage0 is at, for the report of a failure; their names are in stage0_linux.go.
enum {
	AT_START, AT_READ_FILTER, AT_NESTING, AT_CAPABILITIES, AT_DUMPABLE, AT_FILTER, AT_FORK, AT_DESCRIPTORS, AT_LIMITS,
	AT_PLAN, AT_SESSION, AT_GROUPS, AT_ROOT_IDS, AT_PRIVATE, AT_IMAGE, AT_PROC, AT_DEVICES, AT_PIVOT, AT_MOUNT, AT_MAKE_DEVICES, AT_MASK,
	AT_READONLY, AT_SYSCTL, AT_HOSTNAME, AT_LOOPBACK, AT_KEYRING, AT_CGROUP, AT_RLIMIT, AT_DIRECTORY, AT_NO_NEW_PRIVS, AT_IDS, AT_CLONE, AT_MAPS, AT_BASE, AT_ENTER_CGROUP, AT_RUNTIME,
};

// A command is what stage0 runs, and how.
struct command {
	char **argv, **env;
	int extra;                  // descriptors beside 0, 1 and 2
	unsigned long memory, pids; // RLIMIT_AS and RLIMIT_NPROC; 0 is none
	unsigned uid, gid;          // in a user namespace of its own; 0 is none
	struct sock_filter *filter;
	size_t filter_size; // in bytes
};

#pragma GCC visibility push(hidden)

enum { NO_OPERATION = 0x7fff };
extern int at, nth; // what stage0 is at, and which operation of a plan that belongs to
extern int lifeline;

void fail(void) __attribute__((noreturn));
void refuse(int number) __attribute__((noreturn)); // fail, with an errno that is no system call's
void started(int pid);
void runtime_ended(int wstatus);
void close_status(void);
void close_from(unsigned first, unsigned last);
void keep_descriptors(void);
void write_file(const char *path, const char *text);
void write_map(int pid, const char *name, const char *text);
void hear_children(void);
void default_signals(void);
void own_null(void);
void give_streams(unsigned uid, unsigned gid, int extra);
void become(unsigned uid, unsigned gid);
void drop_bounding(void);
void clear_capabilities(void);
void supervise(struct command *c) __attribute__((noreturn));
void hold(void) __attribute__((noreturn));
void keep(char **argv, char **env) __attribute__((noreturn));
void setup(int extra) __attribute__((noreturn));
void stage0(void *stack); // called by the entry point, sys.c

#pragma GCC visibility pop
#endif
