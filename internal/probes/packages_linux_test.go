//go:build linux && cgo

package probes

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/bridge"
)

// blas is where Debian keeps its linear algebra: its own links to there are made when a package is configured, which an
// image of unpacked packages never is.
const blas = "LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/openblas-pthread:/usr/lib/aarch64-linux-gnu/openblas-pthread"

// TestRealPackages: what scripts are written for works, under the filter and within the limits that a client gets.
func TestRealPackages(t *testing.T) {
	long(t)
	if os.Geteuid() != 0 {
		t.Skip("the image is made by root")
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	layout := filepath.Join(repository, ".cache/packages-image")
	if _, err := os.Stat(filepath.Join(layout, "index.json")); err != nil {
		if !everything() {
			t.Skip("making the image takes minutes: hack/test-packages --image")
		}
		if _, err := exec.LookPath("mmdebstrap"); err != nil {
			skip(t, "no image, and no mmdebstrap to make one")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join(repository, "hack/test-packages"), "--image")
		if out, err := cmd.CombinedOutput(); err != nil {
			skip(t, "the image cannot be made: "+err.Error()+": "+string(out[max(0, len(out)-1000):]))
		}
	}
	dir, err := openDir("packages-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	packages, err := ensure(dir, "oci:"+layout)
	if err != nil {
		t.Fatal(err)
	}
	const timeout = 60 * time.Second
	h := newHouse(t, houseOptions{limits: defaultLimits, tree: packages, env: []string{blas}})
	h.next(t)
	for _, name := range probesIn(t, "packages") {
		t.Run(name, func(t *testing.T) {
			before := h.traces(t)
			start := time.Now()
			res := h.run(t, timeout, probe(t, "packages/"+name+".py"))
			if res.Status != bridge.StatusSuccess || string(res.Result) != `"ok"` {
				t.Errorf("%s\n%s\n%s", describe(res), strings.Join(res.Stdout, "\n"), strings.Join(res.Stderr, "\n"))
			}
			t.Logf("%v %s", time.Since(start).Round(time.Millisecond), strings.Join(res.Stderr, " | "))
			h.nothingLeft(t, before)
		})
	}
}
