package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// openTerminal makes a pseudo-terminal of 40 columns. What is written to its slave is in the result when that and its
// copies are closed.
func openTerminal(t *testing.T) (slave *os.File, written func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		skipOrFail(t, "no pseudo-terminals: "+err.Error())
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 40})
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		skipOrFail(t, "no pseudo-terminals: "+err.Error())
	}
	var b bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&b, master) // EIO: all slaves are closed
		master.Close()
	}()
	return slave, func() string { <-done; return b.String() }
}

// TestRunShowsPull: run shows on a terminal that an image is made, and takes it away before the script writes; and it
// shows nothing of one that is there.
func TestRunShowsPull(t *testing.T) {
	needSandbox(t)
	if testImage() == "host" {
		skipOrFail(t, "no OCI image in .cache: make test makes it")
	}
	cache := filepath.Join(base, "pulled") // the container's user can pass base
	for _, pulled := range []bool{false, true} {
		slave, written := openTerminal(t)
		cmd := bridgeCommand(t, environment(t.TempDir()+"/state", "MCP_BRIDGE_CACHE_DIR="+cache, "TERM=xterm"), "run", "-c", "import sys; print(1); print(2, file=sys.stderr)")
		var stdout bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, slave
		err := cmd.Run()
		slave.Close()
		got := written()
		if err != nil || stdout.String() != "1\n" {
			t.Fatalf("%v; it printed %q and %q", err, stdout.String(), got)
		}
		shown, rest := "", got
		if i := strings.LastIndex(got, "\r "); i >= 0 {
			shown, rest = got[:i], got[strings.LastIndex(got[:len(got)-2], "\r")+1:]
		}
		if pulled != (shown == "") || !pulled && !strings.Contains(shown, "] unpacking oc") || rest != "2\r\n" {
			t.Errorf("in the cache %v: the terminal got %q", pulled, got)
		}
		for line := range strings.SplitSeq(got, "\r") {
			if len(line) >= 40 {
				t.Errorf("a line of %d columns does not fit: %q", len(line), line)
			}
		}
	}
}

// TestBarElsewhere: only a terminal gets one, and without one all is silent.
func TestBarElsewhere(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, f := range []*os.File{null, w} {
		b := newBar(f)
		if b != nil {
			t.Errorf("%s gets a bar", f.Name())
		}
		b.image("x", rootfs.Progress{Phase: rootfs.Downloading, Done: 1, Total: 2})
		b.clear()
	}
	slave, written := openTerminal(t)
	t.Setenv("TERM", "dumb")
	if newBar(slave) != nil {
		t.Error("a dumb terminal gets a bar")
	}
	t.Setenv("TERM", "xterm")
	b := newBar(slave)
	b.image("x", rootfs.Progress{Phase: rootfs.Downloading, Done: 1e6, Total: 2e6})
	b.show("y", 0, 0)
	b.clear()
	b.clear()
	slave.Close()
	const whole = "[============            ] downloading " // what fits
	if got := written(); got != "\r"+whole+"\ry"+strings.Repeat(" ", 38)+"\r \r" {
		t.Errorf("it got %q", got)
	}
}
