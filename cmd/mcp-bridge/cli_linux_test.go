package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts is the contract of the command line, in testdata/script.
func TestScripts(t *testing.T) {
	needSandbox(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			state := filepath.Join(e.WorkDir, "state")
			for _, kv := range environment(state) {
				name, value, _ := bytes.Cut([]byte(kv), []byte("="))
				if string(name) != runMain && string(name) != "PATH" {
					e.Setenv(string(name), string(value))
				}
			}
			e.Defer(func() {
				if exists(state) {
					e.T().Fatal("the state directory is left")
				}
			})
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "cgroup" {
				r, err := probe()
				return err == nil && r.Limits == "", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"file":   file,
			"layout": layout,
			"spoil":  spoil,
		},
	})
}

// exits CODE PROGRAM [ARG...] runs a program and wants this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// file NAME TEXT [COUNT] writes a file that txtar cannot hold: TEXT, with Go's escapes, COUNT times.
func file(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: file NAME TEXT [COUNT]")
	}
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
	ts.Check(err)
	count := 1
	if len(args) == 3 {
		count, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Repeat([]byte(text), count), 0o644))
}

// layout DIR makes a good OCI layout of an image without Python.
func layout(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: layout DIR")
	}
	dir := ts.MkAbs(args[0])
	blobs := filepath.Join(dir, "blobs/sha256")
	ts.Check(os.MkdirAll(blobs, 0o755))
	type object map[string]any
	put := func(mediaType string, content []byte) object {
		sum := fmt.Sprintf("%x", sha256.Sum256(content))
		ts.Check(os.WriteFile(filepath.Join(blobs, sum), content, 0o644))
		return object{"mediaType": "application/vnd.oci.image." + mediaType, "digest": "sha256:" + sum, "size": len(content)}
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		ts.Check(err)
		return b
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	content := []byte("not a Python\n")
	ts.Check(w.WriteHeader(&tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}))
	ts.Check(w.WriteHeader(&tar.Header{Name: "etc/motd", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}))
	_, err := w.Write(content)
	ts.Check(errors.Join(err, w.Close()))
	config := put("config.v1+json", encode(object{
		"architecture": runtime.GOARCH, "os": "linux", "config": object{},
		"rootfs": object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer.Bytes()))}},
	}))
	manifest := put("manifest.v1+json", encode(object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
		"layers": []object{put("layer.v1.tar", layer.Bytes())},
	}))
	ts.Check(os.WriteFile(filepath.Join(dir, "index.json"), encode(object{"schemaVersion": 2, "manifests": []object{manifest}}), 0o644))
	ts.Check(os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
}

// spoil DIR change|remove takes the layer of a layout, which is its largest blob here, and changes one byte of it or
// removes it.
func spoil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: spoil DIR change|remove")
	}
	dir := filepath.Join(ts.MkAbs(args[0]), "blobs/sha256")
	blobs, err := os.ReadDir(dir)
	ts.Check(err)
	layer := slices.MaxFunc(blobs, func(a, b os.DirEntry) int {
		x, err := a.Info()
		ts.Check(err)
		y, err := b.Info()
		ts.Check(err)
		return int(x.Size() - y.Size())
	})
	name := filepath.Join(dir, layer.Name())
	if args[1] == "remove" {
		ts.Check(os.Remove(name))
		return
	}
	b, err := os.ReadFile(name)
	ts.Check(err)
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(name, b, 0o644))
}
