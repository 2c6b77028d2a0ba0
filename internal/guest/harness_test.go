package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// pythons finds the interpreters to test with: those of GUEST_TEST_PYTHONS (separated by colons), else python3 of the
// PATH, of the system, of pyenv and of hack/pythons. The key is the version, without what only mends it.
var pythons = sync.OnceValue(func() map[string]string {
	found := map[string]string{}
	candidates := filepath.SplitList(os.Getenv("GUEST_TEST_PYTHONS"))
	if len(candidates) == 0 {
		if p, err := exec.LookPath("python3"); err == nil {
			candidates = append(candidates, p)
		}
		candidates = append(candidates, "/usr/bin/python3")
		home, _ := os.UserHomeDir()
		more, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions/*/bin/python3"))
		newer, _ := filepath.Glob("../../.cache/pythons/*/tree/usr/bin/python3")
		candidates = slices.Concat(candidates, more, newer)
	}
	for _, p := range candidates {
		out, err := exec.Command(p, "-I", "-S", "-c",
			"import sys; print(sys.version_info >= (3, 9), '%d.%d' % sys.version_info[:2], sys.executable)").Output()
		// The executable, because what the PATH has may be a shim that is a shell script.
		if f := strings.Fields(string(out)); err == nil && f[0] == "True" && found[f[1]] == "" {
			found[f[1]] = f[2]
		}
	}
	return found
})

// newest is the minor version of the newest Python that the runner is made for, which CI has from hack/pythons.
const newest = 15

// eachPython runs a test under every interpreter of the machine; with -short, under the oldest and the newest.
func eachPython(t *testing.T, test func(t *testing.T, python string)) {
	if len(pythons()) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("no Python 3.9 or later found")
		}
		t.Skip("no Python 3.9 or later found")
	}
	if os.Getenv("CI") == "true" && os.Getuid() == 0 && minor(versions()[len(pythons())-1]) < newest {
		t.Fatalf("no Python 3.%d found (hack/setup test)", newest)
	}
	for _, version := range versions() {
		python := pythons()[version]
		if testing.Short() && between(python) {
			continue
		}
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			test(t, python)
		})
	}
}

// versions are those of the interpreters, oldest first.
func versions() []string {
	return slices.SortedFunc(maps.Keys(pythons()), func(a, b string) int { return minor(a) - minor(b) })
}

// notes says that an interpreter prints the notes of an error, as those from 3.11 on do.
func notes(python string) bool {
	return slices.ContainsFunc(versions(), func(v string) bool { return pythons()[v] == python && minor(v) >= 11 })
}

// between says that an interpreter is neither the oldest nor the newest.
func between(python string) bool {
	all := versions()
	return python != pythons()[all[0]] && python != pythons()[all[len(all)-1]]
}

// eachRunner is eachPython with a runner that waits for its script, and with one that has been warmed. No script may
// tell the two apart. An interpreter between the oldest and the newest has one of the two.
func eachRunner(t *testing.T, test func(t *testing.T, start starter)) {
	eachPython(t, func(t *testing.T, python string) {
		for _, warm := range []bool{false, true} {
			// Between the oldest and the newest they take turns, because these tests are the longest of all.
			if between(python) && warm != (turn(python)%2 == 0) {
				continue
			}
			t.Run(map[bool]string{false: "cold", true: "warm"}[warm], func(t *testing.T) {
				test(t, func(t testing.TB, dir string) *process {
					p := launch(t, python, dir, compileRunner(t, python))
					p.ready(t)
					if warm {
						p.warm(t)
					}
					return p
				})
			})
		}
	})
}

// turn is the interpreter's number, by age.
func turn(python string) int {
	return slices.IndexFunc(versions(), func(v string) bool { return pythons()[v] == python })
}

// passesOver says that an interpreter leaves out the script with number i of a long list: the oldest and the newest have all of
// them, and those between share them.
func passesOver(python string, i int) bool {
	return between(python) && (i+turn(python))%(len(pythons())-2) != 0
}

// A starter starts a runner in a directory.
type starter func(t testing.TB, dir string) *process

func (s starter) runScript(t testing.TB, code string) outcome {
	t.Helper()
	return s(t, t.TempDir()).run(t, Run{Code: code}, noTools)
}

// writeModule puts a module into a directory.
func writeModule(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name+".py"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func noTools(Call) Return { return Return{Error: &Error{Message: "no tools here"}} }

// minor returns the 11 of 3.11.
func minor(version string) int {
	n, _ := strconv.Atoi(strings.Split(version, ".")[1])
	return n
}

// A process is a runner without a sandbox around it.
type process struct {
	cmd            *exec.Cmd
	reader         *Reader
	writer         *Writer
	in, out        *os.File // the host's ends of descriptors 3 and 4
	stdout, stderr bytes.Buffer
	ended          chan struct{}
	holds          bool // its input is left open when it waits for the end of that
}

func launch(t testing.TB, python, dir string, compiled []byte) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{in: inW, out: outR, reader: NewReader(outR), writer: NewWriter(inW), ended: make(chan struct{})}
	args := Args(python)
	p.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	p.cmd.Dir = dir
	p.cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "TMPDIR=" + t.TempDir()}
	p.cmd.ExtraFiles = []*os.File{inR, outW}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inR.Close()
	outW.Close()
	t.Cleanup(func() { inW.Close(); outR.Close() })
	if err := Boot(p.in, compiled); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) ready(t testing.TB) Ready {
	t.Helper()
	m, err := p.reader.Read()
	if _, stale := m.(Stale); stale {
		if err = Boot(p.in, nil); err == nil {
			m, err = p.reader.Read()
		}
	}
	if err != nil {
		p.cmd.Wait()
		t.Fatalf("no ready: %v\n%s", err, p.stderr.String())
	}
	r, ok := m.(Ready)
	if !ok {
		t.Fatalf("got %#v instead of ready", m)
	}
	return r
}

// compiled has what Pythons have made of the runner, by path.
var compiled sync.Map

// compileRunner returns all of the runner, which takes two boots, once.
func compileRunner(t testing.TB, python string) (code []byte) {
	t.Helper()
	if code, ok := compiled.Load(python); ok {
		return code.([]byte)
	}
	for range 2 {
		p := launch(t, python, t.TempDir(), code)
		code = p.ready(t).Compiled
		p.run(t, Run{}, nil)
	}
	compiled.Store(python, code)
	return code
}

func (p *process) warm(t testing.TB) {
	t.Helper()
	p.warmWith(t, Warming{Modules: []string{"json", "asyncio", Library}})
}

func (p *process) warmWith(t testing.TB, w Warming) {
	t.Helper()
	p.reader.Warming()
	if err := p.writer.Warm(w); err != nil {
		t.Fatal(err)
	}
	if m, err := p.reader.Read(); err != nil || !reflect.DeepEqual(m, Warm{}) {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		t.Fatalf("got %#v, %v instead of warm\n%s", m, err, p.stderr.String())
	}
}

// An outcome is what a host sees of a run.
type outcome struct {
	stdout, stderr string
	code           int
	done           *Done
	waits          bool  // as done said
	err            error // of the reader, if not io.EOF
}

// run sends the script and serves its calls, concurrently, until the process ends.
func (p *process) run(t testing.TB, r Run, tool func(Call) Return) outcome {
	t.Helper()
	p.reader.Running()
	if err := p.writer.Run(r); err != nil {
		t.Fatal(err)
	}
	var o outcome
	var calls sync.WaitGroup
	began := false
	for {
		m, err := p.reader.Read()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				o.err = err
				p.cmd.Process.Kill()
			}
			break
		}
		switch m := m.(type) {
		case Running:
			began = true
		case Call:
			calls.Go(func() {
				answer := tool(m)
				answer.ID = m.ID
				if err := p.writer.Return(answer); err != nil {
					p.writer.Return(Return{ID: m.ID, Error: &Error{Message: err.Error()}})
				}
			})
		case Done:
			if m.Waits && !p.holds {
				p.in.Close()
			}
			o.waits, m.Waits = m.Waits, false
			o.done = &m
		}
	}
	err := p.cmd.Wait()
	close(p.ended)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Errorf("wait: %v", err)
	}
	calls.Wait()
	if !began && o.err == nil {
		t.Error("the script was not acknowledged")
	}
	o.stdout, o.stderr, o.code = p.stdout.String(), p.stderr.String(), p.cmd.ProcessState.ExitCode()
	return o
}

func runScript(t testing.TB, python, code string) outcome {
	t.Helper()
	p := launch(t, python, t.TempDir(), nil)
	p.ready(t)
	return p.run(t, Run{Code: code}, noTools)
}

func (o outcome) String() string {
	s := fmt.Sprintf("exit code %d, reader %v\nstdout:\n%s\nstderr:\n%s\n", o.code, o.err, o.stdout, o.stderr)
	if o.done != nil {
		s += fmt.Sprintf("done: result %s truncated %v error %+v\n", o.done.Result, o.done.Truncated, o.done.Error)
	}
	return s
}
