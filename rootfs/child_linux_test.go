package rootfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containers/image/v5/types"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// systemChildren are what the test binary plays on Linux only.
var systemChildren = map[string]func() int{"confined": childConfined, "stall": childStall}

// escapes are what somebody who has taken over the unpacker might try: operation -> how it ends. args are a staging
// directory, a directory beside it and the address of a TCP listener.
var escapes = map[string]func(in, out, addr string) error{
	"write a new file inside":    func(in, _, _ string) error { return os.WriteFile(in+"/new", []byte("x"), 0o644) },
	"make a directory inside":    func(in, _, _ string) error { return os.Mkdir(in+"/d", 0o755) },
	"rename between directories": func(in, _, _ string) error { return os.Rename(in+"/mine", in+"/sub/mine") },
	"hard link inside":           func(in, _, _ string) error { return os.Link(in+"/sub/a", in+"/a") },
	"symbolic link inside":       func(in, _, _ string) error { return os.Symlink("/", in+"/l") },
	"remove inside":              func(in, _, _ string) error { return os.Remove(in + "/gone") },

	"write a new file outside": func(_, out, _ string) error { return os.WriteFile(out+"/new", []byte("x"), 0o644) },
	"write to a file outside":  func(_, out, _ string) error { return os.WriteFile(out+"/canary", []byte("x"), 0o644) },
	"append to a file outside": func(_, out, _ string) error {
		_, err := os.OpenFile(out+"/canary", os.O_APPEND|os.O_WRONLY, 0)
		return err
	},
	"truncate a file outside":  func(_, out, _ string) error { return os.Truncate(out+"/canary", 0) },
	"remove outside":           func(_, out, _ string) error { return os.Remove(out + "/canary") },
	"make a directory outside": func(_, out, _ string) error { return os.Mkdir(out+"/d", 0o755) },
	"symbolic link outside":    func(_, out, _ string) error { return os.Symlink("/", out+"/l") },
	"rename to outside":        func(in, out, _ string) error { return os.Rename(in+"/sub/b", out+"/b") },
	"rename from outside":      func(in, out, _ string) error { return os.Rename(out+"/canary", in+"/canary") },
	"hard link to outside":     func(in, out, _ string) error { return os.Link(in+"/sub/b", out+"/b") },
	"hard link from outside":   func(in, out, _ string) error { return os.Link(out+"/canary", in+"/canary") },
	"a FIFO inside":            func(in, _, _ string) error { return unix.Mkfifo(in+"/fifo", 0o600) },
	"a socket inside":          func(in, _, _ string) error { _, err := net.Listen("unix", in+"/socket"); return err },
	"connect by TCP":           func(_, _, addr string) error { _, err := net.Dial("tcp", addr); return err },
	"listen on TCP":            func(_, _, _ string) error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err },
	"send by UDP":              func(_, _, addr string) error { _, err := net.Dial("udp", addr); return err },
	"signal the bridge":        func(_, _, _ string) error { return unix.Kill(unix.Getppid(), unix.SIGCONT) },
	"look into the bridge":     func(_, _, _ string) error { return eachThread(unix.PtraceAttach) },
	"read the bridge's memory": func(_, _, _ string) error { return eachThread(readMemory) },
	"an extended attribute":    func(in, _, _ string) error { return unix.Setxattr(in+"/sub/a", "user.x", nil, 0) },
	"give it away":             func(in, _, _ string) error { return os.Chown(in+"/sub/a", 1, 1) },
	"a program with other rights": func(_, _, _ string) error {
		if n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || n == 1 {
			return errors.Join(err, unix.EPERM)
		}
		return nil
	},
}

// eachThread does something to all threads of the bridge, and says how it ended the best way.
func eachThread(f func(tid int) error) (err error) {
	tids, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", unix.Getppid()))
	if err != nil || len(tids) == 0 {
		return errors.Join(err, errors.New("the bridge has no threads"))
	}
	for _, p := range tids {
		tid, err := strconv.Atoi(filepath.Base(p))
		if err == nil {
			err = f(tid)
		}
		if !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	return unix.EPERM
}

func readMemory(tid int) error {
	b := make([]byte, 1)
	_, err := unix.ProcessVMReadv(tid, []unix.Iovec{{Base: &b[0], Len: 1}}, []unix.RemoteIovec{{Base: 1, Len: 1}}, 0)
	return err
}

// childConfined makes all escapes and prints how they end.
func childConfined() int {
	got := map[string]string{}
	for name, f := range escapes {
		var errno syscall.Errno
		switch err := f(os.Args[1], os.Args[2], os.Args[3]); {
		case err == nil:
			got[name] = "ok"
		case errors.As(err, &errno):
			got[name] = unix.ErrnoName(errno)
		default:
			got[name] = err.Error()
		}
	}
	if json.NewEncoder(os.Stdout).Encode(got) != nil {
		return 1
	}
	return 0
}

// TestConfine: what the unpacker's process can do, seen from inside.
func TestConfine(t *testing.T) {
	abi := landlockABI()
	if abi < 2 {
		skip(t, fmt.Sprintf("needs Landlock of version 2 (Linux 5.19); this kernel has %d", abi))
	}
	in, out := t.TempDir(), t.TempDir()
	for _, name := range []string{in + "/mine", in + "/gone", in + "/sub/a", in + "/sub/b", out + "/canary"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("alive"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := child(t, os.Args[0], "confined", in, out, l.Addr().String())
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	ended := make(chan error, 1)
	onOwnThread(func() { // as startChild
		if err := confine(in); err != nil {
			ended <- err
			return
		}
		ended <- cmd.Run()
	})
	if err := <-ended; err != nil {
		t.Fatalf("%v: %s", err, cmd.Stderr)
	}
	var got map[string]string
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for name := range escapes {
		want[name] = "EACCES"
		switch {
		case strings.HasSuffix(name, "inside") && !strings.HasPrefix(name, "a "), name == "rename between directories":
			want[name] = "ok"
		case strings.Contains(name, "the bridge"), strings.Contains(name, "TCP"), name == "a socket inside", name == "send by UDP",
			name == "a program with other rights", name == "an extended attribute", name == "give it away":
			want[name] = "EPERM"
		}
		switch { // what earlier versions do not know
		case abi < 3 && strings.HasPrefix(name, "truncate"), abi < 7 && strings.HasPrefix(name, "signal"):
			delete(want, name)
			delete(got, name)
		}
	}
	// Moving between hierarchies looks like moving between file systems, where the rights differ.
	for _, name := range []string{"rename to outside", "rename from outside", "hard link to outside", "hard link from outside"} {
		if got[name] == "EXDEV" {
			want[name] = "EXDEV"
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if b, err := os.ReadFile(out + "/canary"); string(b) != "alive" || err != nil {
		t.Errorf("the canary: %q %v", b, err)
	}
	// Nothing of this holds for the process that started it.
	if err := os.WriteFile(out+"/mine", nil, 0o644); err != nil {
		t.Error(err)
	}
}

// A stallSource is a layout whose layers stop half-way until the context ends.
type stallSource struct {
	source
	manifest ispec.Manifest
	stalled  chan struct{}
}

func (s stallSource) GetBlob(ctx context.Context, info types.BlobInfo) (io.ReadCloser, int64, error) {
	rc, size, err := s.source.GetBlob(ctx, info)
	for _, l := range s.manifest.Layers {
		if err == nil && l.Digest == info.Digest {
			return struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.LimitReader(rc, info.Size/2), stall{ctx, s.stalled}), rc}, size, nil
		}
	}
	return rc, size, err
}

type stall struct {
	ctx     context.Context // of the call that reads
	stalled chan struct{}
}

func (s stall) Read([]byte) (int, error) {
	s.stalled <- struct{}{}
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// stalledImage is an image of which the unpacker gets half a layer.
func stalledImage(t testing.TB) (image, chan struct{}) {
	t.Helper()
	l := newLayout(t)
	d := l.image(testImage{layers: [][]byte{python(t), archive(t, file("large", strings.Repeat("x", 1<<20)))}})
	l.index(d)
	src := blobSource{open: func(d digest.Digest) (io.ReadCloser, int64, error) {
		f, fi, err := openRegular(layoutBlob(l.dir, d), math.MaxInt64)
		if err != nil {
			return nil, 0, err
		}
		return f, fi.Size(), nil
	}}
	m := l.manifest(t, d)
	m.Layers = m.Layers[1:]
	stalled := make(chan struct{}, 1)
	return image{ref: "stalled", manifest: d, src: stallSource{src, m, stalled}}, stalled
}

// unpackerOf finds the unpacker that a process has started.
func unpackerOf(t testing.TB, parent int) (pid int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range dirs {
		b, _ := os.ReadFile(p) // it may be gone
		if strings.TrimRight(string(b), "\x00") != unpackName {
			continue
		}
		n, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
		if err != nil {
			t.Fatal(err)
		}
		if status(n)["PPid"] == strconv.Itoa(parent) {
			return n
		}
	}
	return 0
}

// status reads /proc/PID/status; empty if there is no such process.
func status(pid int) map[string]string {
	got := map[string]string{}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return got
	}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		got[k] = strings.TrimSpace(v)
	}
	return got
}

// gone waits until a process is dead.
func gone(t testing.TB, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // already
	}
	defer unix.Close(fd)
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 10_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n == 0 || err != nil {
			t.Errorf("process %d is alive: %v", pid, err)
		}
		return
	}
}

// TestUnpackerProcess looks at the unpacker while it waits for more, and then ends it in several ways.
func TestUnpackerProcess(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(t *testing.T, pid int, cancel func())
		want string
	}{
		"cancelled": {func(_ *testing.T, _ int, cancel func()) { cancel() }, "context canceled"},
		"killed": {func(t *testing.T, pid int, _ func()) {
			t.Helper()
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Error(err)
			}
		}, "the unpacker died: signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			im, stalled := stalledImage(t)
			s := newStore(t)
			c, err := s.cache()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := ensureImage(ctx, c, im)
				done <- err
			}()
			<-stalled
			pid := unpackerOf(t, os.Getpid())
			if pid == 0 {
				t.Fatal("there is no unpacker")
			}
			for range 1000 { // it starts while the first bytes are read
				if status(pid)["Umask"] == "0000" {
					break
				}
				<-time.After(10 * time.Millisecond)
			}
			st := status(pid)
			got := map[string]string{"NoNewPrivs": st["NoNewPrivs"], "Umask": st["Umask"]}
			env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			got["environ"] = fmt.Sprintf("%q %v", env, err)
			for what, n := range map[string]int{"core": unix.RLIMIT_CORE, "fsize": unix.RLIMIT_FSIZE, "nofile": unix.RLIMIT_NOFILE, "cpu": unix.RLIMIT_CPU} {
				var lim unix.Rlimit
				if err := unix.Prlimit(pid, n, nil, &lim); err != nil {
					t.Error(err)
				}
				got[what] = fmt.Sprint(lim.Max)
			}
			want := map[string]string{
				"NoNewPrivs": "1", "Umask": "0000", "environ": `"" <nil>`,
				"core": "0", "fsize": fmt.Sprint(int64(maxBytes)), "nofile": "1384", "cpu": fmt.Sprint(int(maxCPU.Seconds())),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			tt.end(t, pid, cancel)
			if err := <-done; err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			gone(t, pid)
			checkClean(t, s, 0)
		})
	}
}

// childStall unpacks an image that stalls, says which process unpacks it, and waits to be killed.
func childStall() int {
	t := &stallT{}
	im, stalled := stalledImage(t)
	c, err := (&Store{Dir: os.Args[1]}).cache()
	if err != nil {
		return 1
	}
	go func() {
		<-stalled
		fmt.Println(unpackerOf(t, os.Getpid()))
	}()
	_, err = ensureImage(context.Background(), c, im)
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// A stallT is as much of a test as stalledImage needs in a process that is none.
type stallT struct{ testing.TB }

func (*stallT) Helper() {}
func (*stallT) TempDir() string {
	return os.Args[2]
}
func (*stallT) Context() context.Context { return context.Background() }
func (*stallT) Fatal(args ...any)        { panic(fmt.Sprint(args...)) }

// TestUnpackerDiesWithBridge: kill -9 of the bridge ends the unpacker; while that lives, nobody takes its directory for
// a dead one's; and the next one cleans up.
func TestUnpackerDiesWithBridge(t *testing.T) {
	s := newStore(t)
	cmd := child(t, os.Args[0], "stall", s.Dir, t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanln(out, &pid); err != nil || pid == 0 {
		t.Fatalf("there is no unpacker: %v: %s", err, cmd.Stderr)
	}
	if got := names(t, filepath.Join(s.Dir, tmpDir)); len(got) != 1 {
		t.Fatalf("in tmp: %v", got)
	}
	// It holds the lock.
	if fi, err := os.Stat(fmt.Sprintf("/proc/%d/fd/3", pid)); err != nil {
		t.Error(err)
	} else if entries := names(t, filepath.Join(s.Dir, locksDir)); len(entries) != 1 {
		t.Errorf("locks: %v", entries)
	} else if lock, err := os.Stat(filepath.Join(s.Dir, locksDir, entries[0])); err != nil || !os.SameFile(fi, lock) {
		t.Errorf("descriptor 3 is not the lock: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	gone(t, pid)
	l := newLayout(t)
	if _, err := (&Store{Dir: s.Dir}).Ensure(t.Context(), l.index(l.image(testImage{layers: [][]byte{python(t)}}))); err != nil {
		t.Fatal(err)
	}
	checkClean(t, s, 1)
}

// TestUnpackerHere: a program that does not call Init unpacks by itself.
func TestUnpackerHere(t *testing.T) {
	defer reexec.Store(reexec.Swap(false))
	l := newLayout(t)
	ref := l.index(l.image(testImage{layers: [][]byte{python(t), archive(t, fileMode("x", 0o777))}, compress: "gzip"}))
	s := newStore(t)
	tree, err := s.Ensure(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if got := listing(t, tree.Path)["x"]; !strings.HasPrefix(got, "-rwxrwxrwx") {
		t.Errorf("x is %s", got)
	}
	checkClean(t, s, 1)
}
