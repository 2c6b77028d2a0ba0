//go:build linux

package host

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestRefusal: what passes is no verdict, for after one all later scripts have the user's own id.
func TestRefusal(t *testing.T) {
	sh := func(code string) error { return exec.CommandContext(t.Context(), "/bin/sh", "-c", code).Run() }
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"its own word", sh("exit 1"), true},
		{"there is none", exec.CommandContext(t.Context(), "no-such-newuidmap").Run(), true},
		{"killed", sh("kill -9 $$"), false},
		{"not loaded", sh("exit 127"), false},
		{"no place for a process", &os.PathError{Op: "fork/exec", Path: "/usr/bin/newuidmap", Err: syscall.EAGAIN}, false},
		{"no memory", &os.PathError{Op: "fork/exec", Path: "/usr/bin/newuidmap", Err: syscall.ENOMEM}, false},
	} {
		if got := refusal(fmt.Errorf("cannot map ids: %w", tt.err)); got != tt.want {
			t.Errorf("%s: %v: %v, want %v", tt.name, tt.err, got, tt.want)
		}
	}
}
