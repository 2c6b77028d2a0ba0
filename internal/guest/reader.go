package guest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync/atomic"
)

// A Message is a [Stale], a [Ready], a [Warm], a [Running], a [Call] or a [Done].
type Message interface{ message() }

// Stale says that the guest cannot use the compiled code that it was sent, and waits for the source.
type Stale struct{}

// Ready says that the runner waits for its script. It is the first message but for a Stale, before any code of the user has run.
type Ready struct {
	Python   string // such as "3.11.2"
	Compiled []byte // the runner for [Boot], if the guest was sent source, in full or in part; else nil
}

// Warm answers [Writer.Warm].
type Warm struct {
	Failed []string // of [Warming.Preload]: they could not be imported
}

// Running says that the script has arrived, and begins.
type Running struct{}

// Call asks for a tool, or, where Server is empty, for something of the bridge itself: Tool is then one of the methods
// in the package's comment. What the run may call is the host's decision; these are the guest's words.
type Call struct {
	ID           int64
	Server, Tool string
	Arguments    json.RawMessage // an object, byte for byte as it was sent
}

// Done says that the script has ended.
type Done struct {
	Result    json.RawMessage // the value of the last expression; nil if there was none
	Error     *Error          // what ended the script; nil if it ran to its end
	Truncated bool            // Result is a string with the beginning of the value
	Waits     bool            // all is written, and Python waits for the end of its input, to exit with 0 then
}

// Error is an exception: of the script in a [Done], of a tool in a [Return].
type Error struct {
	Type    string `json:"type,omitempty"`
	Message string `json:"message"`
	Line    int    `json:"line,omitempty"` // of the script; 0 if unknown

	// Of a JSON-RPC error, in a Return only.
	Code int64           `json:"code,omitempty"`
	Data json.RawMessage `json:"data,omitempty"`
}

func (Stale) message()   {}
func (Ready) message()   {}
func (Warm) message()    {}
func (Running) message() {}
func (Call) message()    {}
func (Done) message()    {}

// A ProtocolError says what is wrong with what the guest has sent. Nothing more is to be expected of that guest.
type ProtocolError struct{ Reason string }

func (e *ProtocolError) Error() string { return "protocol error: " + e.Reason }

func violation(format string, args ...any) error {
	return &ProtocolError{fmt.Sprintf(format, args...)}
}

// A Reader decodes the messages of one guest and holds it to the protocol. Read is for one goroutine; Warming and Running
// may be called from another. Memory is bounded by a small multiple of [MaxFromGuest] whatever the guest sends.
type Reader struct {
	r       *bufio.Reader
	warming atomic.Bool
	running atomic.Bool
	err     error // of all further reads

	state              int
	stale              bool // the guest has said so
	lastID             int64
	calls, maxCalls    int
	bytes, maxBytes    int64
	maxLine, maxPieces int
	pieces             []byte // of a message that comes in parts
	inParts            bool
}

const (
	starting = iota
	ready
	running
	ended
)

// NewReader returns a Reader of the pipe whose other end is the guest's descriptor 4.
func NewReader(r io.Reader) *Reader {
	return &Reader{
		r:        bufio.NewReaderSize(r, 64<<10),
		maxCalls: MaxCalls, maxBytes: MaxRunBytes, maxLine: MaxLine, maxPieces: MaxFromGuest,
	}
}

// Warming tells the Reader that a warm frame is about to be written; before that its answer is a violation.
func (r *Reader) Warming() { r.warming.Store(true) }

// Running tells the Reader that the run frame is about to be written; before that its answer is a violation.
func (r *Reader) Running() { r.running.Store(true) }

// Read returns the next message. The error is a [*ProtocolError], io.EOF at the end of the pipe, io.ErrUnexpectedEOF
// there in the middle of a message, or what the pipe says; it is final.
func (r *Reader) Read() (Message, error) {
	if r.err != nil {
		return nil, r.err
	}
	m, err := r.read()
	if err != nil {
		r.err, r.pieces = err, nil
		return nil, err
	}
	return m, nil
}

func (r *Reader) read() (Message, error) {
	for {
		line, err := r.line()
		if err != nil {
			return nil, err
		}
		fields, err := scanObject(line)
		if err != nil {
			return nil, violation("%v", err)
		}
		kind, fields, err := typeOf(fields)
		if err != nil {
			return nil, err
		}
		if kind == "part" {
			last, err := r.part(fields)
			if err != nil {
				return nil, err
			}
			if !last {
				continue
			}
			whole := r.pieces
			r.pieces, r.inParts = nil, false
			if fields, err = scanObject(whole); err != nil {
				return nil, violation("in a message of parts: %v", err)
			}
			if kind, fields, err = typeOf(fields); err != nil {
				return nil, err
			}
			if kind == "part" {
				return nil, violation("a part within parts")
			}
		}
		return r.message(kind, fields)
	}
}

// line returns the next line without its end, in memory of its own.
func (r *Reader) line() ([]byte, error) {
	var line []byte
	for {
		b, err := r.r.ReadSlice('\n')
		r.bytes += int64(len(b))
		if r.bytes > r.maxBytes {
			return nil, violation("more than %d bytes in one run", r.maxBytes)
		}
		if len(line)+len(b) > r.maxLine+1 || (len(line)+len(b) > r.maxLine && err != nil) {
			return nil, violation("a frame longer than %d bytes", r.maxLine)
		}
		line = append(line, b...)
		switch err {
		case nil:
			return line[:len(line)-1], nil
		case bufio.ErrBufferFull:
		case io.EOF:
			if len(line) > 0 || r.inParts {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, io.EOF
		default:
			return nil, err
		}
	}
}

// typeOf takes the field "type" out of fields.
func typeOf(fields []field) (string, []field, error) {
	for i, f := range fields {
		if f.name == "type" {
			kind, err := asString("type", f.raw)
			return kind, append(fields[:i:i], fields[i+1:]...), err
		}
	}
	return "", nil, violation("a frame without type")
}

func (r *Reader) part(fields []field) (last bool, err error) {
	var data string
	err = decode("part", fields, map[string]func([]byte) error{
		"data": func(b []byte) (err error) { data, err = asString("data", b); return err },
		"last": func(b []byte) (err error) { last, err = asBool("last", b); return err },
	}, "data", "last")
	if err != nil {
		return false, err
	}
	if len(r.pieces)+len(data) > r.maxPieces {
		return false, violation("a message longer than %d bytes", r.maxPieces)
	}
	r.inParts = true
	r.pieces = append(r.pieces, data...)
	return last, nil
}

func (r *Reader) message(kind string, fields []field) (Message, error) {
	if r.state == ended {
		return nil, violation("a %s frame after done", clip(kind))
	}
	switch kind {
	case "stale":
		if r.state != starting || r.stale {
			return nil, violation("stale at the wrong time")
		}
		r.stale = true
		return Stale{}, decode("stale", fields, nil)
	case "ready":
		if r.state != starting {
			return nil, violation("a second ready")
		}
		r.state = ready
		return r.ready(fields)
	case "warm":
		if r.state != ready || !r.warming.Swap(false) {
			return nil, violation("warm at the wrong time")
		}
		var m Warm
		err := decode("warm", fields, map[string]func([]byte) error{
			"failed": func(b []byte) (err error) { m.Failed, err = asStrings("failed", b); return err },
		})
		return m, err
	case "running":
		if r.state != ready || !r.running.Load() {
			return nil, violation("running at the wrong time")
		}
		r.state = running
		return Running{}, decode("running", fields, nil)
	case "call", "done":
		if r.state != running {
			return nil, violation("a %s frame before running", clip(kind))
		}
		if kind == "call" {
			return r.call(fields)
		}
		if r.inParts {
			return nil, violation("done in the middle of a message of parts")
		}
		r.state = ended
		return done(fields)
	}
	return nil, violation("unknown type %s", clip(kind))
}

// ready also takes the compiled code, which follows its line as it is: as a part of it, it would be the larger part of a first
// start.
func (r *Reader) ready(fields []field) (Message, error) {
	var m Ready
	var protocol, size int64
	err := decode("ready", fields, map[string]func([]byte) error{
		"protocol": func(b []byte) (err error) { protocol, err = asInt("protocol", b); return err },
		"python":   func(b []byte) (err error) { m.Python, err = asString("python", b); return err },
		"compiled": func(b []byte) (err error) { size, err = asInt("compiled", b); return err },
	}, "protocol", "python")
	switch {
	case err != nil:
		return nil, err
	case protocol != Protocol:
		return nil, violation("the guest speaks protocol %d, not %d", protocol, Protocol)
	case len(m.Python) > 100:
		return nil, violation("python is longer than 100 bytes")
	case size > MaxCompiled:
		return nil, violation("compiled code of more than %d bytes", MaxCompiled)
	case size > 0:
		m.Compiled = make([]byte, size)
		if _, err := io.ReadFull(r.r, m.Compiled); errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
		r.bytes += size
	}
	return m, nil
}

func (r *Reader) call(fields []field) (Message, error) {
	var m Call
	err := decode("call", fields, map[string]func([]byte) error{
		"id":     func(b []byte) (err error) { m.ID, err = asInt("id", b); return err },
		"server": func(b []byte) (err error) { m.Server, err = asString("server", b); return err },
		"tool":   func(b []byte) (err error) { m.Tool, err = asString("tool", b); return err },
		"arguments": func(b []byte) error {
			if b[0] != '{' {
				return violation("arguments is not an object")
			}
			m.Arguments = b
			return nil
		},
	}, "id", "server", "tool", "arguments")
	if err != nil {
		return nil, err
	}
	if m.ID <= r.lastID {
		return nil, violation("call id %d after %d", m.ID, r.lastID)
	}
	r.lastID = m.ID
	if r.calls++; r.calls > r.maxCalls {
		return nil, violation("more than %d calls in one run", r.maxCalls)
	}
	return m, nil
}

func done(fields []field) (Message, error) {
	var m Done
	err := decode("done", fields, map[string]func([]byte) error{
		"result": func(b []byte) error {
			if len(b) > MaxResult {
				return violation("a result of more than %d bytes", MaxResult)
			}
			m.Result = b
			return nil
		},
		"truncated": func(b []byte) (err error) { m.Truncated, err = asBool("truncated", b); return err },
		"waits":     func(b []byte) (err error) { m.Waits, err = asBool("waits", b); return err },
		"error": func(b []byte) error {
			m.Error = new(Error)
			if b[0] != '{' {
				return violation("error is not an object")
			}
			if len(b) > MaxError {
				return violation("an error of more than %d bytes", MaxError)
			}
			inner, err := scanObject(b)
			if err != nil {
				return violation("%v", err)
			}
			return decode("error", inner, map[string]func([]byte) error{
				"type":    func(b []byte) (err error) { m.Error.Type, err = asString("type", b); return err },
				"message": func(b []byte) (err error) { m.Error.Message, err = asString("message", b); return err },
				"line": func(b []byte) error {
					n, err := asInt("line", b)
					if err == nil && (n < 1 || n > 1<<31-1) {
						err = violation("line %d", n)
					}
					m.Error.Line = int(n)
					return err
				},
			}, "type", "message")
		},
	})
	if err == nil && m.Waits && m.Error != nil {
		return nil, violation("an error that ends well")
	}
	return m, err
}

// decode gives each field to its function; a field without one, or a required one that is missing, is a violation.
func decode(kind string, fields []field, known map[string]func([]byte) error, required ...string) error {
	for _, f := range fields {
		take, ok := known[f.name]
		if !ok {
			return violation("unknown field %s in a %s frame", clip(f.name), kind)
		}
		if err := take(f.raw); err != nil {
			return err
		}
	}
next:
	for _, name := range required {
		for _, f := range fields {
			if f.name == name {
				continue next
			}
		}
		return violation("a %s frame without %s", kind, name)
	}
	return nil
}

func asString(name string, raw []byte) (string, error) {
	if raw[0] != '"' {
		return "", violation("%s is not a string", name)
	}
	text, err := unquote(raw)
	if err != nil {
		return "", violation("%s: %v", name, err)
	}
	return text, nil
}

func asStrings(name string, raw []byte) (list []string, err error) {
	if raw[0] != '[' || json.Unmarshal(raw, &list) != nil || slices.ContainsFunc(list, func(s string) bool { return len(s) > 1000 }) {
		return nil, violation("%s is not a list of short strings", name)
	}
	return list, nil
}

func asBool(name string, raw []byte) (bool, error) {
	if bytes.Equal(raw, []byte("true")) {
		return true, nil
	}
	if bytes.Equal(raw, []byte("false")) {
		return false, nil
	}
	return false, violation("%s is not a boolean", name)
}

// asInt takes an integer of up to 15 digits, which every JSON implementation keeps exact.
func asInt(name string, raw []byte) (int64, error) {
	n, err := strconv.ParseInt(string(raw[:min(len(raw), 16)]), 10, 64)
	if err != nil || len(raw) > 15 || n < 0 {
		return 0, violation("%s is not a non-negative integer of at most 15 digits: %s", name, clip(string(raw[:min(len(raw), 101)])))
	}
	if n == 0 && name == "id" {
		return 0, violation("call id 0")
	}
	return n, nil
}
