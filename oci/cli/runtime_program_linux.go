//go:build linux && cgo

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// A program is an OCI runtime of this host.
type program struct{ path, kind, version string }

func (p program) String() string {
	return strings.TrimSpace(p.kind+" "+p.version) + " (" + p.path + ")"
}

// kinds are the runtimes whose command line is known, with the oldest version that was tried. One of another name is
// taken for one like runc.
var kinds = map[string]string{"crun": "1.8", "runc": "1.1", "youki": "", "runsc": ""}

// findProgram looks for a runtime, by name or by path, and asks it who it is.
func findProgram(ctx context.Context, name string, patience time.Duration) (program, error) {
	path, err := lookPath(name)
	if err != nil {
		return program{}, &oci.HostError{
			Missing: fmt.Sprintf("cannot find the OCI runtime %s: %v", name, err),
			Fix:     "install it (apt-get install crun), or unset MCP_BRIDGE_RUNTIME",
		}
	}
	p := program{path: path, kind: filepath.Base(path)}
	t, err := newTranscript()
	if err != nil {
		return program{}, err
	}
	defer t.end()
	err = runProgram(ctx, patience, p.command([]string{"--version"}, t.w), (*exec.Cmd).Start)
	text := t.end()
	if err != nil {
		if ctx.Err() != nil {
			return program{}, context.Cause(ctx)
		}
		if host.Passing(err) {
			return program{}, &oci.StartError{Step: filepath.Base(p.path) + " --version", Err: err}
		}
		return program{}, &oci.HostError{
			Missing: fmt.Sprintf("cannot use the OCI runtime %s: asked for its --version: %v", p.path, said(err, text)),
			Fix:     "see whether it runs by itself, install another (apt-get install crun), or unset MCP_BRIDGE_RUNTIME",
		}
	}
	// "crun version 1.8.1", "runc version 1.1.5+ds1", "runsc version release-20240101.0", "youki version: 0.5.0"
	if f := strings.Fields(text); len(f) > 2 && strings.HasPrefix(f[1], "version") && len(f[2]) < 64 {
		if _, ok := kinds[f[0]]; ok {
			p.kind = f[0]
		}
		p.version = f[2]
	}
	return p, nil
}

// old says that the program is older than what was tried.
func (p program) old() (oldest string, old bool) {
	oldest = kinds[p.kind]
	return oldest, oldest != "" && p.version != "" && slices.Compare(numbers(p.version), numbers(oldest)) < 0
}

// numbers are those that a version begins with.
func numbers(version string) (n []int) {
	for part := range strings.SplitSeq(strings.TrimPrefix(version, "v"), ".") {
		digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
		i, err := strconv.Atoi(digits)
		if err != nil {
			break
		}
		n = append(n, i)
	}
	return n
}

// command is the program with arguments, in an environment that has nothing of ours but where newuidmap is found, and no
// NOTIFY_SOCKET or LISTEN_FDS to act on. With one P a runtime in Go starts faster.
func (p program) command(args []string, out *os.File, files ...*os.File) *exec.Cmd {
	return &exec.Cmd{
		Path: p.path, Args: append([]string{p.path}, args...), Dir: "/",
		Env: []string{"PATH=" + os.Getenv("PATH"), "GOMAXPROCS=1"},
		// Not the host's /dev/null, as without this: crun gives its standard streams to the container's root.
		Stdin: strings.NewReader(""), Stdout: out, Stderr: out, ExtraFiles: files,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
}

var errHangs = errors.New("it does not end")

// runProgram starts a command and waits for its end, but not for ever: one that hangs is killed, with its process group.
func runProgram(ctx context.Context, patience time.Duration, cmd *exec.Cmd, start func(*exec.Cmd) error) error {
	if err := start(cmd); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p := &process{Cmd: cmd}
	stop := context.AfterFunc(ctx, p.kill)
	if err := p.wait(); stop() {
		return err
	}
	return errHangs
}

// A transcript keeps the last that a program prints. It does not wait for the end: processes of the container may have the
// other end of the pipe for longer than that.
type transcript struct {
	r, w *os.File // w is for the program
	done chan struct{}
	last []byte // the goroutine's until done
}

const maxTranscript = 4 << 10

func newTranscript() (*transcript, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	t := &transcript{r: r, w: w, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		buf := make([]byte, maxTranscript)
		for {
			n, err := t.r.Read(buf)
			t.keep(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	return t, nil
}

func (t *transcript) keep(b []byte) {
	t.last = append(t.last, b...)
	if over := len(t.last) - maxTranscript; over > 0 {
		t.last = slices.Delete(t.last, 0, over)
	}
}

// end says what the program has printed last. It may be called again.
func (t *transcript) end() string {
	if t.r == nil {
		return string(t.last)
	}
	t.w.Close()
	_ = t.r.SetReadDeadline(time.Unix(1, 0))
	<-t.done
	// What was in the pipe at the deadline.
	_ = t.r.SetReadDeadline(time.Time{})
	if raw, err := t.r.SyscallConn(); err == nil {
		buf := make([]byte, 1<<16) // all that is in a pipe
		_ = raw.Read(func(fd uintptr) bool {
			if n, err := unix.Read(int(fd), buf); err == nil && n > 0 {
				t.keep(buf[:n])
			}
			return true
		})
	}
	t.r.Close()
	t.r = nil
	return string(t.last)
}

// said adds to what went wrong what the program had to say about it.
func said(err error, text string) error {
	return fmt.Errorf("%w; it printed last: %s", err, lastLines(text))
}
