//go:build linux

package host

import (
	"context"
	"crypto/rand"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/user"
	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// Diagnose tries, step by step, what containers within these limits need of this host. What can go wrong is done for
// real, by children that are gone when it returns, and so are their files. What it changes is what a run changes: a
// cgroup that is delegated is made ready for containers. Its containers have root for their root, the directory of an
// image; if it is empty, one without files, in which a static program can start. They are started by what launcher makes.
func Diagnose(ctx context.Context, launcher func(Options) Launcher, root string, limits oci.Limits) []Check {
	d := diagnosis{launcher: launcher, root: root, limits: limits}
	d.add("kernel", OK, describeKernel(release()), Unknown)
	name, _ := user.CurrentUser()
	d.add("user", OK, describeUser(os.Geteuid(), name.Name), Unknown)
	d.outcome("program", executable(), "the user of a sandbox may execute it", Unknown)
	d.namespaces()
	d.idMaps()
	d.cgroup(ctx)
	d.containers(ctx)
	return d.checks
}

type diagnosis struct {
	launcher func(Options) Launcher
	root     string
	limits   oci.Limits
	checks   []Check
}

func (d *diagnosis) add(step string, s Status, detail string, cause Cause) {
	d.checks = append(d.checks, Check{Step: step, Status: s, Detail: oneLine(detail), Cause: cause})
}

// outcome adds a step that either failed or did not.
func (d *diagnosis) outcome(step string, err error, good string, cause Cause) {
	if err == nil {
		d.add(step, OK, good, Unknown)
		return
	}
	c := Check{Step: step, Status: Failed, Detail: oneLine(err.Error()), Cause: cause}
	if h := (*oci.HostError)(nil); errors.As(err, &h) {
		c.Detail = oneLine(strings.ReplaceAll(err.Error(), "; "+h.Fix, ""))
		if cause == Unknown {
			c.Fix = h.Fix
		}
	}
	d.checks = append(d.checks, c)
}

// oneLine keeps what a host's files say from looking like lines of ours, and from steering a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ReplaceAll(strings.TrimSpace(s), "\n", "; "))
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown: " + err.Error()
	}
	return unix.ByteSliceToString(u.Release[:])
}

// describeKernel says what a kernel of this release lacks that is not seen by trying.
func describeKernel(release string) string {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err == nil && (major < 5 || major == 5 && minor < 14) {
		return release + ": before 5.14, where a weak limit of processes counts all of the user's"
	}
	return release
}

func describeUser(uid int, name string) string {
	if name == "" {
		return fmt.Sprintf("uid %d, who has no line in /etc/passwd", uid)
	}
	return fmt.Sprintf("%s (uid %d)", name, uid)
}

// namespaces makes them in a child that has nothing to run: the file that it is to execute cannot exist, so that the
// error of its exec says that all steps before are done.
func (d *diagnosis) namespaces() {
	settings := make(map[Cause]string)
	seen := ""
	for _, s := range []Cause{MaxUserNS, UserNSClone, AppArmorUserNS} {
		if b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(string(s), ".", "/")); err == nil {
			settings[s] = strings.TrimSpace(string(b))
			seen += fmt.Sprintf("; %s=%s", s, settings[s])
		}
	}
	root := os.Geteuid() == 0
	one := func(id int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: id, Size: 1}} }
	attr := syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: one(os.Geteuid()), GidMappings: one(os.Getegid())}
	if err := tryChild(attr); err != nil {
		d.add("user namespace", Failed, fmt.Sprintf("a child got none: %v%s", err, seen), whyNoUserNS(settings, root))
		d.add("mount namespace", Skipped, "needs a user namespace", Unknown)
		return
	}
	d.add("user namespace", OK, "a child got one"+seen, Unknown)
	// With CLONE_NEWNS, Go makes all mounts private: a mount(2), which is what AppArmor forbids in a user namespace that
	// it lets be made.
	attr.Unshareflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	if err := tryChild(attr); err != nil {
		why := whyNoUserNS(settings, root)
		if why == NoUserNS {
			why = NoMount
		}
		d.add("mount namespace", Failed, fmt.Sprintf("a child got none in its user namespace: %v%s", err, seen), why)
		return
	}
	d.add("mount namespace", OK, "a child got one, and those of processes, network, IPC, host name and cgroups", Unknown)
}

func tryChild(attr syscall.SysProcAttr) error {
	pid, err := syscall.ForkExec("/proc/self/exe/none", []string{"none"}, &syscall.ProcAttr{Sys: &attr})
	if err == nil { // it died before it could tell
		var ws syscall.WaitStatus
		_, _ = syscall.Wait4(pid, &ws, 0, nil)
		return fmt.Errorf("it was killed: %v", ws.Signal())
	}
	if errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// whyNoUserNS tells which setting keeps user namespaces from working.
func whyNoUserNS(settings map[Cause]string, root bool) Cause {
	switch {
	case settings[MaxUserNS] == "0":
		return MaxUserNS
	case settings[UserNSClone] == "0" && !root:
		return UserNSClone
	case settings[AppArmorUserNS] == "1" && !root:
		return AppArmorUserNS
	}
	return NoUserNS
}

// idMaps says what the maps are that containers will have. That they work shows when one starts.
func (d *diagnosis) idMaps() {
	if os.Geteuid() == 0 {
		uid, _, err := rootMaps()
		if err != nil {
			d.outcome("id maps", err, "", Unknown)
			return
		}
		d.add("id maps", OK, fmt.Sprintf("a container's root is %d here", uid[0].Host), Unknown)
		return
	}
	uid, _, nested, err := userMaps()
	switch {
	case err != nil:
		d.outcome("id maps", err, "", Unknown)
	case nested:
		d.nested()
	default:
		d.add("id maps", OK, fmt.Sprintf("a container's user is %d here, a subordinate id", uid[1].Host), Unknown)
	}
}

// nested says that a container's user is this user: it works, and a fix makes it better.
func (d *diagnosis) nested() {
	why, detail := whyNoMaps()
	check := Check{
		Step: "id maps", Status: OK, Cause: why,
		Detail: oneLine("a container's user is this user, in a second user namespace without any rights, because " + detail),
	}
	if i := slices.IndexFunc(d.checks, func(c Check) bool { return c.Step == check.Step }); i >= 0 {
		d.checks[i] = check
		return
	}
	d.checks = append(d.checks, check)
}

// whyNoMaps tells why a user cannot map subordinate ids.
func whyNoMaps() (Cause, string) {
	for _, helper := range []string{"newuidmap", "newgidmap"} {
		path, err := exec.LookPath(helper)
		switch {
		case err != nil:
			return NoHelper, "the program " + helper + " is missing"
		case !privileged(path):
			return WeakHelper, path + " is neither setuid root nor has it capabilities"
		}
	}
	if noNewPrivs() {
		return NoNewPrivs, "this process may not gain privileges (no_new_privs), which newuidmap has to"
	}
	if _, err := user.CurrentUser(); err != nil {
		return NoPasswd, fmt.Sprintf("uid %d has no line in /etc/passwd", os.Geteuid())
	}
	u, uerr := user.CurrentUserSubUIDs()
	g, gerr := user.CurrentUserSubGIDs()
	if uerr != nil || gerr != nil || len(u) == 0 || len(g) == 0 {
		return NoSubIDs, "/etc/subuid or /etc/subgid has no line for this user"
	}
	return Unknown, "newuidmap failed"
}

// noNewPrivs says that no program this process starts gets privileges (prctl(2), PR_SET_NO_NEW_PRIVS).
func noNewPrivs() bool {
	n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return err == nil && n == 1
}

func privileged(path string) bool {
	if n, err := unix.Getxattr(path, "security.capability", nil); err == nil && n > 0 {
		return true
	}
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Uid == 0 && st.Mode&unix.S_ISUID != 0
}

func (d *diagnosis) cgroup(ctx context.Context) {
	version, v2 := "cgroup v1", cgroups.IsCgroup2UnifiedMode()
	if v2 {
		version = "cgroup v2"
	}
	cg, err := findCgroup(ctx)
	if err != nil {
		why := NoCgroup
		switch {
		case !v2 && os.Geteuid() != 0:
			why = CgroupV1
		case strings.Contains(err.Error(), "is not delegated"):
			why = NoController
		}
		d.add("cgroup", Weak, version+": "+err.Error(), why)
		for _, c := range []string{"memory", "pids", "cpu"} {
			d.add("cgroup "+c, Skipped, "needs a cgroup", Unknown)
		}
		return
	}
	var available []string
	where := filepath.Join(unifiedRoot, cg.parent)
	if v2 {
		b, _ := readSmall(filepath.Join(where, "cgroup.subtree_control")) // what cannot be read is not there
		available = strings.Fields(string(b))
	} else {
		where = cg.v1["memory"]
		for c := range cg.v1 {
			available = append(available, c)
		}
	}
	if !cg.swap {
		version += " without swap accounting"
	}
	d.add("cgroup", OK, version+"; containers go below "+where, Unknown)
	d.checks = append(d.checks, controllerChecks(available, d.limits)...)
}

func controllerChecks(available []string, limits oci.Limits) (checks []Check) {
	for _, c := range []struct {
		name   string
		needed bool
	}{{"memory", true}, {"pids", true}, {"cpu", limits.CPUs > 0}} {
		check := Check{Step: "cgroup " + c.name, Status: OK, Detail: "on"}
		switch {
		case slices.Contains(available, c.name):
		case c.needed:
			check.Status, check.Detail, check.Cause = Failed, "not delegated, and a limit that is set needs it", NoController
		default:
			check.Status, check.Detail, check.Cause = Skipped, "not delegated; only MCP_BRIDGE_CPUS needs it, which is not set", NoController
		}
		checks = append(checks, check)
	}
	return checks
}

const filterStep = "seccomp filter"

// containerSteps are what a container does when it has its namespaces, in its order, and what is seen of that.
var containerSteps = []struct {
	name, good string
	cause      Cause
}{
	{"fresh proc", "a container has one", MaskedProc},
	{"mounts", "a container has tmpfs on /dev, /tmp and /workspace", NoMount},
	{"pivot", "a container has a directory for its root", NoMount},
	{"container", "one has come to the point where it runs its command", Unknown},
}

// containers starts two: one without the filter, and one with it. That their command is not found says that all before
// is done.
func (d *diagnosis) containers(ctx context.Context) {
	failed, at, needs := -1, "", "needs what failed above"
	var err error
	if d.root == "" && !static() {
		needs = "needs an image, because this program is not static"
	} else if !slices.ContainsFunc(d.checks, func(c Check) bool { return c.Status == Failed }) {
		failed = len(containerSteps)
		if err = d.tryContainer(ctx, true); err != nil {
			at = "container"
			if h := (*oci.HostError)(nil); !errors.As(err, &h) || strings.Contains(h.Missing, "mounting \"proc\"") { // else it has its own fix
				at = stepOf(err.Error())
			}
			failed = -1
			if !d.blame(at, err) {
				for failed = 0; containerSteps[failed].name != at; failed++ {
				}
			}
		}
	}
	for i, step := range containerSteps {
		switch {
		case i < failed:
			d.add(step.name, OK, step.good, Unknown)
		case i == failed:
			d.outcome(step.name, err, "", step.cause)
		default:
			d.add(step.name, Skipped, needs, Unknown)
		}
	}
	if failed < len(containerSteps) {
		d.add(filterStep, Skipped, needs, Unknown)
		return
	}
	d.outcome(filterStep, d.tryContainer(ctx, false), "a container has it", NoSeccomp)
}

// blame turns an earlier step into a failed one, if there is one of this name.
func (d *diagnosis) blame(step string, err error) bool {
	i := slices.IndexFunc(d.checks, func(c Check) bool { return c.Step == step })
	if i < 0 {
		return false
	}
	c := &d.checks[i]
	c.Status, c.Detail, c.Cause = Failed, oneLine(err.Error()), NoCgroup
	if step == "id maps" {
		why, detail := whyNoMaps()
		c.Cause, c.Detail = why, oneLine(detail+": "+err.Error())
	}
	return true
}

func (d *diagnosis) tryContainer(ctx context.Context, unfiltered bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, maxTrial)
	defer cancel()
	base, err := emptyRoot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	root := d.root
	if root == "" {
		root = filepath.Join(base, "root")
	}
	l := d.launcher(Options{StateDir: filepath.Join(base, "state"), AllowWeakLimits: true, Unfiltered: unfiltered})
	_, err = l.Run(ctx, oci.Container{
		ID: "doctor-" + strings.ToLower(rand.Text()), Rootfs: root, Args: []string{noCommand},
		User: oci.User{UID: 65534, GID: 65534}, Limits: d.limits,
	}, oci.Streams{})
	if cerr := l.Close(); cerr != nil {
		return errors.Join(err, cerr)
	}
	if n, ok := l.(interface{ Nested() bool }); ok && os.Geteuid() != 0 && n.Nested() {
		d.nested() // also where newuidmap looked fine, and refused
	}
	if start := (*oci.StartError)(nil); errors.As(err, &start) && strings.HasPrefix(start.Step, "exec ") && errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		return errors.New("internal error: a container has run a command that is not there")
	}
	return err
}

const (
	maxTrial = 30 * time.Second
	// noCommand is in no image.
	noCommand = "/proc/none"
)

// static says whether this program can start where no shared libraries are.
func static() bool {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return false
	}
	defer f.Close()
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// emptyRoot makes a directory with a root for a container, where the user of root's containers can get to.
func emptyRoot() (base string, err error) {
	for _, dir := range []string{os.TempDir(), "/var/tmp", "/tmp", "/dev/shm"} {
		if os.Geteuid() == 0 && traversable(dir) != nil {
			continue
		}
		if base, err = os.MkdirTemp(dir, "mcp-bridge-doctor-"); err == nil {
			break
		}
	}
	if base == "" {
		return "", fmt.Errorf("cannot make a directory that others may enter in %s, /var/tmp, /tmp or /dev/shm: %w", os.TempDir(), err)
	}
	err = os.Chmod(base, 0o711)
	for _, dir := range []string{"root", "root/proc", "root/dev", "root/tmp", "root/workspace"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(base, dir), 0o755), os.Chmod(filepath.Join(base, dir), 0o755)) // whatever the umask
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(base))
	}
	return base, nil
}

// stepOf finds in the error of a start the step that it is of.
func stepOf(text string) string {
	for _, s := range []struct{ part, step string }{
		{"newuid map", "id maps"},
		{"newgid map", "id maps"},
		{"uid_map", "id maps"},
		{"gid_map", "id maps"},
		{"cgroup", "cgroup"},
		{"memory.", "cgroup"},
		{"pids.max", "cgroup"},
		{`mounting "proc"`, "fresh proc"},
		{"/proc/sys", "fresh proc"},
		{"pivot_root", "pivot"},
		{"mounting", "mounts"},
		{"remount", "mounts"},
	} {
		if strings.Contains(text, s.part) {
			return s.step
		}
	}
	return "container"
}
