package cli

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

// A dockerLauncher has docker's containers, which are of an image, and not of a directory.
type dockerLauncher struct {
	*Engine
	image string
}

func (l dockerLauncher) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	c.Rootfs, c.Image = "", l.image
	return l.Engine.Run(ctx, c, s)
}

// TestDocker runs the suite with a docker daemon of its own.
func TestDocker(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("as root only")
	}
	image := serveDocker(t)
	ocitest.RunAll(t, ocitest.Suite{
		Name: "docker", Except: dockerExceptions(t), Slow: true,
		New: func(o host.Options) ocitest.Launcher {
			return dockerLauncher{NewEngine(EngineOptions{Options: o, Kind: Docker}), image}
		},
	})
	t.Run("KilledBridge", func(t *testing.T) { killBridge(t, Docker, image) })
}

// dockerExceptions are what docker has no words for, or does in its own way.
func dockerExceptions(t *testing.T) map[string]string {
	t.Helper()
	except := map[string]string{
		"AsUser": "who may talk to the daemon is as good as root",
		"Exited": "docker names cgroups in its own way",
		"Effects/who/no_id_is_its_own_on_the_host":                        "ids are mapped if the daemon is configured so",
		"Effects/who/host_paths_in_mountinfo":                             "docker's overlay names its directories: the guest can read where the daemon keeps images",
		"Effects/who/environment_of_the_process":                          "docker adds HOSTNAME, and the image its own; os.environ has neither",
		"EffectsOnFiles/writable_mounts":                                  "docker's /dev is not read-only; it is root's",
		"EffectsOnFiles/writable_mounts_without_nosuid,_nodev_and_noexec": "docker's /dev has devices; it is root's",
		"EffectsOnFiles/devices_of_the_host":                              "docker makes devices of its own",
		"EffectsOnFiles/times_of_a_device":                                "they are the container's own",
		"EffectsOnFiles/devices":                                          "docker mounts /dev/pts and /dev/mqueue; an empty directory lies over both",
		"EffectsOnFiles/propagation_from_the_host":                        "what is mounted below the daemon's own directory could show up",
		"EffectsOnFiles/owner_and_mode_of_/tmp_and_/workspace":            "runc before 1.2 gives a tmpfs the mode of the image's directory; there is but one user to enter it",
		"MissingRootfs": "the image is the daemon's",
	}
	ids := []oci.IDMap{{Container: 0, Host: engineFirstID, Size: engineIDs}}
	spec, err := oci.Spec(ocitest.Python(""), oci.Host{UIDMap: ids, GIDMap: ids, Limits: oci.ByCgroup})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range spec.Linux.MaskedPaths {
		except["EffectsOnFiles/"+p] = "docker masks files of /proc by its own list"
	}
	for _, p := range spec.Linux.ReadonlyPaths {
		except["EffectsOnFiles/read_only_"+p] = "as the masks"
	}
	return except
}

// serveDocker starts a daemon, and gives it the tests' image.
func serveDocker(t testing.TB) (image string) {
	t.Helper()
	cached, err := filepath.Abs("../../.cache/docker/usr")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:"+cached+"/sbin:"+cached+"/bin")
	needs(t, "dockerd") // hack/dockerd --get brings it
	dir := t.TempDir()
	service := exec.Command("../../hack/dockerd", dir)
	log, err := service.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	listening, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "API listen on") {
				close(listening)
			}
		}
	}()
	t.Cleanup(func() {
		_ = service.Process.Signal(syscall.SIGTERM)
		<-ended
		if err := service.Wait(); err != nil {
			t.Errorf("dockerd: %v\n%s", err, &said)
		}
	})
	select {
	case <-listening:
	case <-ended:
		t.Fatalf("dockerd does not start:\n%s", &said)
	}
	t.Setenv("DOCKER_HOST", "unix://"+dir+"/docker.sock")
	tar := exec.CommandContext(t.Context(), "tar", "-C", ocitest.Python("").Rootfs, "-c", ".")
	load := exec.CommandContext(t.Context(), "docker", "import", "-")
	if load.Stdin, err = tar.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := tar.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := load.Output()
	if err != nil {
		_ = tar.Process.Kill() // it would wait for who reads
	}
	if werr := tar.Wait(); err != nil || werr != nil {
		t.Fatalf("cannot import the image: %v, %v", err, werr)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "sha256:")
}
