//go:build linux && cgo

package stage0

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

func words(kind, value uint32) []byte {
	return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, kind), value)
}

func TestReadReport(t *testing.T) {
	read := func(b []byte) (oci.Exit, bool, error) { return ReadReport(bytes.NewReader(b), "/usr/bin/python3") }
	for code := range uint32(256) {
		if exit, ok, err := read(words(exited, code<<8)); err != nil || !ok || exit != (oci.Exit{Code: int(code)}) {
			t.Errorf("code %d: %+v, %v, %v", code, exit, ok, err)
		}
	}
	for sig := syscall.Signal(1); sig < 65; sig++ {
		for _, core := range []uint32{0, 0x80} {
			exit, ok, err := read(words(exited, uint32(sig)|core))
			if err != nil || !ok || exit != (oci.Exit{Code: 128 + int(sig), Signal: sig}) {
				t.Errorf("signal %d: %+v, %v, %v", sig, exit, ok, err)
			}
		}
	}
	for n := range 8 {
		if exit, ok, err := read(words(exited, 0)[:n]); err != nil || ok || exit != (oci.Exit{Code: 137, Signal: syscall.SIGKILL}) {
			t.Errorf("%d bytes: %+v, %v, %v; want no report, of who was killed", n, exit, ok, err)
		}
	}
	var start *oci.StartError
	if _, ok, err := read(words(noExec, uint32(syscall.ENOENT))); !ok || !errors.As(err, &start) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/usr/bin/python3") {
		t.Errorf("no exec: %v, %v", ok, err)
	}
	if _, ok, err := read(words(failed, uint32(syscall.EPERM))); !ok || !errors.As(err, &start) || start.Step != "stage0" {
		t.Errorf("failed: %v, %v", ok, err)
	}
	if _, ok, err := read(words(99, 1)); !ok || err == nil {
		t.Errorf("unknown kind: %v, %v; want an error", ok, err)
	}
}

func TestArgs(t *testing.T) {
	got := fmt.Sprint(Args(2, Limits{Memory: 1 << 20, Pids: 7}, 3224, oci.User{UID: 5, GID: 6}, []string{"/bin/x", "y"}))
	if want := "[/proc/self/exe stage0 2 1048576 7 3224 5 6 /bin/x y]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRuntimeArgs(t *testing.T) {
	user, command := oci.User{UID: 5, GID: 6}, []string{"/bin/x", "y"}
	for nested, want := range map[bool]string{
		false: "[/proc/self/fd/6 stage0 2 1048576 7 3224 5 6 0 /bin/x y]", true: "[/proc/self/fd/6 stage0 2 1048576 7 3224 5 6 1 /bin/x y]",
	} {
		if got := fmt.Sprint(RuntimeArgs(2, Limits{Memory: 1 << 20, Pids: 7}, 3224, user, nested, command)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got, want := fmt.Sprint(KeepArgs([]string{"/a/tasks", "/b/tasks"}, command)), "[/proc/self/exe stage0 keep /a/tasks /b/tasks -- /bin/x y]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestReadRuntime(t *testing.T) {
	here, through, broken := words(started, 1), words(runtimeEnded, 0), words(runtimeEnded, 3<<8)
	for name, tt := range map[string]struct {
		say            []byte
		ws             syscall.WaitStatus
		ended, running bool
	}{
		"nothing":                       {nil, 0, false, false},
		"half a word":                   {here[:5], 0, false, false},
		"the runtime first":             {slices.Concat(through, here), 0, true, true},
		"stage0 first":                  {slices.Concat(here, through), 0, true, true},
		"the runtime fails":             {broken, 3 << 8, true, false},
		"it fails when stage0 is there": {slices.Concat(here, broken), 3 << 8, true, true},
		"only stage0":                   {here, 0, false, true},
		"only the runtime":              {through, 0, true, false},
	} {
		if ws, ended, running, err := ReadRuntime(bytes.NewReader(tt.say)); ws != tt.ws || ended != tt.ended || running != tt.running || err != nil {
			t.Errorf("%s: %v, %v, %v, %v", name, ws, ended, running, err)
		}
	}
	if _, _, _, err := ReadRuntime(bytes.NewReader(words(failed, uint32(syscall.ENOENT)))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, _, _, err := ReadRuntime(bytes.NewReader(words(99, 0))); err == nil {
		t.Error("nonsense is no error")
	}
}

// sources are the C of stage0.
func sources(t *testing.T) []string {
	files, err := filepath.Glob("*.c")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	return files
}

func compiler(t *testing.T) string {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip(err)
	}
	return cc
}

// TestOldHeaders: it compiles with headers that have not heard of the system calls that the kernel may lack.
func TestOldHeaders(t *testing.T) {
	cc, old := compiler(t), filepath.Join(t.TempDir(), "old.h")
	if err := os.WriteFile(old, []byte("#include <asm/unistd.h>\n#undef __NR_close_range\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range sources(t) {
		cmd := exec.CommandContext(t.Context(), cc, "-std=gnu17", "-fsyntax-only", "-include", old, file)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

// TestNoLibrary: it needs nothing of the C library, which has not started when it runs, however it is compiled.
func TestNoLibrary(t *testing.T) {
	cc := compiler(t)
	for _, flags := range [][]string{
		{"-static", "-O0"},
		{"-static", "-O2", "-D_FORTIFY_SOURCE=2"},
		{"-static", "-O3"},
		{"-static", "-Os"},
		{"-static-pie", "-fPIC", "-O0"},
		{"-static-pie", "-fPIC", "-O2", "-Wl,--no-relax"}, // the linker of arm64 does not take addresses out of their table either
	} {
		program := filepath.Join(t.TempDir(), "stage0")
		args := slices.Concat(flags, []string{
			"-std=gnu17", "-fno-stack-protector", "-nostdlib", "-Wl,-e,stage0entry", "-Wl,--defsym=_start=0", "-o", program,
		}, sources(t))
		if out, err := exec.CommandContext(t.Context(), cc, args...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", flags, err, out)
			continue
		}
		hold := exec.CommandContext(t.Context(), program)
		hold.Args = HoldArgs()
		if out, err := hold.CombinedOutput(); err != nil { // at the end of its standard input
			t.Errorf("%v: %v\n%s", flags, err, out)
		}
		keep := exec.CommandContext(t.Context(), program)
		keep.Args = KeepArgs(nil, []string{"/bin/sh", "-c", "exit 3"})
		if ws, err := runtimeOf(keep); err != nil || ws.ExitStatus() != 3 {
			t.Errorf("%v: a runtime ends with %d, %v", flags, ws, err)
		}
	}
}

// runtimeOf runs a keeper, and tells how its runtime has ended.
func runtimeOf(keep *exec.Cmd) (syscall.WaitStatus, error) {
	lifeline, hold, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer lifeline.Close()
	defer hold.Close()
	reports, status, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer reports.Close()
	keep.ExtraFiles = []*os.File{lifeline, status}
	err = keep.Start()
	status.Close()
	if err != nil {
		return 0, err
	}
	ws, _, _, err := ReadRuntime(reports)
	return ws, errors.Join(err, keep.Wait())
}
