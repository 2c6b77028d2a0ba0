package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// maxLine bounds a message of a server.
const maxLine = 1 << 20

// endPatience is how long a server may take to end when its input has.
const endPatience = 8 * time.Second

// A client is as little of an MCP client as can be measured with: one line out, one line in. Calls may be made
// concurrently.
type client struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr *tail
	ended  chan struct{} // closed when nothing can be read any more; err is why
	read   chan struct{} // closed when the server's output has ended

	mu      sync.Mutex // guards what follows, and writing
	next    int
	waiting map[int]asked
	err     error
}

// asked is a request that has no answer yet.
type asked struct {
	written time.Time
	to      chan reply
}

type message struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   json.RawMessage `json:"error,omitempty"`
}

type reply struct {
	result json.RawMessage
	took   time.Duration // from the line that was written to the line that was read
	err    error
}

// connect starts a server and shakes hands with it. It is ended by close, which must be called.
func connect(ctx context.Context, cmd *exec.Cmd) (*client, error) {
	c := &client{cmd: cmd, stderr: &tail{}, ended: make(chan struct{}), read: make(chan struct{}), waiting: make(map[int]asked)}
	cmd.Stderr = c.stderr
	var err error
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %v", cmd.Path, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %v", cmd.Path, err)
	}
	go c.listen(stdout)
	params := `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcp-bridge bench","version":"1"}}`
	if err = c.ask(ctx, "initialize", json.RawMessage(params)).err; err == nil {
		_, err = c.write(message{Method: "notifications/initialized"})
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *client) listen(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		now := time.Now()
		var m message
		var id int
		if json.Unmarshal(lines.Bytes(), &m) != nil || m.Method != "" || json.Unmarshal(m.ID, &id) != nil {
			continue // a notification, or a question to a client that has said it answers none
		}
		r := reply{result: m.Result}
		if m.Error != nil {
			r.err = fmt.Errorf("the server answers with an error: %.300s", m.Error)
		}
		c.mu.Lock()
		if a, ok := c.waiting[id]; ok {
			r.took = now.Sub(a.written)
			a.to <- r
			delete(c.waiting, id)
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	c.err = lines.Err()
	if c.err == nil {
		c.err = io.ErrUnexpectedEOF
	}
	c.mu.Unlock()
	close(c.ended)
	_, _ = io.Copy(io.Discard, stdout) // after a line that was too long, so that the server can end
	close(c.read)
}

// write says when it began.
func (c *client) write(m message) (time.Time, error) {
	m.JSONRPC = "2.0"
	b, err := json.Marshal(m)
	if err != nil {
		return time.Time{}, err
	}
	began := time.Now()
	_, err = c.stdin.Write(append(b, '\n'))
	return began, err
}

// ask sends a request and waits for its answer.
func (c *client) ask(ctx context.Context, method string, params json.RawMessage) reply {
	a := asked{to: make(chan reply, 1)}
	c.mu.Lock()
	err := c.err
	if err == nil {
		c.next++
		a.written, err = c.write(message{ID: json.RawMessage(fmt.Sprint(c.next)), Method: method, Params: params})
		c.waiting[c.next] = a // its answer is not read before c.mu is free
	}
	c.mu.Unlock()
	if err != nil {
		return reply{err: fmt.Errorf("cannot ask the server: %v: %s", err, c.stderr)}
	}
	select {
	case r := <-a.to:
		return r
	case <-c.ended:
		return reply{err: fmt.Errorf("cannot read from the server: %v: %s", c.err, c.stderr)}
	case <-ctx.Done():
		return reply{err: context.Cause(ctx)}
	}
}

// result is what of a tool's result is looked at.
type result struct {
	IsError    bool `json:"isError"`
	Structured struct {
		Status string   `json:"status"`
		Stdout []string `json:"stdout"`
	} `json:"structuredContent"`
	Content []struct {
		Text string `json:"text"`
	} `json:"content"`
	took time.Duration
}

// call calls a tool.
func (c *client) call(ctx context.Context, tool string, arguments json.RawMessage) (result, error) {
	params, err := json.Marshal(map[string]any{"name": tool, "arguments": arguments})
	if err != nil {
		return result{}, err
	}
	answer := c.ask(ctx, "tools/call", params)
	if answer.err != nil {
		return result{}, answer.err
	}
	r := result{took: answer.took}
	if err := json.Unmarshal(answer.result, &r); err != nil {
		return result{}, fmt.Errorf("cannot read the result of %s: %v", tool, err)
	}
	return r, nil
}

// arguments of run_python.
func arguments(code string, servers ...string) json.RawMessage {
	a := map[string]any{"code": code}
	if len(servers) > 0 {
		a["servers"] = servers
	}
	return raw(a)
}

// runPython is call for a script that prints 1. It says how long that took.
func (c *client) runPython(ctx context.Context, arguments json.RawMessage) (time.Duration, error) {
	r, err := c.call(ctx, "run_python", arguments)
	if err == nil && (r.IsError || !slices.Equal(r.Structured.Stdout, []string{"1"})) {
		err = fmt.Errorf("the script did not print 1: %.300q", r.Content)
	}
	return r.took, err
}

// close ends the server and waits for it.
func (c *client) close() error {
	c.stdin.Close()
	kill := time.AfterFunc(endPatience, func() { _ = c.cmd.Process.Kill() })
	defer kill.Stop()
	<-c.read
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s ended badly: %v: %s", c.cmd.Path, err, c.stderr)
	}
	return nil
}

// tail keeps the last of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-2000):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}
