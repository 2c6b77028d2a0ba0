package cli

import (
	"bytes"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

// podmanExceptions are what podman has no words for, or does in its own way.
func podmanExceptions() map[string]string {
	except := map[string]string{
		"Effects/who/host_paths_in_mountinfo":                             "podman sees to the overlay, whose options name its directories: the guest can read where the image is",
		"EffectsOnFiles/writable_mounts":                                  "podman mounts a /dev and a /sys/fs/cgroup that are not read-only; the one is root's, the other lies below an empty directory",
		"EffectsOnFiles/writable_mounts_without_nosuid,_nodev_and_noexec": "podman's /dev has devices; it is root's",
		"EffectsOnFiles/size_of_/tmp":                                     "podman has no words for a number of inodes; the memory limit counts what they take",
		"EffectsOnFiles/size_of_/workspace":                               "as /tmp",
		"EffectsOnFiles/size_of_/dev/shm":                                 "as /tmp",
		"EffectsOnFiles/fill_the_inodes_of_/dev/shm":                      "as /tmp",
		"EffectsOnFiles/owner_and_mode_of_/tmp_and_/workspace":            "runc before 1.2 gives a tmpfs the mode of the image's directory; there is but one user to enter it",
		"EffectsOnFiles/devices":                                          "podman mounts /dev/pts and /dev/mqueue; an empty directory lies over both",
		"Exited":                                                          "podman names cgroups in its own way; TestEngineAnswersEarly and TestEngineLeavesNothing are of its end",
		"AsUser":                                                          "TestPodmanAsUser has fewer of them",
	}
	for _, name := range []string{"times_of_a_device", "read_only_/dev/null", "read_only_/dev/zero", "read_only_/dev/full", "read_only_/dev/random", "read_only_/dev/urandom", "read_only_/dev/tty"} {
		except["EffectsOnFiles/"+name] = "podman has no words for a device whose times cannot be set"
	}
	if os.Geteuid() != 0 && !unifiedCgroups() {
		except["MemoryIsOfTheWholeContainer"] = "podman has no cgroup for a user here, and nothing else counts all processes"
	}
	return except
}

var podman = ocitest.Suite{
	Name: "podman", Except: podmanExceptions(), Slow: true,
	New: func(o host.Options) ocitest.Launcher { return NewEngine(EngineOptions{Options: o, Kind: Podman}) },
}

// missing skips a test of what this machine has not; CI has it.
func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
		t.Fatalf("this has to run on CI: %s", why)
	}
	t.Skip(why)
}

func needs(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		missing(t, err.Error())
	}
}

func TestPodman(t *testing.T) {
	needs(t, "podman")
	ocitest.RunAll(t, podman)
}

// TestPodmanAsUser runs some of the tests as a user with subordinate ids.
func TestPodmanAsUser(t *testing.T) {
	needs(t, "podman")
	needs(t, "newuidmap")
	if os.Geteuid() != 0 {
		t.Skip("this is a user already")
	}
	text, _ := os.ReadFile("/etc/subuid")
	var who *user.User
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, ":")
		if u, err := user.Lookup(name); err == nil && u.Uid != "0" && who == nil {
			who = u
		}
	}
	if who == nil {
		missing(t, "no user has a line in /etc/subuid")
	}
	// Short, because podman has sockets below it: where their paths are too long each container takes 20 s more.
	home, err := os.MkdirTemp("/var/tmp", "pm")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{uint32(gid)}}}
	env := append(os.Environ(), "TMPDIR="+home, "HOME="+home, "USER="+who.Username, "XDG_RUNTIME_DIR="+home, "GOCOVERDIR=")
	defer func() {
		clean := exec.Command("podman", "unshare", "rm", "-rf", filepath.Join(home, ".local"))
		clean.Dir, clean.Env, clean.SysProcAttr = "/", env, as
		if out, err := clean.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		_ = os.RemoveAll(home)
	}()
	program := filepath.Join(home, "cli.test")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(home, uid, gid); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.timeout=5m", "-test.run=^TestPodman$/^(Effects|EffectsOnFiles|MemoryLimit|ForkBomb|OtherUser|Cancel|Orphans)$")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = home, env, as
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("--- PASS: ")) < 100 {
		t.Errorf("%v\n%s", err, out)
	}
}
