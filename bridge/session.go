package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// askID begins the ids of requests that are passed on; those of the SDK are numbers.
const askID = "mcp-bridge-"

// maxUnread is how many bytes of answers may wait for the client to read them before no more runs begin. Each is held some
// times over until it is written.
const maxUnread = 64 << 20

// codeCancelled is that of the Language Server Protocol; JSON-RPC and MCP have none.
const codeCancelled = -32800

var errSessionOver = errors.New("the client's session is over")

// A session is a client's connection, in which requests of MCP servers travel beside what the SDK sends. They do not go
// through the SDK because that decodes and checks an answer, and encodes it again: the server that asked is to get what
// the client sent.
type session struct {
	mu       sync.Mutex
	greeting jsonrpc.ID                 // of the initialize that has no answer yet
	offered  map[string]json.RawMessage // in it; nil if there is none
	hello    map[string]json.RawMessage // of the client's capabilities, those that count here; nil without the legacy era's handshake
	waiting  map[string]chan *jsonrpc.Response
	open     map[jsonrpc.ID]bool // the client's requests that have no answer yet
	queue    []*jsonrpc.Request
	last     int
	ended    bool
	unread   int           // bytes of answers that are being written
	less     chan struct{} // closed when they are few enough again; nil while they are

	writing sync.Mutex // held by who writes, from the choice of the message on

	spoken chan struct{} // closed when the client has had an answer
	speak  func()        // closes it

	wake    chan struct{} // the queue is not empty
	over    chan struct{} // closed when it has ended
	stop    func()        // ends the client's runs then
	settled chan struct{} // closed when besides none of the client's requests is open, or nothing can be written
	settle  func()        // closes it
	gone    chan struct{} // closed when nothing is written any more
}

// tap is a transport whose one connection is the session's.
type tap struct {
	mcp.Transport
	session  *session
	answered func() // called when the client has been answered something
}

func (t tap) Connect(ctx context.Context) (mcp.Connection, error) {
	conn, err := t.Transport.Connect(ctx)
	if err != nil {
		close(t.session.gone)
		return nil, err
	}
	go t.session.write(ctx, conn)
	return tapped{conn, t.session, t.answered}, nil
}

// tapped is the connection as the SDK has it: without the answers to what is passed on.
type tapped struct {
	mcp.Connection
	session  *session
	answered func()
}

func (t tapped) Write(ctx context.Context, m jsonrpc.Message) error {
	answer, ok := m.(*jsonrpc.Response)
	if ok {
		answer = coded(answer)
		m = answer
		t.session.welcome(answer)
		t.session.owe(len(answer.Result))
		defer t.session.owe(-len(answer.Result))
	}
	t.session.writing.Lock()
	err := t.Connection.Write(ctx, m)
	t.session.writing.Unlock()
	if ok {
		t.session.finished(answer.ID)
		t.session.speak()
		t.answered()
	}
	return err
}

// coded gives an error of the SDK's that has no JSON-RPC code the one that it should have.
func coded(answer *jsonrpc.Response) *jsonrpc.Response {
	var known *jsonrpc.Error
	switch {
	case answer.Error == nil || errors.As(answer.Error, &known):
		return answer
	case errors.Is(answer.Error, context.Canceled): // of a request that it had not looked at
		known = &jsonrpc.Error{Code: codeCancelled, Message: "the request was cancelled"}
	default: // of one that is out of its turn: before initialize, or a second one of these
		known = &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest, Message: answer.Error.Error()}
	}
	return &jsonrpc.Response{ID: answer.ID, Error: known}
}

func (t tapped) Read(ctx context.Context) (jsonrpc.Message, error) {
	for {
		m, err := t.Connection.Read(ctx)
		if err != nil {
			t.session.end()
			// The SDK writes nothing more when it knows of the end, and a client that has said all it has to say (of a pipe in a
			// shell) still listens.
			select {
			case <-t.session.settled:
			case <-ctx.Done():
			}
			return nil, err
		}
		switch m := m.(type) {
		case *jsonrpc.Request:
			if m.IsCall() {
				t.session.begun(m.ID)
			}
			if m.Method == "initialize" {
				t.session.greeted(m)
			}
		case *jsonrpc.Response:
			if id, ok := m.ID.Raw().(string); ok && strings.HasPrefix(id, askID) {
				t.session.answered(id, m)
				continue
			}
		}
		return m, nil
	}
}

func (t tapped) Close() error {
	t.session.end()
	t.session.settle()
	return t.Connection.Close()
}

// write sends what is queued. A client that does not read holds up this goroutine, and nobody else.
func (s *session) write(ctx context.Context, conn mcp.Connection) {
	defer close(s.gone)
	for {
		select {
		case <-s.wake:
		case <-s.over:
			return
		}
		for more := true; more; {
			var err error
			if more, err = s.writeNext(ctx, conn); err != nil {
				s.end()
				return
			}
		}
	}
}

// writeNext takes a message from the queue only when nobody else writes, and lets nobody else write before it has: what is
// newer takes the place of what is still queued, and an answer does not overtake what came before it.
func (s *session) writeNext(ctx context.Context, conn mcp.Connection) (more bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	m := s.next()
	if m == nil {
		return false, nil
	}
	return true, conn.Write(ctx, m)
}

func (s *session) next() *jsonrpc.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.queue) == 0 {
		return nil
	}
	m := s.queue[0]
	s.queue = s.queue[1:]
	return m
}

// enqueue is for what will be written; s.mu is held. The queue is bounded by the requests that are open, of servers and of
// the client: what is given up before it was written leaves it, and of a call's progress it has the last word only.
func (s *session) enqueue(m *jsonrpc.Request) {
	s.queue = append(s.queue, m)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// replace queues m, in the place of old if that is still queued.
func (s *session) replace(old, m *jsonrpc.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.queue, old); i >= 0 {
		s.queue[i] = m
	} else if !s.ended {
		s.enqueue(m)
	}
}

// drop says if m was still queued; it is not any more. s.mu is held.
func (s *session) drop(m *jsonrpc.Request) bool {
	i := slices.Index(s.queue, m)
	if i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	}
	return i >= 0
}

// owe counts bytes of answers that the client has yet to read.
func (s *session) owe(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread += n
	switch many := s.unread > maxUnread; {
	case many && s.less == nil:
		s.less = make(chan struct{})
	case !many && s.less != nil:
		close(s.less)
		s.less = nil
	}
}

// keepsUp waits until the client has read enough for another run to begin. A nil session owes nobody an answer.
func (s *session) keepsUp(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	less := s.less
	s.mu.Unlock()
	if less == nil {
		return nil
	}
	select {
	case <-less:
		return nil
	case <-s.over:
		return errSessionOver
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		s.queue = nil
		close(s.over)
		s.stop()
		if len(s.open) == 0 {
			s.settle()
		}
	}
}

// begun notes a request of the client's until it is answered.
func (s *session) begun(id jsonrpc.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[id] = true
}

func (s *session) finished(id jsonrpc.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.open, id); s.ended && len(s.open) == 0 {
		s.settle()
	}
}

func (s *session) greeted(r *jsonrpc.Request) {
	given := object(object(r.Params)["capabilities"])
	hello := make(map[string]json.RawMessage)
	for _, name := range []string{"elicitation", "sampling", "roots"} {
		if v := capability(given[name]); v != nil {
			hello[name] = v
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.greeting, s.offered = r.ID, hello
}

// welcome takes what the client has said of itself when it has been accepted: a first initialize may be wrong, and a second one
// is.
func (s *session) welcome(answer *jsonrpc.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer.ID == s.greeting && s.offered != nil {
		if answer.Error == nil {
			s.hello = s.offered
		}
		s.offered = nil
	}
}

// legacy says if the session is of the era in which servers may send requests.
func (s *session) legacy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hello != nil
}

// capabilities of the client; a nil session has none.
func (s *session) capabilities() map[string]json.RawMessage {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	return s.hello
}

// ask makes one request of the client. It never waits for the client to read; the end of ctx cancels it.
func (s *session) ask(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	answer := make(chan *jsonrpc.Response, 1)
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil, errSessionOver
	}
	s.last++
	name := fmt.Sprint(askID, s.last)
	id, err := jsonrpc.MakeID(name)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	m := &jsonrpc.Request{ID: id, Method: method, Params: params}
	s.waiting[name] = answer
	s.enqueue(m)
	s.mu.Unlock()
	select {
	case r := <-answer:
		return result(r)
	case <-s.over:
		err = errSessionOver
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.giveUp(name, m, err)
	return nil, err
}

// giveUp forgets a request, and tells the client if that has been sent it.
func (s *session) giveUp(name string, m *jsonrpc.Request, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, name)
	if s.drop(m) {
		return
	}
	params, err := marshal(map[string]string{"requestId": name, "reason": reason.Error()})
	if err == nil && !s.ended {
		s.enqueue(&jsonrpc.Request{Method: "notifications/cancelled", Params: params})
	}
}

// answered hands an answer to who waits for it. One that nobody waits for is dropped.
func (s *session) answered(name string, r *jsonrpc.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer := s.waiting[name]; answer != nil {
		delete(s.waiting, name)
		answer <- r
	}
}

func result(r *jsonrpc.Response) (json.RawMessage, error) {
	if e := (*jsonrpc.Error)(nil); errors.As(r.Error, &e) {
		return nil, &upstream.Error{Code: e.Code, Message: e.Message, Data: e.Data}
	}
	if r.Error != nil {
		return nil, r.Error
	}
	if object(r.Result) == nil {
		return nil, errors.New("the client's answer is no JSON object")
	}
	return r.Result, nil
}
