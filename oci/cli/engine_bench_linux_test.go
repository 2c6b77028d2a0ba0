package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/ocitest"
)

// BenchmarkPodman runs the same Python with the same options by podman alone and by an Engine, in turn, and has the ratios of
// the medians: to the answer, which is when all that was printed and how it has ended is known and nothing of the container
// runs any more, and to the return of Run, when podman has also removed what it kept of it.
func BenchmarkPodman(b *testing.B) {
	needs(b, "podman")
	e := newPodman(b, filepath.Join(b.TempDir(), "state"))
	defer e.Close()
	c := ocitest.Python("pass")
	c.ID = "first"
	if _, err := e.Run(b.Context(), c, oci.Streams{}); err != nil {
		b.Fatal(err)
	}
	var alone, answer, ours []time.Duration
	for i := 0; b.Loop(); i++ {
		began := time.Now()
		c.ID = fmt.Sprintf("alone-%d", i)
		p := enginePlan{
			kind: Podman, system: "linux", owner: e.state.Name(), limits: oci.ByCgroup, root: os.Geteuid() == 0, profile: e.state.profile(),
			hardLimits: host.HardLimits(), runtime: hybridRuntime(),
		}
		args, err := p.args(c)
		if err != nil {
			b.Fatal(err)
		}
		args = append(args[:slices.Index(args, "--rootfs")+2], c.Args...)
		if out, err := exec.Command("podman", args...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		alone = append(alone, time.Since(began))

		r, w, err := os.Pipe()
		if err != nil {
			b.Fatal(err)
		}
		drained := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, r); close(drained) }()
		began = time.Now()
		c.ID = fmt.Sprintf("ours-%d", i)
		exited := func(oci.Exit) { answer = append(answer, time.Since(began)) }
		if exit, err := e.Run(b.Context(), c, oci.Streams{Stdout: w, Stderr: w, Exited: exited}); err != nil || exit.Code != 0 {
			b.Fatalf("%+v, %v", exit, err)
		}
		ours = append(ours, time.Since(began))
		w.Close()
		<-drained
		r.Close()
	}
	median := func(list []time.Duration) float64 {
		slices.Sort(list)
		return float64(list[len(list)/2]) / float64(time.Millisecond)
	}
	b.ReportMetric(median(alone), "alone-ms")
	b.ReportMetric(median(answer), "answer-ms")
	b.ReportMetric(median(ours), "ours-ms")
	b.ReportMetric(median(answer)/median(alone), "answer/alone")
	b.ReportMetric(median(ours)/median(alone), "ours/alone")
}

// BenchmarkPodmanWaiting is what podman adds to a warm call: from a word to a Python that waits in a container to the answer.
func BenchmarkPodmanWaiting(b *testing.B) {
	needs(b, "podman")
	e := newPodman(b, filepath.Join(b.TempDir(), "state"))
	defer e.Close()
	waiting(b, e)
}

// BenchmarkDockerWaiting is the same of docker.
func BenchmarkDockerWaiting(b *testing.B) {
	l := engineOf(b, filepath.Join(b.TempDir(), "state"), serveDocker(b))
	defer l.Close()
	waiting(b, l)
}

func waiting(b *testing.B, l oci.Launcher) {
	b.Helper()
	c := ocitest.Python("print('ready', flush=True)\ninput()\nprint(1)")
	var took time.Duration
	for i := 0; b.Loop(); i++ {
		c.ID = fmt.Sprintf("waiting-%d", i)
		var files []*os.File
		for range 2 {
			r, w, err := os.Pipe()
			if err != nil {
				b.Fatal(err)
			}
			files = append(files, r, w)
		}
		in, word, out, printed := files[0], files[1], files[2], files[3]
		ended := make(chan error, 1)
		go func() {
			_, err := l.Run(b.Context(), c, oci.Streams{Stdin: in, Stdout: printed, Exited: func(oci.Exit) { printed.Close() }})
			ended <- err
		}()
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		fmt.Fprintln(word)
		rest, err := io.ReadAll(out)
		took += time.Since(began)
		if err := errors.Join(err, <-ended); err != nil || string(rest) != "1\n" {
			b.Fatalf("%q, %v", rest, err)
		}
		for _, f := range []*os.File{in, word, out} {
			f.Close()
		}
	}
	b.ReportMetric(float64(took)/float64(b.N)/float64(time.Millisecond), "answer-ms")
}
