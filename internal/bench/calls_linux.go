package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// refillGap is between two calls to the MCP servers: long enough for a pool to make the next sandbox ready.
const refillGap = 150 * time.Millisecond

// imports is a script whose modules take longer to import than all else in it.
const imports = "import csv, datetime, json, re, statistics; print(1)"

// simultaneous is how many calls a burst has.
const simultaneous = 100

// An mcpServer is a contestant that is called.
type mcpServer struct {
	name, note string
	command    func() *exec.Cmd
	*client
}

// callServers are those that are measured over MCP.
func (b *bench) callServers(original bool, otherTools int) ([]*mcpServer, error) {
	file := filepath.Join(b.Dir, fmt.Sprintf("servers-%d.json", otherTools))
	err := os.WriteFile(file, raw(map[string]any{"mcpServers": map[string]any{
		"bench": map[string]any{"command": b.Program, "args": []string{"bench-server", "echo", strconv.Itoa(otherTools)}},
	}}), 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot write the configuration of the MCP server: %v", err)
	}
	servers := config.EnvServersConfig + "=" + file
	var all []*mcpServer
	for _, l := range b.programs() {
		all = append(
			all,
			&mcpServer{name: ours + ", " + l.Name, note: notes("as configured by default", l.Note), command: func() *exec.Cmd { return b.server(l, servers) }},
			&mcpServer{name: ours + ", " + l.Name + ", no pool", note: notes(config.EnvPool+"=0", l.Note), command: func() *exec.Cmd { return b.server(l, servers, config.EnvPool+"=0") }},
		)
	}
	if original {
		all = append(all, &mcpServer{name: originalName, note: "a podman run for each call, with its flags and podman's own filter, on the same tree; Go where it is Python", command: func() *exec.Cmd {
			o := Original{Podman: b.podman(), Tree: b.Tree, Python: b.Python, Dir: b.Dir, Server: []string{b.Program, "bench-server", "echo", "0"}}
			cmd := exec.Command(b.Program, "bench-server", "original", string(raw(o))) // ended by client.close
			cmd.Env = b.environ()
			return cmd
		}})
	}
	return all, nil
}

// connectAll starts servers, and leaves out those that cannot do what they are to be asked.
func (b *bench) connectAll(ctx context.Context, all []*mcpServer, ask ...json.RawMessage) (works []*mcpServer, left []Left, end func() error) {
	for _, s := range all {
		var err error
		if s.client, err = connect(ctx, s.command()); err == nil {
			for _, a := range ask {
				if err == nil {
					_, err = s.runPython(ctx, a)
				}
			}
			if err != nil {
				err = errors.Join(s.close(), err)
			}
		}
		if err != nil {
			left = append(left, b.leave(s.name, err))
			continue
		}
		works = append(works, s)
	}
	return works, left, func() (err error) {
		for _, s := range works {
			err = errors.Join(err, s.close())
		}
		b.daemons(false)
		return err
	}
}

func (b *bench) measureCalls(ctx context.Context) (done []Section, err error) {
	all, err := b.callServers(true, 0)
	if err != nil {
		return nil, err
	}
	one, tool := arguments("print(1)"), arguments("print(await mcp_bench.echo(text='1'))", "bench")
	works, left, end := b.connectAll(ctx, all, one, tool)
	defer func() { err = errors.Join(err, end()) }()
	for _, m := range []struct {
		section
		what string
		ask  json.RawMessage
	}{
		{call, "`print(1)`", one},
		{callTool, "`print(await mcp_bench.echo(text='1'))`, the tool of an MCP server that answers at once", tool},
		{callImport, "`" + imports + "`, whose modules a sandbox of the pool has loaded, because the calls before used them", arguments(imports)},
	} {
		if !b.wanted(m.section) {
			continue
		}
		s := m.empty(fmt.Sprintf("From the line that a client writes to the server's standard input to the line that it reads: %s. %d calls each, in turns, %v apart, so that a pool can refill. CPU: of the server and its sandboxes.", m.what, b.Rounds, refillGap), originalName)
		s.LeftOut = left
		if err := b.callInTurns(ctx, &s, works, m.ask); err != nil {
			return nil, err
		}
		done = append(done, s)
	}
	return done, nil
}

// manyTools is how many tools a large server lists beside the one that is called, as GitHub's does.
const manyTools = 90

func (b *bench) measureMany(ctx context.Context) (_ []Section, err error) {
	all, err := b.callServers(false, manyTools)
	if err != nil {
		return nil, err
	}
	const code = "print(await mcp_bench.echo(text='1'))"
	works, left, end := b.connectAll(ctx, all, arguments(code))
	defer func() { err = errors.Join(err, end()) }()
	s := callMany.empty(fmt.Sprintf("As above: `%s`, whose server lists %d more tools with 8 arguments each; `servers` does not name it.", code, manyTools))
	s.LeftOut = left
	if err := b.callInTurns(ctx, &s, works, arguments(code)); err != nil {
		return nil, err
	}
	return []Section{s}, nil
}

func (b *bench) callInTurns(ctx context.Context, s *Section, works []*mcpServer, ask json.RawMessage) error {
	b.say("%s: %d rounds of %d servers", s.Name, b.Rounds, len(works))
	for _, w := range works {
		s.Rows = append(s.Rows, Row{Name: w.name, Note: w.note})
	}
	used := make([]time.Duration, len(works))
	for i := range b.Rounds + b.warmUp() {
		if i == b.warmUp() {
			for n, w := range works {
				used[n] = b.serverTime(w)
			}
		}
		for _, n := range rand.Perm(len(works)) {
			w := works[n]
			within, cancel := context.WithTimeout(ctx, runTimeout)
			took, err := w.runPython(within, ask)
			cancel()
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			if i >= b.warmUp() {
				s.Rows[n].Samples = append(s.Rows[n].Samples, millis(took))
			}
			if err := pause(ctx, refillGap); err != nil {
				return err
			}
		}
	}
	for n, w := range works {
		s.Rows[n].CPU = millis(b.serverTime(w)-used[n]) / float64(b.Rounds)
	}
	return nil
}

// serverTime is what a server and what it has waited for have used. What podman leaves behind comes to us, and is
// counted to the one server that uses podman; while servers are called nothing else does.
func (b *bench) serverTime(s *mcpServer) time.Duration {
	p, err := readProc(s.cmd.Process.Pid)
	if err != nil {
		return 0
	}
	if s.name == originalName {
		b.daemons(false)
		self, err := readProc(os.Getpid())
		if err != nil {
			return 0
		}
		p.dead += self.dead
	}
	return p.cpu + p.dead
}

func (b *bench) measureBurst(ctx context.Context) (_ []Section, err error) {
	all, err := b.callServers(false, 0)
	if err != nil {
		return nil, err
	}
	ask := arguments("print(1)")
	works, left, end := b.connectAll(ctx, all, ask)
	defer func() { err = errors.Join(err, end()) }()
	times := max(1, b.Rounds/20)
	s := burst.empty(fmt.Sprintf("%d calls of run_python with `print(1)`, all written before the first answer is read, %d times, in turns. Nothing is dropped: what waits for a sandbox is counted with its wait.", simultaneous, times))
	s.LeftOut = left
	b.say("%s: %d rounds of %d servers", s.Name, times, len(works))
	for _, w := range works {
		s.Rows = append(s.Rows, Row{Name: w.name, Note: w.note})
	}
	for range times {
		for _, n := range rand.Perm(len(works)) {
			w := works[n]
			used := b.serverTime(w)
			took, errs := atOnce(ctx, w.client, ask)
			s.Rows[n].Samples = append(s.Rows[n].Samples, took...)
			s.Rows[n].Errors += errs
			if err := pause(ctx, 4*refillGap); err != nil {
				return nil, err
			}
			s.Rows[n].CPU += millis(b.serverTime(w)-used) / float64(times*simultaneous)
		}
	}
	return []Section{s}, nil
}

// atOnce makes simultaneous calls over one session.
func atOnce(ctx context.Context, c *client, ask json.RawMessage) (took []float64, errs int) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	start := make(chan struct{})
	for range simultaneous {
		wg.Go(func() {
			<-start
			d, err := c.runPython(ctx, ask)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs++
				return
			}
			took = append(took, millis(d))
		})
	}
	close(start)
	wg.Wait()
	return took, errs
}

// settle is how long nothing may change below a server that idles, and how long that may take to come.
const (
	settle       = time.Second
	settlingMost = 15 * time.Second
	idleFor      = 5 * time.Second
)

// measureIdle looks at a server that has made one run and has nothing to do.
func (b *bench) measureIdle(ctx context.Context) (_ []Section, err error) {
	s := idle.empty(fmt.Sprintf("A server after one call, when its processes have used no CPU for %v. PSS of a sandbox: all its processes together; a page that n processes share counts 1/n.", settle))
	one := arguments("print(1)")
	for _, l := range b.programs() {
		name := ours + ", " + l.Name
		server := &mcpServer{name: name, command: func() *exec.Cmd { return b.server(l) }}
		several := &mcpServer{name: name + ", " + config.EnvPool + "=4", command: func() *exec.Cmd { return b.server(l, config.EnvPool+"=4") }}
		// The first two with an image compile the runner, which takes memory, for those that come after them.
		for _, m := range []struct {
			*mcpServer
			measured bool
		}{{server, false}, {server, false}, {server, true}, {several, true}} {
			works, left, end := b.connectAll(ctx, []*mcpServer{m.mcpServer}, one)
			if m.measured {
				s.LeftOut = append(s.LeftOut, left...)
				if len(works) > 0 {
					b.say("%s: %s", s.Name, m.name)
					err = b.idleRows(ctx, &s, m.mcpServer)
				}
			}
			if err = errors.Join(err, end()); err != nil {
				return nil, err
			}
		}
	}
	return []Section{s}, nil
}

func (b *bench) idleRows(ctx context.Context, s *Section, server *mcpServer) error {
	pid := server.cmd.Process.Pid
	if err := quiet(ctx, pid); err != nil {
		return err
	}
	add := func(what, unit string, value float64) {
		s.Rows = append(s.Rows, Row{Name: server.name + ": " + what, Unit: unit, Samples: []float64{value}})
	}
	leave := func(what string, err error) {
		s.LeftOut = append(s.LeftOut, b.leave(server.name+": "+what, err))
	}
	rss, err := field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
	if err != nil {
		return err
	}
	add("RSS of the server", "MB", rss/1e6)
	all := processes()
	sandboxes := 0
	var pss float64
	for _, p := range all {
		if p.parent != pid {
			continue
		}
		sandboxes++
		for _, q := range append(below(all, p.pid), p) {
			v, perr := field(fmt.Sprintf("/proc/%d/smaps_rollup", q.pid), "Pss")
			if perr != nil {
				err = perr
			}
			pss += v
		}
	}
	switch {
	case sandboxes == 0:
		leave("warm sandboxes", errors.New("it keeps none"))
	case err != nil:
		leave("PSS of a warm sandbox", err)
	default:
		add("warm sandboxes", "", float64(sandboxes))
		add("PSS of a warm sandbox", "MB", pss/1e6/float64(sandboxes))
	}
	before := treeTime(pid)
	if err := pause(ctx, idleFor); err != nil {
		return err
	}
	add("CPU when idle, with its sandboxes", "ms/s", millis(treeTime(pid)-before)/idleFor.Seconds())
	return nil
}

// treeTime is the CPU time of a process and all below it.
func treeTime(pid int) time.Duration {
	var total time.Duration
	all := processes()
	for _, p := range all {
		if p.pid == pid {
			total += p.cpu + p.dead
		}
	}
	for _, p := range below(all, pid) {
		total += p.cpu + p.dead
	}
	return total
}

// quiet waits until nothing has changed below a process for a while. It polls: the kernel tells of no such thing.
func quiet(ctx context.Context, pid int) error {
	last, since := treeTime(pid), time.Now()
	for began := since; time.Since(since) < settle && time.Since(began) < settlingMost; {
		if err := pause(ctx, settle/20); err != nil {
			return err
		}
		if now := treeTime(pid); now != last {
			last, since = now, time.Now()
		}
	}
	return nil
}
