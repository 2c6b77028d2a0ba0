package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// gap is between two turns: in use a start does not follow the end of another at once either. It also lets the kernel's
// percpu semaphores go cold, which the first write to cgroup.procs then pays for, in every contestant.
const gap = 40 * time.Millisecond

// warmUp is how many turns fill the caches and are not counted: as many as are counted, but two at most.
func (b *bench) warmUp() int { return min(2, b.Rounds) }

// runTimeout is when something that takes milliseconds is taken to hang.
const runTimeout = 60 * time.Second

// bench is one measuring.
type bench struct {
	Options
	count           atomic.Int64  // makes names that have not been used
	filter, profile string        // files with the system call filter, as BPF and as JSON
	roots           []runtimeRoot // of the runtimes that have been used
	staying         map[int]bool  // what podman has left behind and does not end
	helpers         map[int]bool  // of launchers, which see to them
}

// Run measures. Whatever it has started is gone when it returns, also if ctx is cancelled meanwhile. It makes this
// process a subreaper (PR_SET_CHILD_SUBREAPER): what podman leaves behind is waited for, and its CPU time counted.
func Run(ctx context.Context, o Options) (_ Report, err error) {
	machine := thisMachine()
	if o.Older != nil && o.Older.Machine.Fingerprint() != machine.Fingerprint() {
		return Report{}, &MachineError{o.Older.Machine, machine} // before minutes have been spent
	}
	b := &bench{Options: o, staying: make(map[int]bool), helpers: make(map[int]bool)}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return Report{}, fmt.Errorf("cannot become a subreaper: %v", err)
	}
	if err := b.writeFilters(); err != nil {
		return Report{}, fmt.Errorf("cannot write the system call filter: %v", err)
	}
	defer func() { err = errors.Join(err, b.cleanUp(context.WithoutCancel(ctx))) }()
	r := Report{Machine: machine, Date: time.Now(), Load: load(), Commit: o.Commit, Image: o.Image, Versions: b.versions(ctx)}
	b.tryLaunchers(ctx)
	for _, m := range []struct {
		names   []section
		measure func(context.Context) ([]Section, error)
	}{
		{[]section{cold}, b.measureCold},
		{[]section{process}, b.measureProcess},
		{[]section{call, callTool, callImport}, b.measureCalls},
		{[]section{callMany}, b.measureMany},
		{[]section{throughput}, b.measureThroughput},
		{[]section{burst}, b.measureBurst},
		{[]section{idle}, b.measureIdle},
	} {
		if !slices.ContainsFunc(m.names, b.wanted) {
			continue
		}
		done, err := m.measure(ctx)
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		if err != nil {
			return r, fmt.Errorf("cannot measure %s: %w", m.names[0].name, err)
		}
		r.Sections = append(r.Sections, done...)
	}
	return r, nil
}

// tryLaunchers lets each make its first run, and notes which have no cgroup to enforce their limits. One that does not
// work is left out later.
func (b *bench) tryLaunchers(ctx context.Context) {
	b.Launchers = slices.Clone(b.Launchers)
	for i := range b.Launchers {
		l := &b.Launchers[i]
		exit, err := l.Launcher.Run(ctx, b.container([]string{b.Python, "-I", "-S", "-c", "pass"}), oci.Streams{})
		if err == nil && exit.Limits != oci.ByCgroup {
			l.Note = notes(l.Note, "limits by "+string(exit.Limits))
		}
	}
	for _, p := range b.orphans() {
		b.helpers[p.pid] = true
	}
}

func (b *bench) wanted(s section) bool { return len(b.Only) == 0 || slices.Contains(b.Only, s.name) }

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.Progress, "bench: "+format+"\n", args...)
}

// versions are those of the contestants that are here.
func (b *bench) versions(ctx context.Context) []Version {
	list := []Version{{ours, b.Version}}
	add := func(name string, cmd *exec.Cmd) {
		cmd.Env = b.environ()
		if out, err := cmd.Output(); err == nil {
			line, _, _ := strings.Cut(string(out), "\n")
			for _, prefix := range []string{name, "version", "Python"} {
				line = strings.TrimSpace(strings.TrimPrefix(line, prefix))
			}
			list = append(list, Version{name, line})
		}
	}
	add("python", b.bare([]string{b.Python, "-V"}))
	for _, name := range []string{"crun", "runc", "podman"} {
		add(name, exec.CommandContext(ctx, name, "--version"))
	}
	add("bubblewrap", exec.CommandContext(ctx, "bwrap", "--version"))
	return list
}

// trial lets each contestant do its thing once; those that cannot are left out, with the reason.
func (b *bench) trial(ctx context.Context, all []contestant) (works []contestant, left []Left) {
	for _, c := range all {
		err := c.run(ctx, 0)
		if err == nil && c.after != nil {
			err = c.after()
		}
		if err != nil {
			left = append(left, b.leave(c.name, err))
			continue
		}
		works = append(works, c)
	}
	return works, left
}

// leave is for the reader of a table: the last line of an error says most.
func (b *bench) leave(name string, err error) Left {
	const most = 240
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(err.Error(), b.Dir, "DIR")), "\n")
	reason := strings.ToValidUTF8(lines[len(lines)-1], "?")
	if len(reason) > most {
		reason = "..." + strings.ToValidUTF8(reason[len(reason)-most:], "")
	}
	b.say("left out: %s: %s", name, reason)
	return Left{name, reason}
}

// turns lets contestants take turns, in another order each round, so that none always follows the same one. One that fails ends the measuring: it has worked before.
func (b *bench) turns(ctx context.Context, s Section, contestants func() ([]contestant, error)) ([]Section, error) {
	all, err := contestants()
	if err != nil {
		return nil, err
	}
	works, left := b.trial(ctx, all)
	s.LeftOut = append(s.LeftOut, left...)
	b.say("%s: %d rounds of %d contestants", s.Name, b.Rounds, len(works))
	for _, c := range works {
		s.Rows = append(s.Rows, Row{Name: c.name, Note: c.note})
	}
	for i := range b.Rounds + b.warmUp() {
		for _, n := range rand.Perm(len(works)) {
			c := works[n]
			cpu, began := cpuTime(), time.Now()
			err := c.run(ctx, 0)
			took := time.Since(began)
			if err == nil && c.after != nil {
				err = c.after()
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if i >= b.warmUp() {
				s.Rows[n].Samples = append(s.Rows[n].Samples, millis(took))
				if !c.uncounted {
					s.Rows[n].CPU += millis(cpuTime()-cpu) / float64(b.Rounds)
				}
			}
			if err := pause(ctx, gap); err != nil {
				return nil, err
			}
		}
	}
	return []Section{s}, nil
}

func (b *bench) measureCold(ctx context.Context) ([]Section, error) {
	s := cold.empty(fmt.Sprintf("From the launch of a container that runs `python3 -I -S -c pass` until it is gone. %d starts each, in turns, %v apart.", b.Rounds, gap), bareName, crunName)
	return b.turns(ctx, s, b.coldContestants)
}

func (b *bench) measureProcess(ctx context.Context) ([]Section, error) {
	s := process.empty(fmt.Sprintf("From the start of the program until it has printed 1 and ended. %d starts each, in turns, %v apart.", b.Rounds, gap), crunName)
	return b.turns(ctx, s, b.processContestants)
}

// measureThroughput lets contestants take turns at a number of runs, several at once.
func (b *bench) measureThroughput(ctx context.Context) ([]Section, error) {
	runs, batches := min(40, 2*b.Rounds), max(1, b.Rounds/20)
	s := throughput.empty(fmt.Sprintf("`python3 -I -S -c pass` in a new container each time, %d at once: %d times %d runs each, in turns.", workers(), batches, runs), bareName, crunName)
	all, err := b.coldContestants()
	if err != nil {
		return nil, err
	}
	works, left := b.trial(ctx, all)
	s.LeftOut = left
	b.say("%s: %d rounds of %d contestants", s.Name, batches, len(works))
	for _, c := range works {
		s.Rows = append(s.Rows, Row{Name: c.name, Note: c.note})
	}
	for range batches {
		for _, n := range rand.Perm(len(works)) {
			c := works[n]
			cpu, began := cpuTime(), time.Now()
			err := many(ctx, runs, workers(), c.run)
			took := time.Since(began)
			if err == nil && c.after != nil {
				err = c.after()
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			s.Rows[n].Samples = append(s.Rows[n].Samples, float64(runs)/took.Seconds())
			s.Rows[n].CPU += millis(cpuTime()-cpu) / float64(batches*runs)
			if err := pause(ctx, gap); err != nil {
				return nil, err
			}
		}
	}
	return []Section{s}, nil
}

// many makes n runs by several workers, and stops at the first error.
func many(ctx context.Context, n, workers int, run func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range todo {
				if ctx.Err() != nil {
					return
				}
				if err := run(ctx, w); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// cleanUp removes what a run that failed or was cut short may have left.
func (b *bench) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	for _, r := range b.roots {
		entries, err := os.ReadDir(r.dir)
		if err != nil {
			continue // it has not been used
		}
		for _, e := range entries {
			_ = exec.CommandContext(ctx, r.program, "--root", r.dir, "delete", "--force", e.Name()).Run() // or it is gone already
		}
	}
	if _, err := os.Stat(filepath.Join(b.Dir, "podman")); err == nil {
		argv := b.podman("rm", "--all", "--force", "--time", "0")
		_ = exec.CommandContext(ctx, argv[0], argv[1:]...).Run() // or there are none
	}
	b.daemons(true)
	if left := b.orphans(); len(left) > 0 {
		return fmt.Errorf("processes are left: %v", left)
	}
	return nil
}

// pause waits between two turns.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
