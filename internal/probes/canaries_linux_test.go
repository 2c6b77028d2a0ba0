//go:build linux && cgo

package probes

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const canaryText = "host secret "

// canaryName is this process's own, because root's tests and a user's have theirs at the same time. Seal keeps the pid.
func canaryName() string { return fmt.Sprintf("probe-host-canary-%d", os.Getpid()) }

// canaries are things of the host that a guest must neither see nor touch.
type canaries struct {
	name     string
	files    []string
	process  *exec.Cmd
	port     int
	shmKey   int
	shmID    int
	mu       sync.Mutex
	visitors []string // to the sockets
}

func plant(t testing.TB) *canaries {
	t.Helper()
	c := &canaries{name: canaryName(), shmKey: 0x50520000 + os.Getpid()%0x10000}
	must := func(what string, err error) {
		if err != nil {
			t.Fatalf("cannot plant a canary: %s: %v", what, err)
		}
	}
	for _, dir := range []string{"/tmp", "/dev/shm"} {
		f := filepath.Join(dir, c.name)
		c.files = append(c.files, f)
		t.Cleanup(func() { _ = os.Remove(f) })
		must(f, os.WriteFile(f, []byte(canaryText+c.name), 0o644)) // readable for all: only the walls keep it
	}
	abstract, err := net.Listen("unix", "@"+c.name)
	must("abstract socket", err)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must("TCP socket", err)
	c.port = tcp.Addr().(*net.TCPAddr).Port
	var accepting sync.WaitGroup
	t.Cleanup(accepting.Wait)
	for _, l := range []net.Listener{abstract, tcp} {
		t.Cleanup(func() { l.Close() })
		accepting.Go(func() { c.accept(l) })
	}
	c.shmID, err = unix.SysvShmGet(c.shmKey, 4096, unix.IPC_CREAT|unix.IPC_EXCL|0o666)
	must("SysV shared memory", err)
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(c.shmID, unix.IPC_RMID, nil) })
	name, err := unix.BytePtrFromString(c.name)
	must("message queue", err)
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_CREAT|unix.O_RDWR, 0o666, 0, 0, 0)
	if errno != 0 {
		t.Logf("no canary: message queue: %v", errno) // a kernel may have none
	} else {
		t.Cleanup(func() {
			unix.Close(int(fd))
			_, _, _ = unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(name)), 0, 0)
		})
	}
	if key, err := unix.AddKey("user", c.name, []byte("secret"), unix.KEY_SPEC_USER_KEYRING); err != nil {
		t.Logf("no canary: keyring: %v", err) // as above
	} else {
		t.Cleanup(func() { _, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, key, unix.KEY_SPEC_USER_KEYRING, 0, 0) })
	}
	c.process = exec.Command("/proc/self/exe", c.name)
	c.process.Env = append(os.Environ(), roleEnv+"="+bystander)
	stdin, err := c.process.StdinPipe()
	must("process", err)
	must("process", c.process.Start())
	t.Cleanup(func() {
		stdin.Close()
		_ = c.process.Wait()
	})
	return c
}

func (c *canaries) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conn.Close()
		c.mu.Lock()
		c.visitors = append(c.visitors, l.Addr().String())
		c.mu.Unlock()
	}
}

// hurt says what has happened to the canaries.
func (c *canaries) hurt() (what []string) {
	for _, f := range c.files {
		if b, err := os.ReadFile(f); err != nil || string(b) != canaryText+c.name {
			what = append(what, fmt.Sprintf("the file %s has changed: %q, %v", f, b, err))
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.process.Process.Pid))
	if err != nil || strings.Contains(string(stat), ") Z ") {
		what = append(what, "the bystander is dead")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.visitors {
		what = append(what, "a connection to "+v)
	}
	c.visitors = nil
	return what
}

// preamble tells a probe what to look for, in Python.
func (c *canaries) preamble(t testing.TB) string {
	t.Helper()
	namespaces := make(map[string]string)
	for _, name := range []string{"user", "mnt", "net", "pid", "ipc", "uts", "cgroup"} {
		link, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		namespaces[name] = link
	}
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	// JSON without true, false and null is Python.
	b, err := json.Marshal(map[string]any{
		"hostname": hostname, "canary": c.name, "tcp_port": c.port, "abstract": c.name, "shm_key": c.shmKey,
		"uid": os.Geteuid(), "pid": c.process.Process.Pid, "ns": namespaces, "allowed_fds": []int{240, 241},
	})
	if err != nil {
		t.Fatal(err)
	}
	return "HOST = " + string(b) + "\n"
}
