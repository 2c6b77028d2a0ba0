package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// A Conn is one connection to a server. It is safe for concurrent use.
type Conn struct {
	opts   Options
	link   link
	cancel context.CancelFunc // of all that the connection does by itself
	done   chan struct{}      // closed when it is over
	slots  chan struct{}      // of the server's requests that are being answered
	taken  chan struct{}      // has one when a message was taken since somebody looked, over HTTP
	work   sync.WaitGroup     // goroutines of the Conn itself

	deaf atomic.Bool // the server was not heard for a while; its next acknowledgement says that it is again

	mu      sync.Mutex
	pending map[int64]*call
	serving map[string]context.CancelCauseFunc // the server's requests that are being answered, by their ids
	last    int64
	err     error  // why it is over
	hello   Hello  // set once, by the handshake
	meta    []byte // of each request in the modern era: JSON members
}

// A call is a request that waits for its answer.
type call struct {
	answered chan struct{}
	result   json.RawMessage
	err      error
	progress func(json.RawMessage)
}

func newConn(opts Options, cancel context.CancelFunc) *Conn {
	opts.fill()
	return &Conn{
		opts: opts, cancel: cancel,
		done: make(chan struct{}), slots: make(chan struct{}, maxServing), taken: make(chan struct{}, 1), pending: make(map[int64]*call),
		serving: make(map[string]context.CancelCauseFunc),
	}
}

// Hello is what the server said of itself.
func (c *Conn) Hello() Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hello
}

// Done is closed when the connection is over; Err then says why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection is over, nil while it is not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection, its process too. Calls that go on fail. When it returns nothing is left.
func (c *Conn) Close() {
	c.end(ErrEnded)
	c.link.close()
	c.work.Wait()
}

// end makes all calls fail, now and later.
func (c *Conn) end(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	calls := c.pending
	c.pending = nil
	close(c.done)
	c.mu.Unlock()
	c.cancel()
	for _, w := range calls {
		w.err = err
		close(w.answered)
	}
}

// call makes one request. params is a JSON object without line breaks, or nil. progress may be nil. The end of ctx
// cancels the request at the server, and does not wait for it.
func (c *Conn) call(ctx context.Context, method string, params json.RawMessage, progress func(json.RawMessage)) (json.RawMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &call{answered: make(chan struct{}), progress: progress}
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	c.last++
	id := c.last
	c.pending[id] = w
	meta := c.meta
	c.mu.Unlock()

	m, err := request(id, method, params, meta, progress != nil)
	if err == nil {
		err = c.link.send(ctx, m)
	}
	if err != nil {
		if c.forget(id) {
			if ctx.Err() != nil && !errors.Is(err, ErrNotSent) && method != "initialize" {
				c.cancelled(ctx, id)
			}
			return nil, err
		}
		<-w.answered // it was answered all the same, or the connection says why not
		if errors.Is(err, ErrNotSent) && w.err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, w.err)
		}
		return w.result, w.err
	}
	select {
	case <-w.answered:
		return w.result, w.err
	case <-ctx.Done():
		if c.forget(id) && method != "initialize" {
			c.cancelled(ctx, id)
		}
		return nil, ctx.Err()
	}
}

// notify sends a notification.
func (c *Conn) notify(ctx context.Context, method string, params json.RawMessage) error {
	b := append([]byte(`{"jsonrpc":"2.0","method":`), strconv.Quote(method)...)
	if len(params) > 0 {
		b = append(append(b, `,"params":`...), params...)
	}
	return c.link.send(ctx, outgoing{method: method, params: params, data: append(b, '}')})
}

// cancelled tells the server, without making the caller wait.
func (c *Conn) cancelled(ctx context.Context, id int64) {
	reason := "cancelled"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		reason = "timed out"
	}
	params := fmt.Appendf(nil, `{"requestId":%d,"reason":%q}`, id, reason)
	// The connection's end ends this too: send watches it.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	if !c.spawn(func() {
		defer stop()
		if err := c.notify(ctx, "notifications/cancelled", params); err != nil {
			c.opts.Logger.Debug("cannot cancel a request", "error", err)
		}
	}) {
		stop()
	}
}

// spawn runs f in a goroutine that Close waits for, unless the connection is over.
func (c *Conn) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.work.Go(f)
	return true
}

// waits says if a call has no answer yet.
func (c *Conn) waits(id int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending[id] != nil
}

// forget gives up a call; false if it was answered meanwhile.
func (c *Conn) forget(id int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.pending[id]
	delete(c.pending, id)
	return ok
}

// request encodes one.
func request(id int64, method string, params json.RawMessage, meta []byte, progress bool) (outgoing, error) {
	if len(meta) > 0 || progress {
		var add []Member
		if progress {
			add = append(add, Member{"progressToken", strconv.AppendInt(nil, id, 10)})
		}
		if len(meta) > 0 {
			modern, err := Members(meta)
			if err != nil {
				return outgoing{}, err
			}
			add = append(add, modern...)
		}
		var err error
		if params, err = withMeta(params, add); err != nil {
			return outgoing{}, err
		}
	}
	b := append(make([]byte, 0, len(params)+len(method)+64), `{"jsonrpc":"2.0","id":`...)
	b = strconv.AppendInt(b, id, 10)
	b = append(append(b, `,"method":`...), strconv.Quote(method)...)
	if len(params) > 0 {
		b = append(append(b, `,"params":`...), params...)
	}
	return outgoing{id: id, method: method, params: params, data: append(b, '}')}, nil
}

// answer ends one call; false if nobody waits for it.
func (c *Conn) answer(id int64, result json.RawMessage, err error) bool {
	c.mu.Lock()
	w := c.pending[id]
	delete(c.pending, id)
	c.mu.Unlock()
	if w == nil {
		return false
	}
	w.result, w.err = result, err
	close(w.answered)
	return true
}

// receive takes what the server sent; ctx is the connection's.
func (c *Conn) receive(ctx context.Context, line []byte) {
	messages, err := decode(line)
	if err != nil {
		if id, ok := guessID(line, line); ok && c.answer(id, nil, &Error{Code: jsonrpc.CodeInternalError, Message: fmt.Sprintf("its answer is not JSON: %v", err)}) {
			return
		}
		c.opts.Logger.Debug("not a message", "line", clip(line, 500))
		return
	}
	for _, m := range messages {
		c.one(ctx, m)
	}
}

func (c *Conn) one(ctx context.Context, m message) {
	switch {
	case m.Method != nil && absent(m.ID):
		c.notified(text(m.Method), m.Params)
	case m.Method != nil:
		c.asked(ctx, m)
	default:
		c.answered(m)
	}
}

func (c *Conn) answered(m message) {
	id, ok := number(m.ID)
	if !ok && absent(m.ID) && !absent(m.Error) {
		// A server that could not read a request cannot say which. If only one request is open, it is that.
		c.mu.Lock()
		if len(c.pending) == 1 {
			for id = range c.pending {
				ok = true
			}
		}
		c.mu.Unlock()
	}
	if !ok {
		c.opts.Logger.Debug("an answer to nothing", "id", clip(m.ID, 100))
		return
	}
	var err error
	switch {
	case !absent(m.Error):
		err = decodeError(m.Error)
	case len(m.Result) == 0:
		err = &Error{Code: jsonrpc.CodeInternalError, Message: "its answer has neither a result nor an error"}
	case m.Result[0] != '{':
		err = &Error{Code: jsonrpc.CodeInternalError, Message: fmt.Sprintf("its result is not an object: %q", clip(m.Result, 100))}
	}
	if err != nil {
		m.Result = nil
	}
	if !c.answer(id, m.Result, err) {
		c.opts.Logger.Debug("an answer that nobody waits for", "id", id)
	}
}

func (c *Conn) notified(method string, params json.RawMessage) {
	switch method {
	case "notifications/progress":
	case "notifications/cancelled":
		c.withdrawn(params)
		return
	case "notifications/subscriptions/acknowledged":
		if c.deaf.Swap(false) {
			c.missed()
		}
		return
	default:
		c.opts.Notify(method, params)
		return
	}
	var p struct {
		Token json.RawMessage `json:"progressToken"`
	}
	if json.Unmarshal(params, &p) != nil {
		return
	}
	id, _ := number(p.Token)
	c.mu.Lock()
	w := c.pending[id]
	c.mu.Unlock()
	if w != nil && w.progress != nil {
		w.progress(params)
	}
}

// asked answers a request of the server.
func (c *Conn) asked(ctx context.Context, m message) {
	method := text(m.Method)
	select {
	case c.slots <- struct{}{}:
	default: // waiting would hold up the answers, and answering all would be work without a bound
		c.opts.Logger.Debug("too many requests of the server at once", "method", clip(m.Method, 100))
		return
	}
	// Before the goroutine is: what cancels it may be the next message.
	asked, cancel := context.WithCancelCause(ctx)
	id := string(m.ID)
	c.mu.Lock()
	_, twice := c.serving[id]
	if !twice {
		c.serving[id] = cancel
	}
	c.mu.Unlock()
	end := func() {
		cancel(nil)
		if !twice {
			c.mu.Lock()
			delete(c.serving, id)
			c.mu.Unlock()
		}
		<-c.slots
	}
	if !c.spawn(func() {
		defer end()
		result, err := c.serve(asked, method, m.Params)
		if context.Cause(asked) != errWithdrawn { // then no answer may be sent
			c.respond(asked, m.ID, result, err)
		}
	}) {
		end()
	}
}

// errWithdrawn is why a request of the server's ends that it has cancelled.
var errWithdrawn = errors.New("the server has cancelled its request")

// withdrawn ends a request of the server's that it does not want answered any more.
func (c *Conn) withdrawn(params json.RawMessage) {
	var p struct {
		ID json.RawMessage `json:"requestId"`
	}
	if json.Unmarshal(params, &p) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.serving[string(p.ID)]; cancel != nil {
		cancel(errWithdrawn)
	}
}

// serve answers what a server asks of us, in either era.
func (c *Conn) serve(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	if method == "ping" {
		return json.RawMessage("{}"), nil
	}
	if c.opts.Request == nil {
		return nil, &Error{Code: jsonrpc.CodeMethodNotFound, Message: fmt.Sprintf("this client does not answer %s", clip([]byte(method), 100))}
	}
	return c.opts.Request(ctx, method, params)
}

func (c *Conn) respond(ctx context.Context, id, result json.RawMessage, err error) {
	b := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	if err != nil {
		e := (*Error)(nil)
		if !errors.As(err, &e) {
			e = &Error{Code: jsonrpc.CodeInternalError, Message: err.Error()}
		}
		encoded, err := json.Marshal(e)
		if err != nil {
			encoded = []byte(`{"code":-32603,"message":"internal error"}`)
		}
		b = append(append(b, `,"error":`...), encoded...)
	} else {
		var line bytes.Buffer
		if json.Compact(&line, result) != nil || line.Len() == 0 {
			line.Reset()
			line.WriteString("{}")
		}
		b = append(append(b, `,"result":`...), line.Bytes()...)
	}
	b = append(b, '}')
	for pause := 200 * time.Millisecond; ; pause *= 4 {
		err := c.link.send(ctx, outgoing{data: b})
		if err == nil {
			return
		}
		c.opts.Logger.Debug("cannot answer the server", "error", err)
		// Over HTTP this is a request like others, and whoever was asked will not be asked again. A server that had it after all
		// does not know the id any more.
		if pause > maxAnswerPause || !passing(err) || Pause(ctx, pause) != nil {
			return
		}
	}
}

// maxAnswerPause is the longest pause after which an answer is sent once more.
const maxAnswerPause = 5 * time.Second

// clip is a prefix for messages and the log.
func clip(b []byte, n int) string {
	if len(b) <= n {
		return string(b)
	}
	return string(bytes.ToValidUTF8(b[:n], nil)) + "..."
}
