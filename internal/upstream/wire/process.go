package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// A Command is the program of a server.
type Command struct {
	Program string // a path, or a name to be found on PATH of Env
	Args    []string
	Env     []string // all of it
	Dir     string
}

// markName is a variable that marks all processes of one server, so that they are found whatever they have become.
const markName = "MCP_BRIDGE_UPSTREAM"

// A process is a server's, and the link to it over its pipes. One goroutine writes, one reads, one takes what the
// server says to stderr, and one, with a thread of its own, waits for the end.
type process struct {
	opts   Options
	cmd    *exec.Cmd
	mark   string
	stdin  *os.File
	stdout *os.File
	stderr *tail

	outbox  chan []byte
	closing chan struct{} // asks the writer to close stdin
	drained chan struct{} // its output has been read to the end
	said    chan struct{} // so has what it said to stderr
	once    sync.Once
	exited  chan struct{} // nothing of the tree is left
	status  string        // how it ended; read it when exited is closed
	work    sync.WaitGroup
}

// DialCommand starts a program, and greets it. ctx bounds that; the connection outlives it. An error of the program
// tells how it ended and what it said to stderr.
func DialCommand(ctx context.Context, command Command, opts Options) (*Conn, error) {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := newConn(opts, cancel)
	p, err := start(command, c.opts)
	if err != nil {
		cancel()
		return nil, err
	}
	c.link = p
	p.work.Go(func() { p.write(base, c) })
	p.work.Go(func() { p.read(base, c) })
	p.work.Go(func() {
		<-p.exited
		<-p.drained // what it said last counts
		c.end(p.ended())
		p.stop()
	})
	if err := c.greet(ctx, base); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("it does not answer in time")
		}
		died := errors.Is(err, ErrEnded)
		c.Close()
		if said := p.stderr.String(); said != "" && !died {
			err = fmt.Errorf("%w; its stderr ends with %q", err, said)
		}
		return nil, err
	}
	return c, nil
}

// start runs the program.
func start(command Command, opts Options) (*process, error) {
	program, err := lookPath(command)
	if err != nil {
		return nil, err
	}
	mark := rand.Text() // which no other process has
	cmd := exec.Command(program, command.Args...)
	cmd.Args[0] = command.Program
	cmd.Env, cmd.Dir, cmd.SysProcAttr = append(command.Env, markName+"="+mark), command.Dir, attributes()
	var files []*os.File
	pipe := func() (r, w *os.File) {
		if err == nil {
			if r, w, err = os.Pipe(); err == nil {
				files = append(files, r, w)
			}
		}
		return r, w
	}
	stdinR, stdinW := pipe()
	stdoutR, stdoutW := pipe()
	stderrR, stderrW := pipe()
	fail := func(err error) (*process, error) {
		for _, f := range files {
			f.Close()
		}
		return nil, err
	}
	if err != nil {
		return fail(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdinR, stdoutW, stderrW
	p := &process{
		opts: opts, cmd: cmd, mark: mark, stdin: stdinW, stdout: stdoutR, stderr: &tail{},
		outbox: make(chan []byte), closing: make(chan struct{}), drained: make(chan struct{}), said: make(chan struct{}),
		exited: make(chan struct{}),
	}
	started := make(chan error)
	p.work.Go(func() {
		// The parent death signal comes when this thread ends, so it is this goroutine's alone, and ends with it.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.wait()
		}
	})
	if err := <-started; err != nil {
		if _, derr := os.Stat(command.Dir); command.Dir != "" && derr != nil { // of which the error says that the program is missing
			err = fmt.Errorf("its working directory cannot be used: %w", derr)
		}
		return fail(err)
	}
	for _, f := range []*os.File{stdinR, stdoutW, stderrW} {
		f.Close()
	}
	p.work.Go(func() {
		defer close(p.said)
		_, _ = io.Copy(p.stderr, stderrR)
		stderrR.Close()
	})
	p.work.Go(func() {
		<-p.exited // somebody outside the tree may hold the other ends
		stdoutR.SetReadDeadline(time.Now().Add(250 * time.Millisecond))
		stderrR.SetReadDeadline(time.Now().Add(250 * time.Millisecond))
	})
	return p, nil
}

// lookPath finds the program as the server's own environment has it.
func lookPath(command Command) (string, error) {
	name := command.Program
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) && command.Dir != "" {
			name = filepath.Join(command.Dir, name)
		}
		return exec.LookPath(name)
	}
	path := ""
	for _, kv := range command.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // as exec.LookPath: what lies about in the current directory is not meant
		}
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%q is not on PATH", name)
}

// wait returns when the process and all that came of it are gone.
func (p *process) wait() {
	defer close(p.exited)
	var err error
	if awaitExit(p.cmd.Process.Pid) { // it stays a zombie, so that its ids are nobody else's
		p.sweep()
		err = p.cmd.Wait()
	} else {
		err = p.cmd.Wait()
		p.sweep()
	}
	p.status = "it ended with " + p.cmd.ProcessState.String()
	if p.cmd.ProcessState == nil {
		p.status = fmt.Sprintf("it is lost: %v", err)
	}
}

// awaitTree waits until no process but the first is left, and not longer than limit.
func (p *process) awaitTree(limit time.Duration) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end) && len(p.tree()) > 0; {
		<-tick.C
	}
}

// sweep ends what is left of the tree; the kill again and again, for a process may have started another meanwhile.
func (p *process) sweep() {
	if left := p.tree(); len(left) > 0 {
		signalAll(left, syscall.SIGTERM)
		p.awaitTree(p.opts.StopGrace / 4)
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		left := p.tree()
		if len(left) == 0 {
			return
		}
		signalAll(left, syscall.SIGKILL)
		p.awaitTree(100 * time.Millisecond)
	}
	p.opts.Logger.Warn("processes of a server are left", "pids", p.tree())
}

// ended is the error of a process that has, with its last words, for which it waits: they may still be in the pipe.
func (p *process) ended() error {
	<-p.exited
	<-p.said
	s := p.status
	if said := p.stderr.String(); said != "" {
		s += fmt.Sprintf("; its stderr ends with %q", said)
	}
	return fmt.Errorf("%w: %s", ErrEnded, s)
}

func (p *process) greeted(Hello) {}

// send hands a message to the writer, when that has written the one before: a server that does not read is not sent
// more. A message that the writer has is written whatever becomes of ctx.
func (p *process) send(ctx context.Context, m outgoing) error {
	if len(m.data) > maxMessage {
		return fmt.Errorf("%w: it is longer than %d MiB", ErrNotSent, maxMessage>>20)
	}
	select {
	case p.outbox <- append(m.data, '\n'):
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotSent, ctx.Err())
	case <-p.closing:
		return fmt.Errorf("%w: %w", ErrNotSent, ErrEnded)
	case <-p.exited:
		return fmt.Errorf("%w: %w", ErrNotSent, p.ended())
	}
	return nil
}

// write is the writer.
func (p *process) write(ctx context.Context, c *Conn) {
	defer p.stdin.Close()
	for {
		select {
		case line := <-p.outbox:
			if _, err := p.stdin.Write(line); err != nil {
				p.opts.Logger.Debug("cannot write to a server", "error", err)
				if errors.Is(err, syscall.EPIPE) && !p.gone(p.opts.StopGrace) { // else its end says what has happened
					c.end(fmt.Errorf("%w: it closed its input", ErrEnded))
					p.work.Go(p.stop)
					return
				}
			}
		case <-p.closing:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (p *process) close() {
	p.stop()
	p.work.Wait()
}

// stop ends the process, each step firmer: it sees the end of its input, it is asked, it is killed.
func (p *process) stop() {
	p.once.Do(func() {
		close(p.closing)
		p.stdin.SetWriteDeadline(time.Now()) // a server that does not read
	})
	group := []int{-p.cmd.Process.Pid}
	for _, step := range []func(){
		func() {},
		func() { signalAll(group, syscall.SIGTERM) },
		func() { signalAll(append(p.tree(), group...), syscall.SIGKILL) },
	} {
		if p.gone(0) {
			break
		}
		step()
		p.gone(p.opts.StopGrace)
	}
	<-p.exited
}

// gone says if the process is, and waits for that.
func (p *process) gone(wait time.Duration) bool {
	select {
	case <-p.exited:
		return true
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-timer.C:
		return false
	}
}

// read takes the server's lines.
func (p *process) read(ctx context.Context, c *Conn) {
	defer close(p.drained)
	defer p.stdout.Close()
	lines := bufio.NewReaderSize(p.stdout, 64<<10)
	for first := true; ; first = false {
		line, tooLong, err := readLine(lines)
		if first {
			line = bytes.TrimPrefix(line, byteOrderMark) // how some encoders begin a stream (.NET's UTF8, PowerShell)
		}
		switch {
		case tooLong != nil:
			p.tooLong(c, line, tooLong)
		case len(line) > 0 && (line[0] == '{' || line[0] == '['):
			c.receive(ctx, line)
		case len(line) > 0:
			p.opts.Logger.Debug("not a message", "line", clip(line, 500))
		}
		if err != nil {
			if p.gone(p.opts.StopGrace) {
				return // its waiter says how it ended
			}
			c.end(fmt.Errorf("%w: it closed its output", ErrEnded))
			p.work.Go(p.stop)
			return
		}
	}
}

// tooLong ends the call whose answer is too long, or else the connection.
func (p *process) tooLong(c *Conn, head, tail []byte) {
	message := fmt.Sprintf("its answer is longer than %d MiB", maxMessage>>20)
	if id, ok := guessID(head, tail); ok {
		c.answer(id, nil, &Error{Code: jsonrpc.CodeInternalError, Message: message})
		return
	}
	c.end(fmt.Errorf("%w: a message is longer than %d MiB", ErrEnded, maxMessage>>20))
	p.work.Go(p.stop)
}

// readLine reads a line without its end and surrounding space. Of one that is too long it gives the beginning and the
// end.
func readLine(r *bufio.Reader) (line, tail []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if tail == nil && len(line)+len(part) <= maxMessage {
			line = append(line, part...)
		} else {
			if tail == nil {
				line = line[:min(len(line), 4<<10)]
			}
			tail = append(tail, part...)
			tail = append([]byte(nil), tail[max(0, len(tail)-(4<<10)):]...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSpace(line), tail, err
		}
	}
}
