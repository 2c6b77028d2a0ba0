// Command bench measures what it takes from an image in a registry to the first output of a Python in it, with nothing
// cached: by mcp-bridge, by podman, and by skopeo, umoci and crun one after the other. The registry is Debian's
// docker-registry on loopback. Each pull goes to a directory of its own, because a file system on which a tree has just
// been removed is slower. Everything else is measured by `mcp-bridge bench`.
//
//	bin/bench [-rounds N] [-bridge PROGRAM]
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/bench"
)

// code is what is run; its output is waited for.
const code, output1 = "print(1)", "1\n"

// A sample is one go of a contestant.
type sample struct {
	took  time.Duration
	first time.Duration // to the first output
	rss   int64         // KiB, the most of any one process
}

type imageBench struct {
	dir, registry, bridge string
	n                     int // of directories
}

func main() {
	rounds := flag.Int("rounds", 7, "pulls of each contestant")
	bridge := flag.String("bridge", "bin/mcp-bridge", "the program")
	flag.Parse()
	log.SetFlags(0)
	if os.Geteuid() != 0 {
		log.Fatal("bench: needs root")
	}
	_, err := bench.Isolate()
	must(err)
	benchImages(*rounds, *bridge)
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func benchImages(rounds int, bridge string) {
	images := map[string]string{"python 3.13, 42 MB": ".cache/sources-image", "numpy, pandas, matplotlib": ".cache/packages-image"}
	dir, err := os.MkdirTemp("/var/tmp", "mcp-bridge-bench-images-")
	must(err)
	must(os.Chmod(dir, 0o711))
	defer os.RemoveAll(dir)
	program, err := filepath.Abs(bridge)
	must(err)
	b := &imageBench{dir: dir, bridge: program}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	must(b.serve(ctx))

	fmt.Printf("%s, %d CPUs; nothing cached, a registry on loopback, %d pulls each, interleaved\n\n", kernel(), runtime.NumCPU(), rounds)
	fmt.Println("| image | compression | | median s | x podman | peak MB of a process |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if _, err := os.Stat(images[name]); err != nil {
			log.Printf("left out: %v (hack/setup bench makes it)", err)
			continue
		}
		for _, compression := range []string{"gzip", "zstd"} {
			ref, err := b.push(images[name], compression)
			must(err)
			b.report(name, compression, b.measure(ref, pullers[compression], rounds))
		}
	}
	fmt.Println()
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if _, err := os.Stat(images[name]); err == nil {
			b.layouts(name, images[name], rounds)
			b.compiled(name, images[name], rounds)
		}
	}
}

// pullers, in the order of the table. Debian's umoci does not read zstd.
var pullers = map[string][]string{
	"gzip": {"mcp-bridge", "podman", "skopeo, umoci, crun"},
	"zstd": {"mcp-bridge", "podman"},
}

func (b *imageBench) measure(ref string, pullers []string, rounds int) map[string][]sample {
	samples := make(map[string][]sample)
	for range rounds {
		for _, c := range pullers {
			syscall.Sync() // what the one before has to write is not to be written at this one's expense
			var s sample
			var err error
			switch c {
			case "mcp-bridge":
				s, err = b.ours("docker://" + ref)
			case "podman":
				s, err = b.podman(ref)
			default:
				s, err = b.tools(ref)
			}
			if err != nil {
				log.Fatalf("%s, %s: %v", c, ref, err)
			}
			samples[c] = append(samples[c], s)
		}
	}
	return samples
}

func (b *imageBench) report(name, compression string, samples map[string][]sample) {
	base := medianOf(samples["podman"])
	for _, c := range pullers[compression] {
		m := medianOf(samples[c])
		peak := slices.MaxFunc(samples[c], func(x, y sample) int { return int(x.rss - y.rss) }).rss >> 10
		fmt.Printf("| %s | %s | %s | %.2f | %.2f | %d |\n", name, compression, c, m.Seconds(), m.Seconds()/base.Seconds(), peak)
	}
}

func medianOf(s []sample) time.Duration {
	d := make([]time.Duration, len(s))
	for i := range s {
		d[i] = s[i].took
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// ours is one program: it pulls, unpacks and runs.
func (b *imageBench) ours(ref string) (sample, error) {
	return b.run(b.ourEnv(b.fresh()), output1, b.bridge, "run", "--image", ref, "-c", code)
}

func (b *imageBench) ourEnv(cache string) []string {
	return append(os.Environ(), "MCP_BRIDGE_CACHE_DIR="+cache, "MCP_BRIDGE_STATE_DIR="+b.dir+"/state", "MCP_BRIDGE_MAX_TIMEOUT=300")
}

func (b *imageBench) podman(ref string) (sample, error) {
	d := b.fresh()
	args := []string{"--root", d + "/root", "--runroot", d + "/run", "--log-level", "error", "--cgroup-manager", "cgroupfs"}
	defer exec.Command("podman", append(args, "rmi", "--all", "--force")...).Run() // unmounts its own mount
	return b.run(os.Environ(), output1, "podman", append(args, "run", "--rm", "--tls-verify=false", "--network", "none", "--log-driver", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--pull", "always", ref, "/usr/bin/python3", "-c", code)...)
}

// tools is what one would do by hand, without a daemon.
func (b *imageBench) tools(ref string) (sample, error) {
	d := b.fresh()
	var total sample
	for _, argv := range [][]string{
		{"skopeo", "copy", "--quiet", "--src-tls-verify=false", "docker://" + ref, "oci:" + d + "/layout:x"},
		{"umoci", "unpack", "--image", d + "/layout:x", d + "/bundle"},
		{"python3", "-c", `import json, sys
f = sys.argv[1] + "/config.json"
c = json.load(open(f))
c["process"].update(terminal=False, args=["/usr/bin/python3", "-c", sys.argv[2]], rlimits=[])
json.dump(c, open(f, "w"))`, d + "/bundle", code},
		{"crun", "run", "--bundle", d + "/bundle", fmt.Sprintf("bench-images-%d-%d", os.Getpid(), b.n)},
	} {
		want := ""
		if argv[0] == "crun" {
			want = output1
		}
		s, err := b.run(os.Environ(), want, argv[0], argv[1:]...)
		if err != nil {
			return total, err
		}
		total.took += s.took
		total.rss = max(total.rss, s.rss)
	}
	return total, nil
}

// layouts is about an OCI layout, as somebody has one in the cache of a CI system: to the first output, and then once more.
// There are two: one as it was in the registry, and one that is not compressed.
func (b *imageBench) layouts(name, image string, rounds int) {
	kinds := []string{"zstd", "not compressed"}
	dirs := []string{filepath.Join(b.fresh(), "layout"), filepath.Join(b.fresh(), "layout")}
	plain := "dir:" + b.fresh()
	for _, args := range [][]string{
		{"--src-tls-verify=false", "docker://" + b.ref(image, "zstd"), "oci:" + dirs[0]},
		{"--dest-decompress", "oci:" + dirs[0], plain},
		{"--dest-oci-accept-uncompressed-layers", plain, "oci:" + dirs[1]},
	} {
		_, err := b.run(os.Environ(), "", "skopeo", append([]string{"copy", "--quiet"}, args...)...)
		must(err)
	}
	cold, again := make([][]sample, len(kinds)), make([][]sample, len(kinds))
	for range rounds {
		for i, dir := range dirs {
			env := b.ourEnv(b.fresh())
			syscall.Sync()
			for _, to := range []*[]sample{&cold[i], &again[i]} {
				s, err := b.run(env, output1, b.bridge, "run", "--image", "oci:"+dir, "-c", code)
				must(err)
				s.took = s.first
				*to = append(*to, s)
			}
		}
	}
	for i, kind := range kinds {
		fmt.Printf("%s: an OCI layout, %s, to the first output %.0f ms; again, cached, %.0f ms.\n", name, kind,
			medianOf(cold[i]).Seconds()*1e3, medianOf(again[i]).Seconds()*1e3)
	}
}

// compiled compares `pass` in an image whose modules are compiled with `pass` in a copy of this host's own Python, which is
// launched in the same way.
func (b *imageBench) compiled(name, layout string, rounds int) {
	layout, err := filepath.Abs(layout)
	must(err)
	env := b.ourEnv(b.fresh())
	refs := []string{"oci:" + layout, "host"}
	samples := make([][]sample, len(refs))
	_, err = b.run(env, "", b.bridge, "pull", refs[0])
	must(err)
	for round := range 2 + 5*rounds {
		for i, ref := range refs {
			s, err := b.run(env, "", b.bridge, "run", "--image", ref, "-c", "pass")
			must(err)
			if round >= 2 { // before, the runner is compiled
				samples[i] = append(samples[i], s)
			}
		}
	}
	image, host := medianOf(samples[0]).Seconds()*1e3, medianOf(samples[1]).Seconds()*1e3
	fmt.Printf("%s: pass in it, pulled and compiled, %.1f ms; in a copy of this host's Python %.1f ms: %.2f x.\n", name, image, host, image/host)
}

func (b *imageBench) fresh() string {
	b.n++
	d := filepath.Join(b.dir, fmt.Sprintf("%d", b.n))
	must(os.Mkdir(d, 0o711))
	must(os.Chmod(d, 0o711))
	return d
}

// run takes the time of a program, which has to print want if that is not empty.
func (b *imageBench) run(env []string, want, name string, args ...string) (sample, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = env
	pipe, err := cmd.StdinPipe() // crun changes the owner of its standard input: never /dev/null
	if err != nil {
		return sample{}, err
	}
	defer pipe.Close()
	var stdout stamped
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err = cmd.Run()
	s := sample{took: time.Since(began), first: stdout.first.Sub(began)}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.rss = u.Maxrss
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w\n%s", name, err, stderr.Bytes())
	}
	if want != "" && stdout.buf.String() != want {
		return s, fmt.Errorf("%s printed %q", name, stdout.buf.String())
	}
	return s, nil
}

// A stamped buffer knows when the first byte came.
type stamped struct {
	buf   bytes.Buffer // not embedded: its ReadFrom would be called instead
	first time.Time
}

func (b *stamped) Write(p []byte) (int, error) {
	if b.first.IsZero() {
		b.first = time.Now()
	}
	return b.buf.Write(p)
}

// serve starts the registry and waits until it listens.
func (b *imageBench) serve(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.registry = l.Addr().String()
	l.Close()
	config := filepath.Join(b.dir, "registry.yml")
	text := "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " + b.dir + "/registry}}\nhttp: {addr: " + b.registry + "}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "docker-registry", "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when a contestant fails
	if err := cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", b.registry)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return errors.Join(errors.New("the registry does not listen"), err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// ref is what an image is pushed as.
func (b *imageBench) ref(image, compression string) string {
	return fmt.Sprintf("%s/%s:%s", b.registry, strings.TrimPrefix(filepath.Base(image), "."), compression)
}

func (b *imageBench) push(layout, compression string) (string, error) {
	ref := b.ref(layout, compression)
	// Compressed before it is pushed, and pushed as it is: skopeo would else find the layers of an earlier push, compressed
	// otherwise, and take those.
	level := map[string]string{"gzip": "6", "zstd": "3"}[compression]
	plain, packed := "dir:"+b.fresh(), "dir:"+b.fresh()
	for _, args := range [][]string{
		{"--dest-decompress", "oci:" + layout, plain},
		{"--dest-compress", "--dest-compress-format", compression, "--dest-compress-level", level, plain, packed},
		{"--preserve-digests", "--dest-tls-verify=false", packed, "docker://" + ref},
	} {
		if out, err := exec.Command("skopeo", append([]string{"copy", "--quiet"}, args...)...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("skopeo copy %s: %w: %s", args[len(args)-1], err, out)
		}
	}
	return ref, nil
}

func kernel() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + strings.TrimSpace(string(b))
}
