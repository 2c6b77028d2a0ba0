package bridge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// maxMessage bounds one message of the client: a script of MaxCode bytes, in which JSON may escape every one, and then
// some, so that a script that is too large gets a result that says so.
const maxMessage = 8 * MaxCode

// Transport is standard input and output (MCP, Transports, stdio: a message is a line).
//
// mcp.StdioTransport ends the session, and with it every run, at the first line that is no message, and does not answer
// a batch with a notification in it. Here a bad line is answered, and nothing else comes of it.
func Transport() mcp.Transport { return stdio{pollable(os.Stdin), os.Stdout} }

// pollable is in so that Go's poller can wait for it, if it is a pipe and Linux has it in /proc, and else in itself. A thread that
// waits in read(2) cannot go on with what it has read: another one has to be woken for it, which takes as long as a small script.
//
// A pipe is opened anew, because who shares a file description shares whether it blocks. A socket cannot be, and is left alone.
func pollable(in *os.File) io.ReadCloser {
	info, err := in.Stat()
	if err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		return in
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", in.Fd()), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return in
	}
	return reopened{f, in}
}

// reopened is a file by another descriptor. A client that writes learns of the end when both are closed.
type reopened struct {
	*os.File
	was io.Closer
}

func (r reopened) Close() error { return errors.Join(r.File.Close(), r.was.Close()) }

type stdio struct {
	in  io.ReadCloser
	out io.Writer
}

// Connect implements [mcp.Transport].
func (t stdio) Connect(context.Context) (mcp.Connection, error) {
	c := &stdioConn{stdio: t, incoming: make(chan jsonrpc.Message), failed: make(chan error, 1), closed: make(chan struct{})}
	go c.read()
	return c, nil
}

type stdioConn struct {
	stdio
	incoming chan jsonrpc.Message
	failed   chan error // why there are no more
	closed   chan struct{}
	close    sync.Once
	writing  sync.Mutex
}

// SessionID implements [mcp.Connection].
func (c *stdioConn) SessionID() string { return "" }

// Read implements [mcp.Connection].
func (c *stdioConn) Read(ctx context.Context) (jsonrpc.Message, error) {
	select {
	case m := <-c.incoming:
		return m, nil
	case err := <-c.failed:
		return nil, err
	case <-c.closed:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Write implements [mcp.Connection].
func (c *stdioConn) Write(ctx context.Context, m jsonrpc.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	line, err := jsonrpc.EncodeMessage(m)
	if err != nil {
		return fmt.Errorf("cannot encode a message: %w", err)
	}
	if answer, ok := m.(*jsonrpc.Response); ok {
		line = withNumber(line, answer.ID)
	}
	return c.writeLine(line)
}

func (c *stdioConn) writeLine(line []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.out.Write(append(line, '\n'))
	return err
}

// Close implements [mcp.Connection]. A read of a file that cannot be waited for is left to end with the process.
func (c *stdioConn) Close() (err error) {
	c.close.Do(func() {
		close(c.closed)
		err = c.in.Close()
	})
	return err
}

// byteOrderMark is how some encoders begin a stream (.NET's UTF8, PowerShell); RFC 8259, 8.1, lets a reader ignore it.
var byteOrderMark = []byte("\ufeff")

// read is a goroutine of its own, so that Close does not wait for the client.
func (c *stdioConn) read() {
	lines := bufio.NewReaderSize(c.in, 64<<10)
	for first := true; ; first = false {
		line, tooLong, err := readLine(lines)
		if first {
			line = bytes.TrimPrefix(line, byteOrderMark)
		}
		switch {
		case tooLong:
			c.refuse(nil, jsonrpc.CodeInvalidRequest, fmt.Sprintf("the message is longer than %d MiB", maxMessage>>20))
		case len(line) > 0 && line[0] == '[':
			c.batch(line)
		case len(line) > 0:
			c.message(line)
		}
		if err != nil {
			c.failed <- err
			return
		}
	}
}

// readLine reads a line without the space around it, and all of one that is too long, of which it gives nothing.
func readLine(r *bufio.Reader) (line []byte, tooLong bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > maxMessage; tooLong {
			line = nil
		} else {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSpace(line), tooLong, err
		}
	}
}

// batch is for MCP 2025-03-26, the one version that has batches. Each request gets an answer of its own, which clients
// can tell apart as they do others.
func (c *stdioConn) batch(line []byte) {
	var members []json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		c.refuse(nil, jsonrpc.CodeParseError, "the line is not one JSON value")
		return
	}
	if len(members) == 0 {
		c.refuse(nil, jsonrpc.CodeInvalidRequest, "the batch is empty")
	}
	for _, m := range members {
		c.message(m)
	}
}

func (c *stdioConn) message(line []byte) {
	if !json.Valid(line) { // of two values on a line the decoder would take the first
		c.refuse(nil, jsonrpc.CodeParseError, "the line is not one JSON value")
		return
	}
	fields := object(line)
	m, err := jsonrpc.DecodeMessage(line)
	if r, ok := m.(*jsonrpc.Request); ok && err == nil {
		err = keepNumbers(r, fields["id"])
	}
	if err == nil {
		select {
		case c.incoming <- m:
		case <-c.closed:
		}
		return
	}
	if fields["method"] == nil && (fields["result"] != nil || fields["error"] != nil) {
		c.badAnswer(fields["id"], err) // an answer is not answered: two who did that would not come to an end
		return
	}
	c.refuse(fields["id"], jsonrpc.CodeInvalidRequest, fmt.Sprintf("not a message of JSON-RPC 2.0: %v", err))
}

// badAnswer ends the question whose answer is no message.
func (c *stdioConn) badAnswer(id json.RawMessage, why error) {
	var name string
	if json.Unmarshal(id, &name) != nil {
		return // ours have names
	}
	known, err := jsonrpc.MakeID(name)
	if err != nil {
		return
	}
	e := &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest, Message: fmt.Sprintf("the client's answer is no message of JSON-RPC 2.0: %v", why)}
	select {
	case c.incoming <- &jsonrpc.Response{ID: known, Error: e}:
	case <-c.closed:
	}
}

// refuse answers what is no message (JSON-RPC 2.0, section 5: the id is null where it is not known). A client that
// cannot be written to shows when it is written the next answer.
func (c *stdioConn) refuse(id json.RawMessage, code int64, message string) {
	var known any
	if json.Unmarshal(id, &known) != nil {
		id = nil
	} else if _, err := jsonrpc.MakeID(known); err != nil {
		id = nil
	}
	line, err := marshal(map[string]any{"jsonrpc": "2.0", "id": id, "error": &jsonrpc.Error{Code: code, Message: message}})
	if err == nil {
		_ = c.writeLine(line)
	}
}
