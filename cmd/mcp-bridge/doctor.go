package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/bridge"
	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/cli"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

func doctorCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "doctor", Short: "Say step by step what this host offers for a run, and how to mend what it does not", Args: cobra.NoArgs,
		Long: "Try each thing that a run needs of this host, a real run at last, and say how to mend what does not work.",
		RunE: func(c *cobra.Command, _ []string) error { return doctor(c.Context(), c.OutOrStdout(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of {step, status, detail, fix}")
	return c
}

func doctor(ctx context.Context, out io.Writer, asJSON bool) error {
	p := lookAround(os.DirFS("/"), os.Getenv)
	checks := []host.Check{{Step: "system", Status: host.OK, Detail: p.describe()}}
	cfg, log, err := load(os.Stderr)
	if err != nil {
		checks = append(checks, host.Check{
			Step: "settings", Status: host.Failed, Detail: strings.ReplaceAll(err.Error(), "\n", "; "), Fix: "set these variables to what is allowed: see mcp-bridge --help",
		})
		log = slog.New(slog.DiscardHandler)
	} else {
		checks = append(checks, host.Check{Step: "settings", Status: host.OK, Detail: "state in " + cfg.StateDir + ", cache in " + cfg.CacheDir})
	}
	engine, err := engineFor(cfg, log)
	if err != nil {
		return err
	}
	image, tree := checkImage(ctx, p, &cfg, engine)
	if engine != nil {
		defer func() {
			if err := engine.Close(); err != nil {
				log.Error("cannot clean up", "error", err)
			}
		}()
	}
	for _, c := range diagnoseRuntime(ctx, cfg, engine, tree) {
		if c.Fix == "" {
			c.Fix = p.fix(c)
		}
		checks = append(checks, c)
	}
	checks = append(checks, image)
	before := doctorExit(checks)
	if before == exitSick && image.Status == host.OK && engine == nil && (cfg.Runtime == "auto" || cfg.Runtime == "") && len(candidates(cfg, host.Options{Logger: log}, runtime.GOOS, exec.LookPath)) > 1 {
		before = exitWeak // another runtime may do
	}
	run := checkRun(ctx, cfg, log, before)
	checks = append(checks, run)
	if ctx.Err() != nil {
		return &exitError{exitInterrupt, errors.New("interrupted")}
	}
	code := doctorExit(checks)
	if code == exitSick && (run.Status == host.OK || run.Status == host.Weak) {
		code = exitWeak // not by the best means, but it works
	}
	write := func() error { return writeText(out, checks, code) }
	if asJSON {
		write = func() error { return writeJSON(out, checks) }
	}
	if err := write(); err != nil {
		return fmt.Errorf("cannot write the diagnosis: %w", err)
	}
	if code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// checkImage makes the image ready, as a run does.
func checkImage(ctx context.Context, p place, cfg *config.Config, engine *cli.Engine) (c host.Check, tree string) {
	c = host.Check{Step: "image"}
	if cfg.Image == "" {
		c.Status, c.Detail = host.Skipped, "needs the settings"
		return c, ""
	}
	i := newImages(*cfg, slog.New(slog.DiscardHandler))
	i.engine = func() *cli.Engine { return engine }
	got, err := i.image(ctx)
	if err != nil {
		c.Status, c.Detail, c.Fix = host.Failed, strings.ReplaceAll(err.Error(), "\n", "; "), p.fixImage(err)
		if h := (*oci.HostError)(nil); errors.As(err, &h) {
			c.Detail, c.Fix = h.Missing, h.Fix
		}
		return c, ""
	}
	c.Status, c.Detail = host.OK, cfg.Image+" with "+got.Python
	if got.Note != "" {
		c.Detail = got.Note + ", " + got.Python
		c.Fix = "set " + config.EnvImage + " to choose an image (host: this one)"
		cfg.Image, cfg.ImageSet = "host", true // rather than to try in vain once more
	}
	return c, got.Root
}

// checkRun makes a run, as `mcp-bridge run` does, unless what was seen so far makes that pointless.
func checkRun(ctx context.Context, cfg config.Config, log *slog.Logger, before int) host.Check {
	c := host.Check{Step: "run", Status: host.Skipped, Detail: "needs what failed above"}
	if before != exitSick {
		c.Status, c.Detail, c.Fix = tryRun(ctx, cfg, log)
		if c.Status == host.Failed && !cfg.AllowWeakLimits {
			cfg.AllowWeakLimits = true // what that comes to is seen in the result
			c.Status, c.Detail, c.Fix = tryRun(ctx, cfg, log)
		}
	}
	return c
}

// tryRun runs print(1), and has the version of Python as its value.
func tryRun(ctx context.Context, cfg config.Config, log *slog.Logger) (s host.Status, detail, fix string) {
	silent := slog.New(slog.DiscardHandler)
	b, closeBridge, err := wire(cfg, silent, newImages(cfg, silent), nil)
	if err != nil {
		return host.Failed, err.Error(), ""
	}
	r, err := b.Run(ctx, bridge.Request{Code: "print(1)\n__import__('sys').version.split()[0]"}, bridge.Output{})
	if cerr := closeBridge(); cerr != nil {
		log.Error("cannot clean up", "error", cerr)
	}
	if h := (*oci.HostError)(nil); errors.As(err, &h) {
		return host.Failed, h.Missing, h.Fix
	}
	if err != nil || r.Status != bridge.StatusSuccess || !slices.Equal(r.Stdout, []string{"1"}) {
		return host.Failed, fmt.Sprintf("print(1) does not print 1: %s %q", r.Summarize(), r.Stdout), ""
	}
	var version string
	_ = json.Unmarshal(r.Result, &version) // what is not a string is not said
	detail = "print(1) printed 1, with Python " + version
	if r.Runtime != "" {
		detail += ", by " + r.Runtime
	}
	if r.Limits == "" {
		return host.OK, detail, ""
	}
	return host.Weak, detail + "; its limits were enforced by " + r.Limits + " only", "see the fix of the cgroup, or set " + config.EnvAllowWeakLimits + "=1"
}

func doctorExit(checks []host.Check) int {
	code := 0
	for _, c := range checks {
		switch c.Status {
		case host.Weak:
			code = max(code, exitWeak)
		case host.Failed:
			code = exitSick
		case host.OK, host.Skipped:
		}
	}
	return code
}

// writeText ends with what code, the exit code, comes to.
func writeText(w io.Writer, checks []host.Check, code int) error {
	var b strings.Builder
	first := -1
	for i, c := range checks {
		fmt.Fprintf(&b, "%-8s %-16s %s\n", c.Status, c.Step, printable(c.Detail))
		if c.Fix != "" {
			fmt.Fprintf(&b, "%-8s %-16s fix: %s\n", "", "", c.Fix)
		}
		if first < 0 && c.Status != host.OK && c.Status != host.Skipped {
			first = i
		}
	}
	run := slices.IndexFunc(checks, func(c host.Check) bool { return c.Step == "run" && c.Status == host.OK })
	switch {
	case code == 0:
		b.WriteString("\nRuns work at full strength.\n")
	case code == exitWeak && run >= 0:
		fmt.Fprintf(&b, "\nRuns work at full strength, but not by the best means, because of: %s.\n", checks[first].Step)
	case code == exitWeak:
		fmt.Fprintf(&b, "\nRuns work only with %s=1, and with weak limits, because of: %s.\n", config.EnvAllowWeakLimits, checks[first].Step)
	default:
		for first = 0; checks[first].Status != host.Failed; first++ {
		}
		fmt.Fprintf(&b, "\nRuns do not work. The first thing to mend: %s.\n", checks[first].Step)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// A place is where this process is, as far as that decides how something is mended.
type place struct {
	family    string // of distributions: debian, fedora, arch, alpine, suse, or empty
	system    string // the distribution's name for people
	container string // docker, podman, kubernetes or another, if it is in one
	ci        string // GitHub Actions or GitLab CI
	wsl       bool
	session   bool // a login session's scope, which is not delegated
	systemd   bool
	manager   bool   // systemd's user instance can be asked
	lacks     string // what the environment lacks for systemd-run --user, to be set before it
	masked    bool   // parts of /proc are covered
	root      bool
	user      string // for commands
	subids    string // /etc/subuid and /etc/subgid
}

func lookAround(root fs.FS, getenv func(string) string) place {
	read := func(name string) string { b, _ := fs.ReadFile(root, name); return string(b) }
	exists := func(name string) bool { _, err := fs.Stat(root, name); return err == nil }
	p := place{
		wsl:     strings.Contains(strings.ToLower(read("proc/version")), "microsoft"),
		session: strings.Contains(read("proc/self/cgroup"), "/session-"),
		systemd: exists("run/systemd/system"),
		root:    os.Geteuid() == 0,
		user:    getenv("USER"),
		subids:  read("etc/subuid") + "\n" + read("etc/subgid"),
	}
	p.family, p.system = distribution(read("etc/os-release"))
	dir := getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = fmt.Sprintf("/run/user/%d", os.Geteuid())
		p.lacks = "XDG_RUNTIME_DIR=" + dir + " "
	}
	p.manager = exists(strings.TrimPrefix(dir, "/")+"/systemd/private") || exists(strings.TrimPrefix(dir, "/")+"/bus")
	mounts := read("proc/self/mountinfo")
	switch {
	case getenv("KUBERNETES_SERVICE_HOST") != "":
		p.container = "kubernetes"
	case exists("run/.containerenv"):
		p.container = "podman"
	case exists(".dockerenv") && strings.Contains(mounts, " /etc/resolv.conf "): // the file alone is in copies of images too
		p.container = "docker"
	default:
		p.container = strings.TrimSpace(read("run/systemd/container"))
	}
	switch {
	case getenv("GITHUB_ACTIONS") == "true":
		p.ci = "GitHub Actions"
	case getenv("GITLAB_CI") != "":
		p.ci = "GitLab CI"
	}
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], "/proc/") && f[4] != "/proc/sys/fs/binfmt_misc" {
			p.masked = true
		}
	}
	if p.user == "" || strings.Trim(p.user, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		p.user = "$(id -un)"
	}
	return p
}

// distribution finds the family and the name of a distribution in its os-release(5).
func distribution(osRelease string) (family, name string) {
	values := make(map[string]string)
	for line := range strings.Lines(osRelease) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	for _, id := range strings.Fields(values["ID"] + " " + values["ID_LIKE"]) {
		switch {
		case id == "debian" || id == "ubuntu":
			family = "debian"
		case id == "fedora" || id == "rhel" || id == "centos":
			family = "fedora"
		case id == "arch" || id == "alpine":
			family = id
		case id == "suse" || strings.HasPrefix(id, "opensuse") || id == "sles":
			family = "suse"
		}
		if family != "" {
			break
		}
	}
	return family, values["PRETTY_NAME"]
}

func (p place) describe() string {
	parts := []string{runtime.GOOS + "/" + runtime.GOARCH}
	if p.system != "" {
		parts = append([]string{printable(p.system)}, parts...)
	}
	if p.container != "" {
		parts = append(parts, "inside a container ("+p.container+")")
	}
	if p.masked {
		parts = append(parts, "/proc is masked")
	}
	if p.ci != "" {
		parts = append(parts, p.ci)
	}
	if p.wsl {
		parts = append(parts, "WSL")
	}
	if p.session && !p.root {
		parts = append(parts, "a login session without delegation")
	}
	return strings.Join(parts, ", ")
}

func (p place) sudo() string {
	switch {
	case p.root:
		return ""
	case p.family == "alpine":
		return "doas "
	}
	return "sudo "
}

// install is the command that installs a package, given by its names in the families; without one it is what it has.
func (p place) install(names map[string]string) string {
	command, ok := map[string]string{
		"debian": "apt-get install -y ", "fedora": "dnf install -y ", "arch": "pacman -S --noconfirm ", "alpine": "apk add ", "suse": "zypper install -y ",
	}[p.family]
	if !ok {
		return "install the package with " + names[""]
	}
	return p.sudo() + command + names[p.family]
}

func (p place) sysctl(setting string) string {
	return fmt.Sprintf("echo %s | %stee -a /etc/sysctl.d/60-mcp-bridge.conf && %ssysctl -p /etc/sysctl.d/60-mcp-bridge.conf", setting, p.sudo(), p.sudo())
}

const orWeak = "; or set " + config.EnvAllowWeakLimits + "=1 for weaker limits (rlimits and a watchdog)"

// fix is what mends a check in this place.
func (p place) fix(c host.Check) string {
	switch c.Cause {
	case host.MaxUserNS:
		return p.sysctl("user.max_user_namespaces=15000")
	case host.UserNSClone:
		return p.sysctl("kernel.unprivileged_userns_clone=1")
	case host.AppArmorUserNS:
		if p.ci == "GitHub Actions" {
			return "a step before: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
		}
		return p.sysctl("kernel.apparmor_restrict_unprivileged_userns=0") + " (or a profile for this program alone: docs/doctor.md)"
	case host.NoUserNS, host.NoMount, host.NoSeccomp, host.MaskedProc:
		if p.container != "" || p.masked || p.ci == "GitLab CI" {
			return p.fixOuter()
		}
		if c.Cause == host.NoSeccomp {
			return "a kernel with CONFIG_SECCOMP_FILTER"
		}
		return "a kernel with CONFIG_USER_NS that lets this process use it: not in a chroot, nor below a sandbox that forbids it (see dmesg)"
	case host.NoHelper:
		return p.install(map[string]string{"debian": "uidmap", "fedora": "shadow-utils", "arch": "shadow", "alpine": "shadow-uidmap", "suse": "shadow", "": "newuidmap and newgidmap"})
	case host.WeakHelper:
		return p.sudo() + "chmod u+s $(command -v newuidmap) $(command -v newgidmap)"
	case host.NoPasswd:
		return fmt.Sprintf("echo 'bridge:x:%d:%d::/nonexistent:/bin/sh' | %stee -a /etc/passwd", os.Geteuid(), os.Getegid(), p.sudo())
	case host.NoNewPrivs:
		return "start it without no_new_privs (Kubernetes: allowPrivilegeEscalation: true; systemd: NoNewPrivileges=no)"
	case host.NoSubIDs:
		first := freeSubIDs(p.subids)
		if p.family == "alpine" || p.family == "" {
			return fmt.Sprintf("echo %s:%d:65536 | %stee -a /etc/subuid /etc/subgid", p.user, first, p.sudo())
		}
		return fmt.Sprintf("%susermod --add-subuids %d-%d --add-subgids %[2]d-%[3]d %s", p.sudo(), first, first+65535, p.user)
	case host.CgroupV1, host.NoCgroup, host.NoController:
		return p.fixCgroup(c)
	case host.Unknown:
	}
	return ""
}

// freeSubIDs is where the first range of 65536 ids begins that is above all given ones.
func freeSubIDs(subids string) int {
	first := 100_000
	for line := range strings.Lines(subids) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 {
			continue
		}
		start, err1 := strconv.Atoi(f[1])
		count, err2 := strconv.Atoi(f[2])
		if err1 == nil && err2 == nil && start+count < 1<<31 {
			first = max(first, start+count)
		}
	}
	return first
}

// fixOuter is for what a container around this process forbids.
func (p place) fixOuter() string {
	switch {
	case p.ci == "GitLab CI":
		return `in the runner's config.toml, [runners.docker]: security_opt = ["seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"]`
	case p.container == "podman":
		return "start the outer container with: podman run --security-opt unmask=ALL --security-opt seccomp=unconfined"
	case p.container == "kubernetes":
		return "in the pod: hostUsers: false; in its container's securityContext: procMount: Unmasked, seccompProfile: {type: Unconfined}, appArmorProfile: {type: Unconfined}"
	}
	return "start the outer container with: docker run --security-opt systempaths=unconfined --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
}

func (p place) fixCgroup(c host.Check) string {
	switch {
	case p.container == "docker" || p.ci == "GitLab CI":
		return "start the outer container with --privileged" + orWeak + " (those of the outer container then count)"
	case p.container == "podman":
		return "start the outer container with --systemd=always" + orWeak + " (those of the outer container then count)"
	case p.container != "":
		return "let the outer container write to its cgroup" + orWeak + " (those of the outer container then count)"
	case c.Cause == host.CgroupV1:
		return p.cgroupV2() + orWeak
	case p.root:
		return "mount -o remount,rw /sys/fs/cgroup" + orWeak
	case c.Cause == host.NoController:
		return "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, and log in again"
	case !p.systemd:
		return "run it as root, or let root give this user a cgroup" + orWeak
	case !p.manager:
		return p.sudo() + "loginctl enable-linger " + p.user + orWeak
	}
	return "start it by: " + p.lacks + "systemd-run --user --scope -p Delegate=yes mcp-bridge" + orWeak
}

// cgroupV2 is how a system boots with it.
func (p place) cgroupV2() string {
	const arg = "systemd.unified_cgroup_hierarchy=1"
	grub := func(update string) string {
		return p.sudo() + `sed -i 's/^GRUB_CMDLINE_LINUX="/&` + arg + ` /' /etc/default/grub && ` + p.sudo() + update + " && " + p.sudo() + "reboot"
	}
	switch {
	case p.wsl:
		return "in %UserProfile%\\.wslconfig, below [wsl2]: kernelCommandLine = cgroup_no_v1=all; then: wsl --shutdown"
	case p.family == "alpine":
		return `doas sed -i 's/^#*rc_cgroup_mode=.*/rc_cgroup_mode="unified"/' /etc/rc.conf && doas reboot`
	case !p.systemd:
		return "boot with cgroup_no_v1=all on the kernel's command line and cgroup2 on /sys/fs/cgroup, or run it as root"
	case p.family == "fedora":
		return "sudo grubby --update-kernel=ALL --args=" + arg + " && sudo reboot"
	case p.family == "suse":
		return grub("grub2-mkconfig -o /boot/grub2/grub.cfg")
	case p.family == "arch":
		return grub("grub-mkconfig -o /boot/grub/grub.cfg")
	case p.family == "debian":
		return grub("update-grub")
	}
	return "boot with " + arg + " on the kernel's command line"
}

func (p place) fixImage(err error) string {
	if errors.Is(err, rootfs.ErrNoPython) {
		if _, lerr := exec.LookPath("python3"); lerr != nil {
			return p.install(map[string]string{"debian": "python3", "fedora": "python3", "arch": "python", "alpine": "python3", "suse": "python3", "": "python3"}) +
				", or set " + config.EnvImage + " to an image with python3 3.9 or newer"
		}
	}
	if errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), config.EnvCacheDir) {
		return "set " + config.EnvCacheDir + " to a directory that this user may write to, or give the user the one above"
	}
	return "set " + config.EnvImage + " to an image with python3 3.9 or newer (host: this host's own)"
}
