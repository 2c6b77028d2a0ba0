// Command bench measures cold starts side by side: a container that runs `python3 -I -S -c pass` to its end, launched by
// mcp-bridge's launcher and by what one could pick instead, on the same tree, with the same OCI specification where
// the peer reads one. The contestants take turns, because a machine's speed drifts; medians and their ratios are what
// to read. Needs root, for cgroups and for a mount namespace of its own.
//
//	hack/bench [-rounds N] [-image REF] [-json]
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/libct"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// A contestant starts one container and waits for its end.
type contestant struct {
	name string
	run  func(i int) error
}

func main() {
	libct.Init()
	if err := libct.Seal(); err != nil {
		log.Print(err)
	}
	rounds := flag.Int("rounds", 50, "starts of each contestant")
	image := flag.String("image", "oci:.cache/python-image", "what they run")
	bridge := flag.String("bridge", "bin/mcp-bridge", "the program, for the rows about the whole of it")
	asJSON := flag.Bool("json", false, "print JSON")
	images := flag.Bool("images", false, "measure pulls instead")
	flag.Parse()
	log.SetFlags(0)
	if os.Geteuid() != 0 {
		log.Fatal("bench: needs root")
	}
	ownMounts()
	if *images {
		benchImages(*rounds, *bridge)
		return
	}
	dir, err := os.MkdirTemp("/var/tmp", "mcp-bridge-bench-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	must(os.Chmod(dir, 0o711)) // container users pass through it
	store := &rootfs.Store{Dir: filepath.Join(dir, "cache")}
	tree, err := store.Ensure(context.Background(), *image)
	if err != nil {
		log.Fatal(err)
	}
	all, closeAll := contestants(dir, tree, *image, *bridge)
	times := measure(all, *rounds)
	closeAll()
	if *asJSON {
		must(json.NewEncoder(os.Stdout).Encode(times))
		return
	}
	report(os.Stdout, tree, all, times)
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// ownMounts gives this process mounts of its own, without the cgroup v2 tree of a hybrid layout, which crun refuses.
func ownMounts() {
	if os.Getenv("BENCH_MOUNTS") != "" {
		return
	}
	runtime.LockOSThread()
	must(unix.Unshare(unix.CLONE_NEWNS))
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	if _, err := os.Stat("/sys/fs/cgroup/unified"); err == nil {
		must(unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH))
	}
	must(unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), "BENCH_MOUNTS=1")))
}

func contestants(dir string, tree rootfs.Tree, image, bridge string) (all []contestant, closeAll func()) {
	command := []string{tree.Python, "-I", "-S", "-c", "pass"}
	container := func(id string) oci.Container {
		return oci.Container{
			ID: id, Rootfs: tree.Path, Args: command, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/workspace"},
			User: oci.User{UID: 65534, GID: 65534}, Limits: oci.Limits{Memory: 512 << 20, Pids: 128},
		}
	}
	launcher := libct.New(libct.Options{StateDir: filepath.Join(dir, "state")})
	unfiltered := libct.New(libct.Options{StateDir: filepath.Join(dir, "state-unfiltered"), Unfiltered: true})
	add := func(name string, run func(int) error) { all = append(all, contestant{name, run}) }
	add("python3 alone, no sandbox", func(int) error {
		c := exec.Command(command[0], command[1:]...)
		c.SysProcAttr = &unix.SysProcAttr{Chroot: tree.Path}
		c.Dir = "/"
		return c.Run()
	})
	start := func(l oci.Launcher, id string) error {
		exit, err := l.Run(context.Background(), container(id), oci.Streams{})
		if err == nil && exit.Code != 0 {
			err = fmt.Errorf("exit code %d", exit.Code)
		}
		return err
	}
	add("mcp-bridge (libcontainer)", func(i int) error {
		return start(launcher, fmt.Sprintf("bench-%d-%d", os.Getpid(), i))
	})
	add("the same without the system call filter", func(i int) error {
		return start(unfiltered, fmt.Sprintf("bench-unfiltered-%d-%d", os.Getpid(), i))
	})
	bundle := writeBundle(dir, container("bundle"))
	for _, name := range []string{"crun", "runc"} {
		if path, err := exec.LookPath(name); err == nil {
			add(name+" run", func(i int) error {
				return output(exec.Command(path, "--root", filepath.Join(dir, name), "run", "--bundle", bundle, fmt.Sprintf("bench-%s-%d-%d", name, os.Getpid(), i)))
			})
		}
	}
	if path, err := exec.LookPath("bwrap"); err == nil {
		add("bwrap (no cgroup limits)", func(int) error {
			args := []string{"--unshare-all", "--die-with-parent", "--ro-bind", tree.Path, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/workspace", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL", "--clearenv", "--chdir", "/workspace"}
			return output(exec.Command(path, append(args, command...)...))
		})
	}
	if path, err := exec.LookPath("podman"); err == nil {
		add("podman run --rootfs", func(int) error {
			args := []string{"--root", filepath.Join(dir, "podman"), "--runroot", filepath.Join(dir, "podman-run"), "--cgroup-manager", "cgroupfs", "run", "--rm", "--log-driver", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined", "--memory", "512m", "--pids-limit", "128", "--user", "65534:65534", "--tmpfs", "/workspace", "--rootfs", tree.Path}
			return output(exec.Command(path, append(args, command...)...))
		})
	}
	if path, err := filepath.Abs(bridge); err == nil && exists(path) {
		add("mcp-bridge run -c pass (whole process)", func(int) error {
			c := exec.Command(path, "run", "--image", image, "-c", "pass")
			c.Env = append(os.Environ(), "MCP_BRIDGE_CACHE_DIR="+filepath.Join(dir, "cache"), "MCP_BRIDGE_STATE_DIR="+filepath.Join(dir, "state2"), "MCP_BRIDGE_LOG_LEVEL=error")
			return output(c)
		})
		add("mcp-bridge, from its start to its answer to initialize", func(int) error {
			return initialize(exec.Command(path), dir)
		})
	}
	return all, func() { must(errors.Join(launcher.Close(), unfiltered.Close())) }
}

// initialize starts a server, waits for its first answer, and does not wait for its end.
func initialize(c *exec.Cmd, dir string) error {
	c.Env = append(os.Environ(), "MCP_BRIDGE_STATE_DIR="+filepath.Join(dir, "state3"))
	stdin, err := c.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	go func() { _ = c.Wait() }()
	defer stdin.Close()
	_, err = io.WriteString(stdin, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`+"\n")
	if err != nil {
		return err
	}
	_, err = bufio.NewReader(stdout).ReadString('\n')
	return err
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func output(c *exec.Cmd) error {
	c.Stdin = strings.NewReader("") // a pipe: crun 1.8 gives its stdin to the container's user, and /dev/null is everybody's
	if b, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, b)
	}
	return nil
}

// writeBundle writes the same specification for the runtimes that read one from a file. Only the cgroup path is made
// absolute: they would else put it where libcontainer does not.
func writeBundle(dir string, c oci.Container) string {
	spec, err := oci.Spec(c, oci.Host{
		UIDMap: []oci.IDMap{{Container: 0, Host: 500000, Size: 65536}}, GIDMap: []oci.IDMap{{Container: 0, Host: 500000, Size: 65536}},
		Limits: oci.ByCgroup, Cgroup: "/bench-",
	})
	must(err)
	spec.Version = "1.0.2"  // nothing in it is newer, and Debian 12's crun refuses what it does not know
	spec.Linux.Sysctl = nil // crun and runc 1.1 refuse user.*; that is one write less for them
	b, err := json.Marshal(spec)
	must(err)
	bundle := filepath.Join(dir, "bundle")
	must(os.Mkdir(bundle, 0o711))
	must(os.WriteFile(filepath.Join(bundle, "config.json"), b, 0o644))
	return bundle
}

func measure(all []contestant, rounds int) map[string][]float64 {
	times := make(map[string][]float64)
	for i := range rounds + 2 {
		for _, c := range all {
			start := time.Now()
			if err := c.run(i); err != nil {
				log.Fatalf("bench: %s: %v", c.name, err)
			}
			if i >= 2 { // the first two fill the caches
				times[c.name] = append(times[c.name], float64(time.Since(start).Microseconds())/1000)
			}
			// As in use: a start does not follow the end of another at once. It also lets the kernel's percpu
			// semaphores go cold, which the first write to cgroup.procs then pays for, in every contestant.
			<-time.After(40 * time.Millisecond)
		}
	}
	return times
}

func report(w io.Writer, tree rootfs.Tree, all []contestant, times map[string][]float64) {
	var u unix.Utsname
	_ = unix.Uname(&u)
	fmt.Fprintf(w, "Linux %s, %d CPUs, image %s, %d starts each, interleaved\n\n", unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), tree.Ref, len(times[all[0].name]))
	fmt.Fprintf(w, "| cold start to exit of `pass` | median ms | p90 ms | x crun |\n|---|---|---|---|\n")
	reference := median(times["crun run"])
	for _, c := range all {
		t := slices.Sorted(slices.Values(times[c.name]))
		ratio := "-"
		if reference > 0 {
			ratio = fmt.Sprintf("%.2f", median(t)/reference)
		}
		fmt.Fprintf(w, "| %s | %.1f | %.1f | %s |\n", c.name, median(t), t[len(t)*9/10], ratio)
	}
	for _, name := range []string{"crun", "runc", "bwrap", "podman"} {
		if b, err := exec.Command(name, "--version").Output(); err == nil {
			first, _, _ := strings.Cut(string(b), "\n")
			fmt.Fprintf(w, "\n%s", first)
		}
	}
	fmt.Fprintln(w)
}

func median(t []float64) float64 {
	if len(t) == 0 {
		return 0
	}
	t = slices.Sorted(slices.Values(t))
	return t[len(t)/2]
}
