//go:build linux

package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// A watchdog ends a container that takes more memory than its limit, where no cgroup does so: rlimits bound each process
// and not their sum, and do not count files in a tmpfs. It looks twenty times a second, so a script can be over the
// limit by what it touches in that time: the weak mode is weak.
type watchdog struct {
	pid   int      // of the container's first process, here
	limit int64    // bytes
	tmpfs []string // mount points in the container
	page  int64
}

const watchEvery = 50 * time.Millisecond

// Watch tells s that the container of this specification has started, whose first process is pid and whose cgroups have
// these paths. If no cgroup holds it to its memory limit, kill is called when it is over that. verdict is for when the command
// has ended, and adds to its exit what the host has seen of it, as long as the cgroups are there.
func (o Offer) Watch(pid int, c oci.Container, s oci.Streams, spec *specs.Spec, cgroups map[string]string, kill func()) (verdict func(*oci.Exit)) {
	if s.Started != nil {
		s.Started(pid, o.Limits)
	}
	over := func() bool { return false }
	if o.Limits == oci.ByRlimits && c.Limits.Memory != 0 {
		w := watchdog{pid: pid, limit: c.Limits.Memory, tmpfs: tmpfsMounts(spec), page: int64(os.Getpagesize())}
		over = w.start(kill)
	}
	return func(exit *oci.Exit) {
		if exit.OOM, exit.Starved = oomKilled(cgroups); over() {
			exit.OOM, exit.Starved = true, false
		}
		exit.Limits = o.enforced(cgroups, c.Limits)
	}
}

// tmpfsMounts are the destinations of a specification's tmpfs mounts, whose files are memory.
func tmpfsMounts(s *specs.Spec) (destinations []string) {
	for _, m := range s.Mounts {
		if m.Type == "tmpfs" {
			destinations = append(destinations, m.Destination)
		}
	}
	return destinations
}

// start calls kill when the limit is reached, until stop, which returns whether it was.
func (w watchdog) start(kill func()) (stop func() bool) {
	done, over := make(chan struct{}), make(chan bool)
	go func() { over <- w.watch(done, kill) }()
	return func() bool {
		close(done)
		return <-over
	}
}

// watch calls kill when the limit is reached, and returns whether it was, when done is closed.
func (w watchdog) watch(done <-chan struct{}, kill func()) (over bool) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return over
		case <-tick.C:
			if !over && w.memory() > w.limit {
				over = true
				kill()
			}
		}
	}
}

// memory is what the container holds, in bytes. Pages of the image's files are not counted: they are the host's cache.
func (w watchdog) memory() int64 {
	pids := w.processes()
	files := w.files(pids)
	most := files
	for _, pid := range pids {
		most += w.resident(pid)
	}
	if most <= w.limit {
		return most // an upper bound that costs next to nothing
	}
	exact := files
	for _, pid := range pids {
		exact += w.private(pid)
	}
	return exact
}

// processes are the container's: the descendants of its first process, because that one is the parent of all orphans.
func (w watchdog) processes() []int {
	pids := []int{w.pid}
	for i := 0; i < len(pids) && len(pids) < maxWatched; i++ {
		for _, task := range names(fmt.Sprintf("/proc/%d/task", pids[i])) {
			tid, _ := strconv.Atoi(task)
			pids = append(pids, childrenOf(pids[i], tid)...)
		}
	}
	return pids
}

// maxWatched bounds the work where no limit of processes is set.
const maxWatched = 4096

// resident is a process's resident set with all it shares with others (proc_pid_statm(5)).
func (w watchdog) resident(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if f := bytes.Fields(b); len(f) > 1 {
		pages, _ := strconv.ParseInt(string(f[1]), 10, 64)
		return pages * w.page
	}
	return 0
}

// private is a process's share of memory that is no file's, swapped out or not: what a fork shares with its parent
// counts once (proc_pid_smaps(5)).
func (w watchdog) private(pid int) (bytes int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if errors.Is(err, fs.ErrPermission) {
		return w.resident(pid)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		switch f[0] {
		case "Pss_Anon:", "Pss_Shmem:", "SwapPss:":
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			bytes += kb << 10
		}
	}
	return bytes
}

// files is the size of all files in the container's tmpfs mounts, as seen through one of its processes: the first one may
// have been executed outside of its user namespace, and then is not ours to look through.
func (w watchdog) files(pids []int) (bytes int64) {
	for _, pid := range slices.Backward(pids) {
		seen := false
		for _, dir := range w.tmpfs {
			var st unix.Statfs_t
			if unix.Statfs(fmt.Sprintf("/proc/%d/root%s", pid, dir), &st) == nil && st.Type == unix.TMPFS_MAGIC {
				seen = true
				bytes += int64(st.Blocks-st.Bfree) * st.Bsize // the types differ by architecture
			}
		}
		if seen {
			break
		}
	}
	return bytes
}

func names(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	n, _ := f.Readdirnames(-1)
	return n
}

// watchable says whether this kernel shows what a watchdog has to see.
func watchable() error {
	if _, err := os.Stat("/proc/thread-self/children"); err != nil {
		return fmt.Errorf("cannot see the processes of a container (a kernel without CONFIG_PROC_CHILDREN?): %w", err)
	}
	return nil
}
