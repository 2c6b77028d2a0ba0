package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestToolchain: hack/go downloads the Go of go.mod with one that would not do so by itself, and leaves it to others.
func TestToolchain(t *testing.T) {
	for version, want := range map[string]string{
		"": "downloaded", "go1.15.15": "downloaded", "go1.19.8": "downloaded", "go1.20": "downloaded",
		"go1.21.0": "itself", "go1.26.8": "itself", "devel go1.27-abc": "itself",
	} {
		t.Run(version, func(t *testing.T) {
			dir := t.TempDir()
			for name, script := range map[string]string{
				"go": "case $* in 'env GOVERSION') echo '" + version + "' ;; 'env '*) echo x ;;\n" +
					"'mod download -json golang.org/toolchain@v0.0.1-go1.'*) echo '\"Dir\": \"" + dir + "/kit\"' ;; *) echo itself ;; esac",
				"kit/bin/go": "echo downloaded", "kit/pkg/tool/x": "",
			} {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(filepath.Join(root(t), "hack/go"), "build")
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != want {
				t.Errorf("%q, %v; want %s", out, err, want)
			}
		})
	}
}
