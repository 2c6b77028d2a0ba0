// Package wire speaks JSON-RPC with one MCP server: over the pipes of a process that it keeps, over streamable HTTP, or
// over the older SSE transport; in both eras of the protocol. Results are the bytes that the server sent. It knows no
// configuration, no catalog and no policy, and it starts nothing again.
//
// It is not go-sdk's client, because that decodes results and encodes them again (large integers and unknown content
// are lost), and because one line of a banner, a silent server or a process that outlives its parent end or hang its
// sessions. It is also several times quicker.
package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// maxMessage is how long a message may be.
const maxMessage = 64 << 20

// maxServing is how many requests of the server are answered at once.
const maxServing = 16

// Options of a connection. The functions may be nil; they are called by goroutines of the connection, and Notify by the
// one that reads, so it must be quick.
type Options struct {
	Name, Version string // of this client
	// Capabilities is the client capabilities object, nil for none.
	Capabilities json.RawMessage
	// Modern says that the server may speak the modern era, which is then tried first, unless it may ask the user something.
	Modern bool

	Notify func(method string, params json.RawMessage)
	// Request answers what the server asks, but ping. An *Error is sent as it is.
	Request func(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error)

	// ParamHeaders are what goes with the params of a tools/call, in the modern era and over HTTP.
	ParamHeaders func(params json.RawMessage) map[string]string

	StopGrace time.Duration // for each step of ending a process; 0: 1.5 s
	// Silence is how long the machine of a server may not take what it is sent over HTTP, be it that it acknowledges nothing or
	// that the server reads nothing; 0: 60 s. The connection is then given up.
	Silence time.Duration
	Logger  *slog.Logger // nil discards
}

func (o *Options) fill() {
	if o.StopGrace == 0 {
		o.StopGrace = 1500 * time.Millisecond
	}
	if o.Silence == 0 {
		o.Silence = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Notify == nil {
		o.Notify = func(string, json.RawMessage) {}
	}
	if len(o.Capabilities) == 0 {
		o.Capabilities = json.RawMessage("{}")
	}
}

// A Hello is what a server says of itself.
type Hello struct {
	Version      string          // of the protocol
	Modern       bool            // 2026-07-28 or later
	Capabilities json.RawMessage // may be nil
	ServerInfo   json.RawMessage // may be nil
	Instructions string
}

const codeUnsupportedVersion = -32022 // MCP 2026-07-28

// An Error is a JSON-RPC error.
type Error struct {
	Code    int64           `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Causes that a caller branches on.
var (
	// ErrNotSent: the server has not seen the request, so it can be made again.
	ErrNotSent = errors.New("the request was not sent")
	// ErrEnded: the connection is over.
	ErrEnded = errors.New("the connection has ended")
)

// An AuthorizationError is a server that wants authorization. It has not carried out the request.
type AuthorizationError struct {
	Status, Detail string
	Err            error // of the Authorizer, if it could not give another token; or nil
}

func (e *AuthorizationError) Error() string {
	s := "it needs authorization: it answered " + e.Status
	if e.Detail != "" {
		s += fmt.Sprintf(" (%q)", e.Detail)
	}
	return s
}

func (e *AuthorizationError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrNotSent}
	}
	return []error{ErrNotSent, e.Err}
}

// A link carries messages to the server; what comes back is given to a Conn.
type link interface {
	// send hands one message over. An error that is not ErrNotSent leaves open whether the server has seen it.
	send(ctx context.Context, m outgoing) error
	// greeted is told of the server's version before anything else is sent.
	greeted(h Hello)
	// close ends the link; when it returns nothing of it is left.
	close()
}

// An outgoing message is one line of JSON.
type outgoing struct {
	id     int64 // of a request; 0 for what gets no answer
	method string
	params json.RawMessage
	data   []byte
}
