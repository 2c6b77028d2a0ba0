// Package house has no code: its tests are the rules of the house that a
// compiler does not keep. A new package, a new arrow between packages and a new dependency get their line here.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mcp-bridge/mcp-bridge"

// arrows are the imports of ours that each package may have. cmd and hack make programs, and may use all that they
// wire together; nobody imports them.
var arrows = map[string][]string{
	"cmd/mcp-bridge": {
		"bridge", "internal/atomicfile", "internal/bench", "internal/config", "internal/guest", "internal/upstream", "oci", "oci/cli", "oci/direct", "oci/host", "oci/libct", "rootfs",
	},
	"internal/bench":    {"internal/config", "oci", "seccomp"},
	"internal/probes":   {},
	"hack/bench":        {"internal/bench"},
	"hack/runtimes":     {"oci/ocitest"},
	"bridge":            {"internal/atomicfile", "internal/guest", "internal/pool", "internal/sandbox", "internal/upstream", "oci"},
	"internal/sandbox":  {"internal/guest", "oci"},
	"internal/pool":     {},
	"internal/upstream": {"internal/atomicfile", "internal/config", "internal/upstream/oauth", "internal/upstream/rank", "internal/upstream/wire"},
	// JSON-RPC with one server, its logins, and the search: they know no configuration.
	"internal/upstream/oauth":           {"internal/atomicfile"},
	"internal/upstream/oauth/oauthtest": {}, // for tests
	"internal/upstream/wire":            {},
	"internal/upstream/rank":            {},
	"oci/libct":                         {"oci", "oci/host", "oci/stage0"},
	"oci/direct":                        {"oci", "oci/host", "oci/stage0"},
	"oci/ocitest":                       {"oci", "oci/host", "rootfs"}, // for tests
	"oci/host":                          {"oci"},
	"oci/stage0":                        {"oci"},
	"oci/cli":                           {"oci", "oci/host", "oci/stage0", "seccomp"},
	"oci":                               {"seccomp"},
	"internal/atomicfile":               {},
	"internal/config":                   {"internal/atomicfile"},
	"internal/guest":                    {},
	"internal/gunzip":                   {},
	"rootfs":                            {"internal/atomicfile", "internal/gunzip"},
	"seccomp":                           {},
}

// fences say which packages of ours may import what others have made: a prefix of import paths, and those within.
var fences = []struct {
	prefix string
	within []string
	why    string
}{
	{"github.com/opencontainers/runc", []string{"oci/libct"}, "its API is not stable, and its inits are paid by each start"},
	{"github.com/opencontainers/cgroups", []string{"oci/host", "oci/libct", "oci/ocitest"}, "as libcontainer"},
	{"github.com/containers/image", []string{"rootfs"}, "its inits are paid by each start"},
	{"github.com/modelcontextprotocol/go-sdk", []string{"bridge", "internal/upstream", "internal/upstream/oauth", "internal/upstream/wire", "cmd/mcp-bridge"}, "the protocol is the bridge's business"},
	{"github.com/toon-format/toon-go", []string{"bridge"}, "it is young, and one file is easily rewritten"},
	{"github.com/opencontainers/runtime-spec", []string{"oci", "oci/cli", "oci/direct", "oci/host", "oci/libct", "seccomp"}, "oci.Spec is the only author of a specification"},
	{"github.com/spf13/cobra", []string{"cmd/mcp-bridge"}, "the command line is wiring"},
}

// pkg is what go list says of one package.
type pkg struct {
	ImportPath, Dir                            string
	Imports, GoFiles, CgoFiles, IgnoredGoFiles []string
	Standard                                   bool
}

// list is go list for a system; cgo is "1" or "0".
func list(t *testing.T, goos, goarch, cgo string, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e=false", "-json=ImportPath,Dir,Imports,GoFiles,CgoFiles,IgnoredGoFiles,Standard"}, args...)...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED="+cgo)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var list []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// ours is the name of a package below the module, if it is one.
func ours(importPath string) (name string, ok bool) { return strings.CutPrefix(importPath, module+"/") }

// systems are those that the house is built for: where a file is for one of them only, so are its imports.
var systems = []struct{ os, arch, cgo string }{{"linux", "amd64", "1"}, {"linux", "amd64", "0"}, {"darwin", "arm64", "0"}}

func TestArrows(t *testing.T) {
	for _, s := range systems {
		for _, p := range list(t, s.os, s.arch, s.cgo, "./...") {
			name, ok := ours(p.ImportPath)
			if !ok || name == "internal/house" {
				continue
			}
			allowed, ok := arrows[name]
			if !ok {
				t.Errorf("package %s has no line in arrows", name)
				continue
			}
			for _, i := range p.Imports {
				if other, ok := ours(i); ok && !slices.Contains(allowed, other) {
					t.Errorf("%s/%s: %s imports %s; it may import %v", s.os, s.arch, name, other, allowed)
				}
				for _, f := range fences {
					if strings.HasPrefix(i, f.prefix) && !slices.Contains(f.within, name) {
						t.Errorf("%s/%s: %s imports %s, which is for %v only: %s", s.os, s.arch, name, i, f.within, f.why)
					}
				}
			}
		}
	}
}

// TestArrowsPointOneWay: the rules themselves point one way.
func TestArrowsPointOneWay(t *testing.T) {
	var visit func(name string, path []string)
	visit = func(name string, path []string) {
		if slices.Contains(path, name) {
			t.Fatalf("the rules allow a cycle: %v", append(path, name))
		}
		for _, to := range arrows[name] {
			if _, ok := arrows[to]; !ok {
				t.Errorf("%s may import %s, which has no line", name, to)
			}
			visit(to, append(slices.Clone(path), name))
		}
	}
	for name := range arrows {
		visit(name, nil)
	}
}

// closure are the import paths of everything that packages need, themselves included.
func closure(t *testing.T, goos, goarch, cgo string, packages ...string) []string {
	t.Helper()
	var paths []string
	for _, p := range list(t, goos, goarch, cgo, append([]string{"-deps"}, packages...)...) {
		paths = append(paths, p.ImportPath)
	}
	return paths
}

// TestClosures: what a package must not need, not even through others.
func TestClosures(t *testing.T) {
	for _, tt := range []struct {
		name, os, arch, cgo string
		packages            []string
		never               []string
	}{
		{
			"bridge on macOS", "darwin", "arm64", "0",
			[]string{"./bridge"},
			[]string{"github.com/opencontainers/runc", "github.com/opencontainers/cgroups", "github.com/containers/", module + "/rootfs", module + "/oci/libct", module + "/oci/direct", module + "/oci/host"},
		},
		{
			"bridge on Linux", "linux", "amd64", "1",
			[]string{"./bridge"},
			[]string{"github.com/opencontainers/runc", "github.com/opencontainers/cgroups", "github.com/containers/", module + "/rootfs", module + "/oci/libct", module + "/oci/direct", module + "/oci/host"},
		},
		{
			"rootfs", "linux", "amd64", "1",
			[]string{"./rootfs"},
			// copy and signature bring gpg, sigstore and two dozen inits; docker/daemon the whole of moby.
			[]string{"github.com/containers/image/v5/copy", "github.com/containers/image/v5/signature", "github.com/containers/image/v5/docker/daemon", "github.com/opencontainers/runc"},
		},
		{
			"the whole program", "linux", "amd64", "1",
			[]string{"./cmd/mcp-bridge"},
			[]string{"github.com/containers/image/v5/copy", "github.com/containers/image/v5/signature", "github.com/seccomp/libseccomp-golang", "github.com/opencontainers/umoci", "testing", "github.com/google/go-cmp"},
		},
		{
			"leaves", "linux", "amd64", "1",
			[]string{"./internal/guest", "./internal/config"},
			[]string{"net/http", "github.com/modelcontextprotocol", "github.com/opencontainers", "github.com/containers/"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, p := range closure(t, tt.os, tt.arch, tt.cgo, tt.packages...) {
				for _, never := range tt.never {
					if p == never || strings.HasPrefix(p, strings.TrimSuffix(never, "/")+"/") {
						t.Errorf("%v needs %s", tt.packages, p)
					}
				}
			}
		})
	}
}

// TestCgo: a package with cgo makes a C compiler, and a C library, a matter of all that import it.
func TestCgo(t *testing.T) {
	for _, p := range list(t, "linux", "amd64", "1", "./...") {
		if name, _ := ours(p.ImportPath); len(p.CgoFiles) > 0 && name != "oci/stage0" {
			t.Errorf("%s has cgo: %v", name, p.CgoFiles)
		}
	}
}

// TestVetForMacOS: what does not need Linux builds there, and the rest has its stubs.
func TestVetForMacOS(t *testing.T) {
	// With the flags of hack/lint, so that one of the two finds the other's work done.
	packages := []string{"vet", "-gcflags=all=-N -l -dwarf=false", "./bridge", "./oci/...", "./internal/...", "./rootfs", "./cmd/..."}
	cmd := exec.Command("go", packages...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go %v: %v\n%s", packages, err, out)
	}
}
