//go:build linux && cgo

package probes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/cli"
	"github.com/mcp-bridge/mcp-bridge/oci/direct"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/libct"
)

// runtimeEnv names the launcher of this process, to the tests as to the program.
const runtimeEnv = "MCP_BRIDGE_RUNTIME"

// launchers are those of the program. Each has to hold as the first does, which is the program's own choice.
var launchers = []struct {
	name string
	make func(host.Options) host.Launcher
	only bool // when it is asked for: what differs is the runtime's work, not ours
}{
	{"direct", func(o host.Options) host.Launcher { return direct.New(o) }, false},
	{"libcontainer", func(o host.Options) host.Launcher { return libct.New(o) }, false},
	{"crun", func(o host.Options) host.Launcher { return cli.NewRuntime("crun", o) }, true},
	{"runc", func(o host.Options) host.Launcher { return cli.NewRuntime("runc", o) }, true},
	// podman has a /dev, a /sys and an overlay of its own. MCP_BRIDGE_RUNTIME=podman go test ./internal/probes -run TestInproc -v
	// says what that comes to.
	{"podman", func(o host.Options) host.Launcher {
		return cli.NewEngine(cli.EngineOptions{Options: o, Kind: cli.Podman})
	}, true},
	// docker runs images of its daemon: dockerImageEnv is the id of one that was imported from the tests' tree.
	{"docker", func(o host.Options) host.Launcher {
		return imported{cli.NewEngine(cli.EngineOptions{Options: o, Kind: cli.Docker})}
	}, true},
}

// dockerImageEnv is the id of the image that docker runs.
const dockerImageEnv = "MCP_BRIDGE_TEST_DOCKER_IMAGE"

type imported struct{ *cli.Engine }

func (i imported) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	c.Rootfs, c.Image = "", os.Getenv(dockerImageEnv)
	return i.Engine.Run(ctx, c, s)
}

// launcher is the index in launchers of this process's own.
func launcher() (int, error) {
	given := os.Getenv(runtimeEnv)
	for i, l := range launchers {
		if given == l.name || given == "" || given == "auto" {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%s=%s: the probes know no such launcher", runtimeEnv, given)
}

// TestOtherLaunchers runs the other tests again, as users too, with the launchers that are not the program's own choice.
func TestOtherLaunchers(t *testing.T) {
	if os.Getenv(runtimeEnv) != "" {
		t.Skip("one launcher was asked for")
	}
	tests := "^(TestInproc|TestNegativeControl|TestDescriptors|TestTracesAreSeen|TestAsUser|TestResources|TestLocksKeepNobodyWaiting|TestProtocol)$"
	if everything() && !*update {
		tests = strings.Replace(tests, "|TestProtocol", "", 1) // frames are the same with each
	}
	if !everything() {
		tests = "^(TestInproc|TestNegativeControl|TestDescriptors|TestTracesAreSeen|TestAsUser)$"
		t.Log("dos and proto run with each launcher with CI=true or by make probes")
	}
	given, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range launchers[1:] {
		if l.only {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "scores.json")
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.timeout=12m", "-test.run", tests)
			if *update {
				cmd.Args = append(cmd.Args, "-update")
			}
			if testing.Short() {
				cmd.Args = append(cmd.Args, "-test.short")
			}
			cmd.Env = append(os.Environ(), runtimeEnv+"="+l.name, treeEnv+"="+string(given), scoresEnv+"="+file, "GOCOVERDIR=")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("with %s: %v\n%s", l.name, err, out)
			}
			takeOver(t, file)
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "--- SKIP: ") || strings.Contains(line, ": waited ") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}

// takeOver adds the scores of a process that has ended to those of this one.
func takeOver(t *testing.T, file string) {
	t.Helper()
	var theirs []score
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &theirs)
	}
	if err != nil || len(theirs) == 0 {
		t.Fatalf("no scores: %v", err)
	}
	for _, s := range theirs {
		scores.add(s)
		t.Log(s)
	}
}
