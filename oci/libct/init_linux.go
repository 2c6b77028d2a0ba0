//go:build linux && cgo

package libct

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/exeseal"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // the C half of libcontainer's init
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci/stage0"
)

// Init does not return in a process that is the init of a container. Everything that runs before it, package init
// functions included, is paid for by each container.
func Init() {
	if len(os.Args) < 2 || os.Args[1] != "init" || os.Getenv("_LIBCONTAINER_INITPIPE") == "" {
		// Nobody but libcontainer has a use for these; inherited ones could only mislead the children of this process.
		for _, kv := range os.Environ() {
			if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "_LIBCONTAINER_") {
				os.Unsetenv(name)
			}
		}
		return
	}
	if os.Getpid() != 1 {
		// All that follows would be done to the host.
		fmt.Fprintln(os.Stderr, "libcontainer's C code has not run: was mcp-bridge built with -linkmode=internal?")
		os.Exit(1)
	}
	debug.SetGCPercent(-1) // it lives for some 20 ms
	go holdLifeline()
	// libcontainer drops supplementary groups for root only. A user's would stay: the group that is mapped to 0 by name,
	// the others as nobody's, and all of them with their rights on files. Where a user has mapped his own id, without
	// newgidmap, the kernel does not let them go (user_namespaces(7), "setgroups").
	if err := syscall.Setgroups(nil); err != nil {
		if b, rerr := os.ReadFile("/proc/self/setgroups"); rerr != nil || string(b) != "deny\n" {
			fmt.Fprintln(os.Stderr, "cannot drop supplementary groups:", err)
			os.Exit(1)
		}
	}
	coverRootfs()
	libcontainer.Init()
}

// holdLifeline ends a half-made container when the bridge dies or cancels it. libcontainer's init would else wait for
// the other end of its fifo for ever; stage0 takes over after the exec. It waits by Go's poller: in a system call it would
// have the one P, which the monitor thread, whose timers are late here, would have to take from it.
func holdLifeline() {
	_ = unix.SetNonblock(stage0.Lifeline, true)
	_, _ = os.NewFile(stage0.Lifeline, "lifeline").Read(make([]byte, 1)) // nobody writes
	os.Exit(137)
}

// Seal re-executes the program from a sealed memfd, once. libcontainer must never start a container from a file that
// the container could reach through /proc and write (CVE-2019-5736), and would else copy the whole program at each
// start. Seal returns when this has been done, or when it cannot be: containers then start slower, not less safely.
// It costs what one slower start does, so a program that starts one container need not call it.
func Seal() error {
	if exeseal.IsSelfExeCloned() {
		// exec named this process after a descriptor number.
		_ = os.WriteFile("/proc/self/comm", []byte("mcp-bridge"), 0)
		return nil
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("cannot open own program: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cannot stat own program: %w", err)
	}
	memfd, seal, err := exeseal.Memfd("mcp-bridge")
	if err != nil {
		return fmt.Errorf("cannot make a memfd for own program (is vm.memfd_noexec set?): %w", err)
	}
	defer memfd.Close()
	// sendfile copies inside the kernel; a memfd has no faster way in.
	for off := int64(0); off < st.Size(); {
		n, err := unix.Sendfile(int(memfd.Fd()), int(f.Fd()), &off, int(st.Size()-off))
		if err != nil {
			return fmt.Errorf("cannot copy own program: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("cannot copy own program: it shrank to %d bytes", off)
		}
	}
	if err := seal(&memfd); err != nil {
		return fmt.Errorf("cannot seal own program: %w", err)
	}
	runtime.LockOSThread() // exec keeps this thread's signal mask and scheduling
	err = unix.Exec(fmt.Sprintf("/proc/self/fd/%d", memfd.Fd()), os.Args, os.Environ())
	runtime.UnlockOSThread()
	return fmt.Errorf("cannot execute sealed copy of own program: %w", err)
}
