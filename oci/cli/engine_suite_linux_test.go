package cli

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci"
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
	Name: "podman", Within: "TestPodman", Except: podmanExceptions(), Slow: true,
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

// A dockerLauncher has docker's containers, which are of an image, and not of a directory.
type dockerLauncher struct {
	*Engine
	image string
}

func (l dockerLauncher) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	c.Rootfs, c.Image = "", l.image
	return l.Engine.Run(ctx, c, s)
}

// TestDocker has a real client of docker talk with podman, which can be talked to as if it was docker's daemon. What a real
// daemon would do about mounts and masks is not tested.
func TestDocker(t *testing.T) {
	needs(t, "podman")
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip(err) // not on CI either: Debian's docker brings a daemon along
	}
	if os.Geteuid() != 0 {
		t.Skip("as root only")
	}
	docker := ocitest.Suite{Name: "docker", Within: "TestDocker", Slow: true, Except: maps.Clone(podman.Except)}
	image := serveDocker(t)
	program := filepath.Join(t.TempDir(), "docker")
	if err := os.WriteFile(program, []byte(plainDocker), 0o755); err != nil {
		t.Fatal(err)
	}
	docker.New = func(o host.Options) ocitest.Launcher {
		o.Unfiltered = true // podman takes the text of a filter, which docker sends, for the name of a file
		return dockerLauncher{NewEngine(EngineOptions{Options: o, Kind: Docker, Program: program}), image}
	}
	// Not MemoryLimit: on cgroup v1 podman's service does not know of an OOM kill. Not CommandThatCannotRun: it does not tell
	// docker why. Exit passes, and takes as long as with podman.
	for name, test := range map[string]func(*testing.T){
		"Cancel": docker.Cancel, "Orphans": docker.Orphans, "Descriptors": docker.Descriptors, "ForkBomb": docker.ForkBomb,
	} {
		t.Run(name, test)
	}
}

// plainDocker is docker without the options of tmpfs that podman's service does not know, and without its ulimit that a root
// without CAP_SYS_RESOURCE may not have.
const plainDocker = `#!/bin/bash
shopt -s extglob
args=()
for a in "$@"; do
    case $a in /tmp:rw,*|/workspace:rw,*|/dev/shm:rw,*) a=${a/mode=0700,uid=+([0-9]),gid=+([0-9])/mode=1777}; a=${a/,nr_inodes=+([0-9])k/} ;; esac
    args+=("$a")
    [ "$a" != run ] || args+=(--ulimit nproc=4096:4096)
done
exec docker "${args[@]}"
`

// serveDocker starts podman's service, and gives it the tests' image.
func serveDocker(t *testing.T) (image string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "docker.sock")
	args := []string{"system", "service", "--time", "0", "unix://" + socket}
	if r := hybridRuntime(); r != "" {
		args = append([]string{"--runtime", r}, args...)
	}
	service := exec.Command("podman", args...)
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Process.Kill(); _ = service.Wait() })
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	tar := exec.Command("tar", "-C", ocitest.Python("").Rootfs, "-c", ".")
	load := exec.Command("podman", "import", "--quiet", "-")
	var err error
	if load.Stdin, err = tar.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := tar.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := load.Output()
	if werr := tar.Wait(); err != nil || werr != nil {
		t.Fatalf("cannot import the image: %v, %v", err, werr)
	}
	image = strings.TrimPrefix(strings.TrimSpace(string(out)), "sha256:")
	t.Cleanup(func() {
		if out, err := exec.Command("podman", "rmi", "--force", image).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return image
}
