package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// step is a host.Check as users of --json know it.
type step struct{ Step, Status, Detail, Fix string }

// diagnose runs doctor --json, and checks that nothing is left by it.
func diagnose(t *testing.T, cmd *exec.Cmd) (steps map[string]step, code int) {
	t.Helper()
	before := cgroups()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	var list []step
	decode(t, stdout.Bytes(), &list)
	steps = make(map[string]step)
	for _, s := range list {
		steps[s.Step] = s
		if s.Detail == "" || s.Status == "weak" && s.Fix == "" {
			t.Errorf("it does not say enough: %+v", s)
		}
	}
	if len(steps) != len(list) || len(list) < 17 {
		t.Errorf("%d steps of %d names", len(list), len(steps))
	}
	if t.Failed() {
		t.Logf("%s%s", &stdout, &stderr)
	}
	for _, kv := range cmd.Env {
		if dir, ok := strings.CutPrefix(kv, "MCP_BRIDGE_STATE_DIR="); ok {
			checkNothingLeft(t, cmd.Process.Pid, dir, before)
		}
		if dir, ok := strings.CutPrefix(kv, "TMPDIR="); ok {
			if left, _ := filepath.Glob(filepath.Join(dir, "mcp-bridge-doctor-*")); len(left) > 0 {
				t.Errorf("directories are left: %v", left)
			}
		}
	}
	return steps, cmd.ProcessState.ExitCode()
}

func openTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(base, "doctor-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the users of sandboxes must get through
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = removeAll(dir) })
	return dir
}

func TestDoctor(t *testing.T) {
	needSandbox(t)
	dir := openTemp(t)
	env := environment(filepath.Join(dir, "state"), "TMPDIR="+dir, "MCP_BRIDGE_ALLOW_WEAK_LIMITS=0")
	steps, code := diagnose(t, bridgeCommand(t, env, "doctor", "--json"))
	want := 0
	if r, _ := probe(); r.Limits != "" {
		want = 1
	}
	if code != want {
		t.Errorf("exit code %d, want %d: %+v", code, want, steps)
	}
	for _, name := range []string{"user namespace", "mount namespace", "id maps", "fresh proc", "mounts", "pivot", "seccomp filter", "image"} {
		if s := steps[name]; s.Status != "ok" {
			t.Errorf("%+v", s)
		}
	}
	if !strings.Contains(steps["run"].Detail, "with Python 3.") {
		t.Errorf("%+v", steps["run"])
	}
	out, err := bridgeCommand(t, env, "doctor").Output()
	if exitCode(err) != want || !strings.Contains(string(out), "ok       user namespace") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDoctorAsUser: the cgroup is what a user lacks, unless one is delegated; and HOME may be what is missing.
func TestDoctorAsUser(t *testing.T) {
	needSandbox(t)
	if os.Geteuid() != 0 {
		t.Skip("not root: TestDoctor is as a user")
	}
	u := someUser(t)
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	home := openTemp(t)
	if err := os.Chown(home, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(home, "mcp-bridge.test")
	copySelf(t, exe)
	command := func(more ...string) *exec.Cmd {
		cmd := exec.Command(exe, "doctor", "--json")
		cmd.Dir = home
		cmd.Env = append([]string{runMain + "=1", chosenRuntime(), "PATH=" + os.Getenv("PATH"), "USER=" + u.Username, "TMPDIR=" + home, "MCP_BRIDGE_IMAGE=host"}, more...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return cmd
	}
	t.Run("cgroup", func(t *testing.T) {
		steps, code := diagnose(t, command("HOME="+home, "MCP_BRIDGE_STATE_DIR="+filepath.Join(home, "state")))
		if steps["cgroup"].Status == "ok" && code == 0 {
			t.Skip("this user's sandboxes have cgroups")
		}
		if c := steps["cgroup"]; code != 1 || c.Status != "weak" || !strings.Contains(c.Fix, "MCP_BRIDGE_ALLOW_WEAK_LIMITS=1") || steps["run"].Status != "weak" {
			t.Errorf("exit code %d: %+v, %+v", code, c, steps["run"])
		}
	})
	t.Run("no home", func(t *testing.T) {
		steps, code := diagnose(t, command())
		if s := steps["settings"]; code != 2 || s.Status != "failed" || !strings.Contains(s.Detail, "HOME") || steps["run"].Status != "skipped" || steps["user namespace"].Status != "ok" {
			t.Errorf("exit code %d: %+v", code, steps)
		}
	})
}

// TestDoctorWithoutUserNamespaces: the first step that fails has its cause and its fix, and the rest is not tried, unless there
// is another runtime, which may do.
func TestDoctorWithoutUserNamespaces(t *testing.T) {
	needSandbox(t)
	for _, other := range []bool{false, true} {
		dir := openTemp(t)
		want := "skipped"
		if other {
			want = "failed"
			if err := os.WriteFile(filepath.Join(dir, "crun"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := bridgeCommand(t, environment(filepath.Join(dir, "state"), "TMPDIR="+dir, "PATH="+dir))
		// The setting is of each user namespace.
		cmd.Args = []string{"sh", "-c", `echo 0 >/proc/sys/user/max_user_namespaces && exec "$0" doctor --json`, cmd.Path}
		cmd.Path = "/bin/sh"
		one := func(id int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: id, Size: 1}} }
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one(os.Geteuid()), GidMappings: one(os.Getegid())}
		steps, code := diagnose(t, cmd)
		if s := steps["user namespace"]; code != 2 || s.Status != "failed" || !strings.Contains(s.Detail, "user.max_user_namespaces=0") || !strings.Contains(s.Fix, "user.max_user_namespaces=15000") {
			t.Errorf("exit code %d: %+v", code, s)
		}
		if steps["seccomp filter"].Status != "skipped" || steps["run"].Status != want {
			t.Errorf("another runtime %t: %+v", other, steps)
		}
	}
}

func TestDoctorWithoutPython(t *testing.T) {
	needSandbox(t)
	dir := t.TempDir()
	script := "layout nopython\nenv MCP_BRIDGE_IMAGE=oci:nopython\nexits 2 mcp-bridge doctor\nstdout '^failed   image .*no python3'\n" +
		"stdout 'fix: .*MCP_BRIDGE_IMAGE'\nstdout '^skipped  run '\nstdout 'first thing to mend: image'\nexits 2 mcp-bridge doctor extra\n! stdout .\n"
	if err := os.WriteFile(filepath.Join(dir, "doctor.txt"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			for _, kv := range environment(filepath.Join(e.WorkDir, "state")) {
				if name, value, _ := strings.Cut(kv, "="); name != runMain && name != "PATH" {
					e.Setenv(name, value)
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "layout": layout},
	})
}

func TestDistribution(t *testing.T) {
	helper, cgroup := host.Check{Cause: host.NoHelper}, host.Check{Cause: host.CgroupV1}
	for _, tt := range []struct{ osRelease, family, helper, cgroup string }{
		{"ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"", "debian", "sudo apt-get install -y uidmap", "update-grub"},
		{"ID=ubuntu\nID_LIKE=debian", "debian", "sudo apt-get install -y uidmap", "update-grub"},
		{"ID=linuxmint\nID_LIKE=\"ubuntu debian\"", "debian", "sudo apt-get install -y uidmap", "update-grub"},
		{"ID=fedora", "fedora", "sudo dnf install -y shadow-utils", "grubby"},
		{"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"", "fedora", "sudo dnf install -y shadow-utils", "grubby"},
		{"ID=arch", "arch", "sudo pacman -S --noconfirm shadow", "grub-mkconfig"},
		{"ID=alpine", "alpine", "doas apk add shadow-uidmap", "rc_cgroup_mode"},
		{"ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"", "suse", "sudo zypper install -y shadow", "grub2-mkconfig"},
		{"ID=nixos", "", "install the package with newuidmap", "systemd.unified_cgroup_hierarchy=1"},
		{"", "", "install the package with newuidmap", "systemd.unified_cgroup_hierarchy=1"},
	} {
		family, _ := distribution(tt.osRelease)
		p := place{family: family, systemd: true, user: "ann"}
		if family != tt.family || !strings.HasPrefix(p.fix(helper), tt.helper) || !strings.Contains(p.fix(cgroup), tt.cgroup) {
			t.Errorf("%q: %q, %q, %q", tt.osRelease, family, p.fix(helper), p.fix(cgroup))
		}
	}
}

func TestPlace(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	const docker = "1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 / /etc/resolv.conf rw - ext4 x rw\n3 1 0:3 / /proc/kcore rw - tmpfs x rw\n"
	userns, cgroup := host.Check{Cause: host.NoUserNS}, host.Check{Cause: host.NoCgroup}
	for _, tt := range []struct {
		name  string
		files fstest.MapFS
		env   map[string]string
		says  string
		check host.Check
		fix   string
	}{
		{"plain", nil, nil, "linux/", userns, "CONFIG_USER_NS"},
		{"docker", fstest.MapFS{".dockerenv": file(""), "proc/self/mountinfo": file(docker)}, nil, "inside a container (docker), /proc is masked", host.Check{Cause: host.MaskedProc}, "docker run --security-opt systempaths=unconfined"},
		{"the file of docker alone", fstest.MapFS{".dockerenv": file(""), "proc/self/mountinfo": file("3 1 0:3 / /proc/sys/fs/binfmt_misc rw - autofs x rw\n")}, nil, "!container", userns, "CONFIG_USER_NS"},
		{"podman", fstest.MapFS{"run/.containerenv": file("")}, nil, "inside a container (podman)", userns, "podman run --security-opt unmask=ALL"},
		{"podman, cgroup", fstest.MapFS{"run/.containerenv": file("")}, nil, "podman", cgroup, "--systemd=always"},
		{"kubernetes", nil, map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "inside a container (kubernetes)", userns, "hostUsers: false"},
		{"lxc", fstest.MapFS{"run/systemd/container": file("lxc\n")}, nil, "inside a container (lxc)", cgroup, "outer container"},
		{"github", nil, map[string]string{"GITHUB_ACTIONS": "true"}, "GitHub Actions", host.Check{Cause: host.AppArmorUserNS}, "a step before: sudo sysctl"},
		{"gitlab", nil, map[string]string{"GITLAB_CI": "true"}, "GitLab CI", userns, "[runners.docker]"},
		{"wsl", fstest.MapFS{"proc/version": file("Linux version 5.15.153.1-microsoft-standard-WSL2")}, nil, "WSL", host.Check{Cause: host.CgroupV1}, ".wslconfig"},
		{"ssh", fstest.MapFS{"proc/self/cgroup": file("0::/user.slice/user-1000.slice/session-4.scope\n"), "run/systemd/system": file(""), "run/user/1000/bus": file("")}, map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000"}, "a login session without delegation", cgroup, "start it by: systemd-run --user --scope"},
		{"su", fstest.MapFS{"run/systemd/system": file(""), "etc/os-release": file("ID=debian\n")}, map[string]string{"USER": "ann"}, "linux/", cgroup, "sudo loginctl enable-linger ann"},
		{"a client's environment", fstest.MapFS{"run/systemd/system": file(""), fmt.Sprintf("run/user/%d/systemd/private", os.Geteuid()): file("")}, nil, "linux/", cgroup, fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d systemd-run", os.Geteuid())},
		{"no systemd", nil, nil, "linux/", cgroup, "run it as root"},
		{"controller", fstest.MapFS{"run/systemd/system": file("")}, nil, "linux/", host.Check{Cause: host.NoController}, "Delegate=cpu cpuset io memory pids"},
		{"subordinate ids", fstest.MapFS{"etc/subuid": file("a:100000:65536\nb:165536:65536\n"), "etc/os-release": file("ID=ubuntu\n")}, map[string]string{"USER": "ann"}, "linux/", host.Check{Cause: host.NoSubIDs}, "sudo usermod --add-subuids 231072-296607 --add-subgids 231072-296607 ann"},
		{"subordinate ids on Alpine", fstest.MapFS{"etc/os-release": file("ID=alpine\n")}, map[string]string{"USER": "x; rm -r /"}, "linux/", host.Check{Cause: host.NoSubIDs}, "echo $(id -un):100000:65536 | doas tee -a /etc/subuid /etc/subgid"},
		{"colours", fstest.MapFS{"etc/os-release": file("PRETTY_NAME=\"\x1b[31mX\"\n")}, nil, " [31mX, linux/", host.Check{Cause: host.UserNSClone}, "kernel.unprivileged_userns_clone=1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := lookAround(tt.files, func(name string) string { return tt.env[name] })
			p.root = false
			if never, ok := strings.CutPrefix(tt.says, "!"); ok == strings.Contains(p.describe(), strings.TrimPrefix(tt.says, "!")) {
				t.Errorf("it is %q, want %q (%v)", p.describe(), tt.says, never)
			}
			if got := p.fix(tt.check); !strings.Contains(got, tt.fix) {
				t.Errorf("fix %q, want %q", got, tt.fix)
			}
		})
	}
}

func TestDoctorExit(t *testing.T) {
	for _, tt := range []struct {
		statuses []host.Status
		want     int
		says     string
	}{
		{[]host.Status{host.OK, host.Skipped, host.OK}, 0, "full strength"},
		{[]host.Status{host.OK, host.Weak, host.Weak}, 1, "because of: step 1."},
		{[]host.Status{host.Weak, host.Failed, host.Failed, host.Skipped}, 2, "first thing to mend: step 1."},
	} {
		var checks []host.Check
		for i, s := range tt.statuses {
			checks = append(checks, host.Check{Step: fmt.Sprint("step ", i), Status: s, Detail: "a\x1b[31m\nok       b"})
		}
		var out strings.Builder
		if err := writeText(&out, checks, doctorExit(checks)); err != nil {
			t.Fatal(err)
		}
		if got := doctorExit(checks); got != tt.want || !strings.Contains(out.String(), tt.says) || strings.Contains(out.String(), "\x1b") || strings.Count(out.String(), "\n") != len(checks)+2 {
			t.Errorf("%v: exit code %d\n%s", tt.statuses, got, &out)
		}
	}
	var out strings.Builder
	checks := []host.Check{{Step: "fresh proc", Status: host.Failed}, {Step: "run", Status: host.OK, Detail: "by podman"}}
	if err := writeText(&out, checks, exitWeak); err != nil || !strings.Contains(out.String(), "at full strength, but not by the best means, because of: fresh proc.") {
		t.Errorf("a run by another runtime: %v\n%s", err, &out)
	}
}
