//go:build linux && cgo

// setup makes a container without libcontainer. It is started in the container's cgroup, with no thread and next to no
// memory, so that clone(2) has nothing to copy: that makes pid 1 in new namespaces, as a child of the bridge, and says on
// the status pipe who that is. The rest is done there, by a plan that the launcher has made of the OCI specification and left
// in a memfd, descriptor 5:
//
//	OPERATION ARGUMENT... OPERATION ARGUMENT...
//
// each ended by NUL, an operation being one letter; those up to "r" come first, in this order. Numbers are decimal.
//
//	C PATH             enter a cgroup: a cgroup.procs; not there if this process was born in it
//	N                  enter the user namespace of descriptor 6; not there if the ids can be mapped without
//	M UIDS GIDS GROUPS maps of ids, for /proc/PID/uid_map and gid_map, and what to write to setgroups if it is not empty
//	i PATH             the image's directory
//	d NAME             a device of the host's /dev; any number of these
//	g                  supplementary groups may be dropped
//	r                  become root of the user namespace, make the image the root, and leave the host's mounts
//	p PATH             the proc that was made before that
//	m TYPE FLAGS DATA PATH   mount(2); the directory is made if it is missing
//	D                  the devices, and the links of /dev
//	o PATH             remount read-only
//	n PATH             bind to itself, read-only; a path that is missing is passed over, as in the next
//	x PATH             cover with /dev/null, or a directory with an empty one
//	s PATH VALUE       write a file of /proc/sys
//	h NAME             host name
//	l NUMBER SOFT HARD rlimit
//	w PATH             working directory
//	b                  loopback up
//	k                  a session keyring of its own
//	z                  no new privileges
//	u UID GID          who the command is, without capabilities; or
//	U UID GID          who it is, in a user namespace of its own
//	L MEMORY PIDS      RLIMIT_AS and RLIMIT_NPROC of the command, 0 for none
//	f SIZE BYTES       the filter; not ended by NUL
//	e VARIABLE         environment; any number
//	a ARGUMENT         of the command; any number
//	c                  run it
//
// The image is hostile: it may have links where directories should be. So the host's file systems are gone, and every
// descriptor of them closed (CVE-2024-21626), before a path in the image is used, and the working directory has to be one
// that can be reached.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "stage0.h"
#include "sys.h"

// Of <sys/mount.h>, which does not go together with <linux/mount.h> before glibc 2.37.
enum { NOSUID = 2, NODEV = 4, DETACH = 2, BIND_RDONLY = 4096 | 32 | 1 /* MS_BIND | MS_REMOUNT | MS_RDONLY */ };
enum { NAMESPACES = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS };

static int fs_open(const char *type) { return sys(fsopen, type, FSOPEN_CLOEXEC); }
static int fs_set(int fs, unsigned cmd, const char *key, const char *value) { return sys(fsconfig, fs, cmd, key, value, 0); }
static int fs_mount(int fs, unsigned attributes) { return sys(fsmount, fs, FSMOUNT_CLOEXEC, attributes); }
static int clone_tree(int dir, const char *path, unsigned flags)
{
	return sys(open_tree, dir, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
}
static int attach(int tree, int dir, const char *path)
{
	return sys(move_mount, tree, "", dir, path, MOVE_MOUNT_F_EMPTY_PATH | (*path ? 0 : MOVE_MOUNT_T_EMPTY_PATH));
}
static int stat_of(int fd, struct stat *st) { return sys(newfstatat, fd, "", st, AT_EMPTY_PATH); }

static char *plan, *end; // what is left of it

static char *next(void)
{
	char *s = plan;
	while (plan < end)
		if (!*plan++)
			return s;
	at = AT_PLAN;
	refuse(EINVAL);
}

// operation is the next one of the plan; failures are of that.
static char *operation(void)
{
	static int read;
	nth = read++;
	return next();
}

static unsigned long number(void) { return parsed(next()); }

static void read_plan(void)
{
	struct stat st;
	at = AT_PLAN;
	if (stat_of(PLAN, &st))
		fail();
	plan = (char *)sys(mmap, NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, PLAN, 0);
	if (plan == MAP_FAILED)
		fail();
	end = plan + st.st_size;
}

void write_file(const char *path, const char *text)
{
	long n = length(text);
	int fd = open_file(path, O_WRONLY);
	if (fd < 0 || sys(write, fd, text, n) != n)
		fail();
	sys(close, fd);
}

void write_map(int pid, const char *name, const char *text)
{
	char path[64];
	append(append(append_number(append(path, "/proc/"), pid), "/"), name);
	write_file(path, text);
}

// enter_namespaces returns in the first process of new ones, when its ids are mapped. That is a child of this process's
// parent, and this one ends.
static void enter_namespaces(void)
{
	int mapped[2];
	char *uids, *gids, *groups, *op = operation();
	if (*op == 'C') {
		at = AT_ENTER_CGROUP;
		write_file(next(), "0");
		op = operation();
	}
	if (*op == 'N') {
		at = AT_BASE;
		// What has gained capabilities is not dumpable, and so nobody's who could write its maps.
		if (sys(setns, BASE, CLONE_NEWUSER) || sys(prctl, PR_SET_DUMPABLE, 1))
			fail();
		op = operation();
	}
	uids = next(), gids = next(), groups = next();
	at = AT_CLONE;
	if (*op != 'M')
		refuse(EINVAL);
	if (sys(pipe2, mapped, O_CLOEXEC))
		fail();
	int child = sys(clone, NAMESPACES | CLONE_PARENT | SIGCHLD);
	if (child < 0)
		fail();
	if (child == 0) {
		sys(close, mapped[1]);
		// At the end of the pipe the maker has failed, and said so.
		char byte;
		if (sys(read, mapped[0], &byte, 1) != 1) {
			// It may have been killed before it had said who this is; /proc, still the host's, knows.
			char self[16] = { 0 };
			if (sys(readlinkat, AT_FDCWD, "/proc/self", self, sizeof self - 1) > 0)
				started(parsed(self));
			exit_with(137);
		}
		sys(close, mapped[0]);
		return;
	}
	started(child);
	at = AT_MAPS;
	if (*groups)
		write_map(child, "setgroups", groups);
	write_map(child, "uid_map", uids);
	write_map(child, "gid_map", gids);
	if (sys(write, mapped[1], "", 1) != 1)
		fail();
	exit_with(0);
}

// cover makes a read-only overlay of the image and mounts it over the image. Of a plain directory /proc/self/mountinfo
// tells the guest the path on the host, and so the name of the user; of an overlay it tells the options as they were given,
// which are numbers of descriptors here. overlayfs wants a second directory where nothing can be written, and an empty
// tmpfs can be had everywhere. The result is -1 where a user namespace may not mount one (before Linux 5.11).
static int cover(int image)
{
	const unsigned flags = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	char lower[64];
	int fs = fs_open("tmpfs");
	int empty = -1;
	if (fs >= 0 && fs_set(fs, FSCONFIG_SET_STRING, "size", "4k") == 0 && fs_set(fs, FSCONFIG_SET_STRING, "nr_inodes", "2") == 0 &&
	    fs_set(fs, FSCONFIG_SET_STRING, "mode", "0755") == 0 && fs_set(fs, FSCONFIG_CMD_CREATE, NULL, NULL) == 0)
		empty = fs_mount(fs, flags);
	sys(close, fs);
	if (empty < 0 || attach(empty, image, "")) {
		sys(close, empty);
		return -1;
	}
	fs = fs_open("overlay");
	append_number(append(append_number(append(lower, "/proc/self/fd/"), image), ":/proc/self/fd/"), empty);
	int root = -1;
	if (fs >= 0 && fs_set(fs, FSCONFIG_SET_STRING, "lowerdir", lower) == 0 && fs_set(fs, FSCONFIG_SET_FLAG, "ro", NULL) == 0 &&
	    fs_set(fs, FSCONFIG_CMD_CREATE, NULL, NULL) == 0)
		root = fs_mount(fs, flags);
	sys(close, fs);
	if (root >= 0 && attach(root, empty, "")) {
		sys(close, root);
		root = -1;
	}
	sys(close, empty);
	return root;
}

// remount_read_only keeps the other flags: those that came with a bind from a less privileged namespace are locked.
static void remount_read_only(const char *path, unsigned long more)
{
	struct statfs st;
	unsigned long keep = NOSUID | NODEV | 8 | 1024 | 2048; // noexec, noatime, nodiratime: the same numbers in both
	if (sys(statfs, path, &st) || sys(mount, NULL, path, NULL, BIND_RDONLY | more | (st.f_flags & keep), NULL))
		fail();
}

enum { DEVICES = 16, LONGEST_DEVICE = 32 };
static char *devices[DEVICES];
static int trees[DEVICES], device_count;

// device writes the path of a device.
static void device(char path[8 + LONGEST_DEVICE], const char *name) { append(append(path, "/dev/"), name); }

static int proc;

// enter_root leaves the host.
static void enter_root(int image, int drop_groups)
{
	at = AT_GROUPS;
	if (drop_groups && sys(setgroups, 0, NULL))
		fail();
	at = AT_ROOT_IDS;
	if (sys(setresgid, 0, 0, 0) || sys(setresuid, 0, 0, 0))
		fail();
	at = AT_PRIVATE;
	if (sys(mount, NULL, "/", NULL, 1 << 18 | 16384 /* MS_PRIVATE | MS_REC */, NULL))
		fail();
	// A fresh proc may only be mounted where another is in full view, which it is no more without the host's mounts.
	at = AT_PROC;
	int fs = fs_open("proc");
	if (fs < 0 || fs_set(fs, FSCONFIG_CMD_CREATE, NULL, NULL))
		fail();
	proc = fs_mount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (proc < 0)
		fail();
	sys(close, fs);
	at = AT_DEVICES;
	for (int i = 0; i < device_count; i++) {
		char path[8 + LONGEST_DEVICE];
		device(path, devices[i]);
		if ((trees[i] = clone_tree(AT_FDCWD, path, 0)) < 0)
			fail();
	}
	at = AT_IMAGE;
	int root = cover(image);
	int plain = root < 0;
	if (plain) {
		root = clone_tree(image, "", AT_EMPTY_PATH);
		if (root < 0 || attach(root, image, ""))
			fail();
	}
	at = AT_PIVOT;
	if (sys(fchdir, root) || sys(pivot_root, ".", ".") || sys(umount2, ".", DETACH) || sys(chdir, "/"))
		fail();
	sys(close, root);
	sys(close, image);
	if (plain) {
		at = AT_IMAGE;
		remount_read_only("/", NOSUID | NODEV);
	}
}

// own_null makes what is /dev/null of the host that of the container.
void own_null(void)
{
	int null = open_file("/dev/null", O_RDWR);
	struct stat want, st;
	if (null < 0 || stat_of(null, &want))
		fail();
	for (int fd = 0; fd < 3; fd++)
		if (stat_of(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == want.st_rdev && fd != null && sys(dup3, null, fd, 0) < 0)
			fail();
	sys(close, null);
}

static void make_devices(void)
{
	static const char links[][2][16] = {
		{ "/proc/self/fd", "/dev/fd" }, { "/proc/self/fd/0", "/dev/stdin" }, { "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" }, { "/proc/kcore", "/dev/core" }, { "pts/ptmx", "/dev/ptmx" },
	};
	enum { CORE = 4 }; // only where the kernel has it
	at = AT_MAKE_DEVICES;
	for (int i = 0; i < device_count; i++) {
		char path[8 + LONGEST_DEVICE];
		device(path, devices[i]);
		int fd = open_file(path, O_CREAT | O_EXCL | O_NOFOLLOW);
		if (fd < 0 || attach(trees[i], fd, ""))
			fail();
		sys(close, fd);
		sys(close, trees[i]);
	}
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		if ((i != CORE || sys(faccessat, AT_FDCWD, "/proc/kcore", 0) == 0) && sys(symlinkat, links[i][0], AT_FDCWD, links[i][1]))
			fail();
	own_null();
}

// mask covers what is at path. Every directory gets the same empty one, because a file system takes twice as long to make,
// and to end, as a bind mount.
static void mask(const char *path)
{
	static const char *empty;
	struct stat st;
	if (sys(newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW)) {
		if (failure == ENOENT)
			return;
		fail();
	}
	int directory = S_ISDIR(st.st_mode), first = directory && !empty;
	if (first ? sys(mount, "tmpfs", path, "tmpfs", 1, "nr_blocks=1,nr_inodes=1")
		  : sys(mount, directory ? empty : "/dev/null", path, NULL, 4096 /* MS_BIND */, NULL))
		fail();
	if (first)
		empty = path;
}

static void read_only(const char *path)
{
	if (sys(mount, path, path, NULL, 4096 | 16384 /* MS_BIND | MS_REC */, NULL)) {
		if (failure == ENOENT)
			return;
		fail();
	}
	remount_read_only(path, 0);
}

static void loopback_up(void)
{
	at = AT_LOOPBACK;
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int s = sys(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC);
	if (s < 0 || sys(ioctl, s, SIOCSIFFLAGS, &r))
		fail();
	sys(close, s);
}

static void own_keyring(void)
{
	at = AT_KEYRING;
	// The second lock on this door, of which the filter is the first: that an outer container's filter denies it, or that
	// the user has too many, is no reason to refuse the container.
	if (sys(keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && failure != ENOSYS && failure != EPERM && failure != EDQUOT)
		fail();
}

static void change_directory(const char *path)
{
	char now[4096];
	at = AT_DIRECTORY;
	if (sys(chdir, path))
		fail();
	// It says "(unreachable)" of a directory outside of the root.
	if (sys(getcwd, now, sizeof now) < 0 || now[0] != '/')
		refuse(ENOENT);
}

void become(unsigned uid, unsigned gid)
{
	drop_bounding();
	at = AT_IDS;
	if (sys(setresgid, gid, gid, gid) || sys(setresuid, uid, uid, uid))
		fail();
	clear_capabilities();
}

// The descriptors that a guest opens by /dev/stdout must be its own.
void give_streams(unsigned uid, unsigned gid, int extra)
{
	for (int fd = 0; fd < FIRST_EXTRA + extra; fd++) {
		struct stat st;
		// It fails where the launcher has done it: the owner of the pipe is not mapped here then.
		if ((fd < 3 || fd >= FIRST_EXTRA) && stat_of(fd, &st) == 0 && S_ISFIFO(st.st_mode))
			sys(fchown, fd, uid, gid);
	}
}

// hold keeps a user namespace until it has been opened.
void hold(void)
{
	char byte;
	exit_with(sys(read, 0, &byte, 1) < 0);
}

// make_vectors makes room for as many arguments and variables as there are strings left.
static void make_vectors(struct command *c)
{
	size_t room = 1;

	if (c->argv)
		return;
	for (const char *p = plan; p < end; p++)
		room += !*p;
	void *vectors = (void *)sys(mmap, NULL, 2 * room * sizeof(char *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vectors == MAP_FAILED)
		fail();
	c->argv = vectors;
	c->env = c->argv + room;
}

void setup(int extra)
{
	int image = -1, drop_groups = 0;
	size_t args = 0, variables = 0;
	struct command c = { .extra = extra };

	close_from(FIRST_EXTRA + extra, ~0U); // the bridge may itself have been given some that it knows nothing of
	keep_descriptors();
	read_plan();
	sys(close, PLAN);
	enter_namespaces();
	sys(close, BASE);
	at = AT_SESSION;
	if (sys(setsid) < 0)
		fail();
	sys(umask, 022);
	for (;;) {
		char op = *operation(), *a, *b, *d;
		unsigned long flags;
		struct stat st;
		switch (op) {
		case 'i':
			at = AT_IMAGE;
			image = open_file(next(), O_PATH | O_DIRECTORY);
			if (image < 0)
				fail();
			break;
		case 'd':
			at = AT_PLAN;
			a = next();
			if (device_count == DEVICES || length(a) > LONGEST_DEVICE)
				refuse(E2BIG);
			devices[device_count++] = a;
			break;
		case 'g':
			drop_groups = 1;
			break;
		case 'r':
			enter_root(image, drop_groups);
			at = AT_CGROUP;
			if (sys(unshare, CLONE_NEWCGROUP)) // where this process is now becomes the root of what it sees
				fail();
			break;
		case 'p':
			at = AT_PROC;
			if (proc <= 0)
				refuse(EINVAL);
			if (attach(proc, AT_FDCWD, next()))
				fail();
			sys(close, proc);
			break;
		case 'm':
			at = AT_MOUNT;
			a = next(), flags = number(), b = next(), d = next();
			if (sys(mkdirat, AT_FDCWD, d, 0755) && failure != EEXIST && failure != EROFS)
				fail();
			// mount(2) would follow a link of the image's, to where something is that masks count on.
			if (sys(newfstatat, AT_FDCWD, d, &st, AT_SYMLINK_NOFOLLOW))
				fail();
			if (!S_ISDIR(st.st_mode))
				refuse(ENOTDIR);
			if (sys(mount, a, d, a, flags, b))
				fail();
			break;
		case 'D':
			make_devices();
			break;
		case 'o':
			at = AT_READONLY;
			remount_read_only(next(), 0);
			break;
		case 'n':
			at = AT_READONLY;
			read_only(next());
			break;
		case 'x':
			at = AT_MASK;
			mask(next());
			break;
		case 's':
			at = AT_SYSCTL;
			a = next(), b = next();
			write_file(a, b);
			break;
		case 'h':
			at = AT_HOSTNAME;
			a = next();
			if (sys(sethostname, a, length(a)))
				fail();
			break;
		case 'l': {
			at = AT_RLIMIT;
			int resource = number();
			struct rlimit l;
			l.rlim_cur = number(), l.rlim_max = number();
			if (sys(prlimit64, 0, resource, &l))
				fail();
			break;
		}
		case 'b':
			loopback_up();
			break;
		case 'k':
			own_keyring();
			break;
		case 'z':
			at = AT_NO_NEW_PRIVS;
			if (sys(prctl, PR_SET_NO_NEW_PRIVS, 1))
				fail();
			break;
		case 'w':
			change_directory(next());
			break;
		case 'u': {
			unsigned uid = number(), gid = number();
			give_streams(uid, gid, extra);
			become(uid, gid);
			break;
		}
		case 'U':
			c.uid = number(), c.gid = number();
			break;
		case 'L':
			c.memory = number(), c.pids = number();
			break;
		case 'f':
			c.filter_size = number();
			at = AT_PLAN;
			if (c.filter_size > (size_t)(end - plan))
				refuse(EINVAL);
			c.filter = (struct sock_filter *)plan;
			plan += c.filter_size;
			break;
		case 'e':
			make_vectors(&c);
			c.env[variables++] = next();
			break;
		case 'a':
			make_vectors(&c);
			c.argv[args++] = next();
			break;
		case 'c':
			make_vectors(&c);
			nth = NO_OPERATION;
			supervise(&c);
		default:
			at = AT_PLAN;
			refuse(EINVAL);
		}
	}
}
