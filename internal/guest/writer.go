package guest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"
)

// A Run is a script and what it is told about the servers whose tools it may call.
type Run struct {
	Code     string
	Filename string // empty means Script
	Servers  []Server
}

// A Server is what the script is told about one server.
type Server struct {
	Name        string `json:"name"`
	Alias       string `json:"alias"` // a Python identifier, unique among the servers
	Source      string `json:"source,omitempty"`
	Description string `json:"description,omitempty"`
	Unavailable string `json:"unavailable,omitempty"` // why it cannot be used
	ToolCount   int    `json:"toolCount"`             // -1: not known
	Loaded      bool   `json:"loaded,omitempty"`      // the run has asked for it
	Tools       []Tool `json:"tools,omitempty"`       // nil: the script asks for them when it needs them
	Mentioned   []Tool `json:"mentioned,omitempty"`   // some of them, that it need not ask for
}

// A Tool is what the script is told about one tool of a server: what the server said, and what a Python function for it
// looks like. A schema that is no valid JSON, or too deep, is left out.
type Tool struct {
	Name         string          `json:"name"`
	Alias        string          `json:"alias"` // a Python identifier, unique among the server's tools
	Title        string          `json:"title,omitempty"`
	Description  string          `json:"description,omitempty"`
	InputSchema  json.RawMessage `json:"inputSchema,omitempty"`
	OutputSchema json.RawMessage `json:"outputSchema,omitempty"`
	Annotations  json.RawMessage `json:"annotations,omitempty"`

	Params  []Param `json:"params"`         // in the order of positional arguments
	Open    bool    `json:"open,omitempty"` // it takes arguments that Params does not name
	Returns string  `json:"returns"`        // a Python type
}

// A Param is an argument of a tool.
type Param struct {
	Name        string          `json:"name"`
	Alias       string          `json:"alias"` // a Python identifier, unique among the tool's
	Type        string          `json:"type"`  // a Python type
	Description string          `json:"description,omitempty"`
	Required    bool            `json:"required,omitempty"`
	Nullable    bool            `json:"nullable,omitempty"` // null is a value like others; else None means "not given"
	Default     json.RawMessage `json:"default,omitempty"`
}

// Check leaves out what cannot be sent.
func (t Tool) Check() Tool {
	for _, raw := range []*json.RawMessage{&t.InputSchema, &t.OutputSchema, &t.Annotations} {
		if len(*raw) > 0 && checkValue(*raw) != nil {
			*raw = nil
		}
	}
	t.Params = append([]Param{}, t.Params...) // an array, not null
	for i, p := range t.Params {
		if len(p.Default) > 0 && checkValue(p.Default) != nil {
			t.Params[i].Default = nil
		}
	}
	return t
}

// A Return answers the call with the same id. Value is what the tool has returned; Error, if not nil, goes instead.
type Return struct {
	ID    int64
	Value json.RawMessage
	Error *Error
}

// piece is the size of a part frame. Between two parts an answer to another call gets through.
const piece = 256 << 10

// A Writer encodes messages to one guest. It is safe for concurrent use. A guest that does not read makes its methods
// block: let the pipe have a deadline, or close it when the run ends.
type Writer struct {
	w    io.Writer
	line sync.Mutex // held while one frame is written
	long sync.Mutex // held while the parts of one message are written
}

// NewWriter returns a Writer to the pipe whose other end is the guest's descriptor 3, after [Boot] has used it.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// A Warming is what a runner imports while nobody waits. Each takes time and memory.
type Warming struct {
	Modules []string `json:"modules"` // such as [Ahead] returns: of Python's own library, and [Library]
	// Preload are any others. What they print is dropped, and what they raise too; [Warm] names them then.
	Preload []string `json:"preload"`
}

// Warm has the runner prepare for a script. Call [Reader.Warming] before.
func (w *Writer) Warm(m Warming) error {
	m.Modules, m.Preload = append([]string{}, m.Modules...), append([]string{}, m.Preload...) // arrays, not null
	return w.send(struct {
		Type string `json:"type"`
		Warming
	}{"warm", m})
}

// Run sends the script. Its tools are as [Tool.Check] leaves them. Call [Reader.Running] before.
func (w *Writer) Run(r Run) error {
	if r.Filename == "" {
		r.Filename = Script
	}
	// The runner's fast path relies on this order.
	return w.send(struct {
		Type     string   `json:"type"`
		Code     string   `json:"code"`
		Filename string   `json:"filename"`
		Servers  []Server `json:"servers,omitempty"`
	}{"run", r.Code, r.Filename, r.Servers})
}

// Return sends the answer to a call. It fails, with nothing sent, if the value is no valid JSON, or is nested deeper
// than [MaxDepth], or is longer than [MaxFromHost]; the call is then still to be answered, with an error.
func (w *Writer) Return(r Return) error {
	if r.Error != nil {
		e := *r.Error
		e.Line = 0
		if len(e.Data) > 0 && checkValue(e.Data) != nil {
			e.Data = nil
		}
		return w.send(struct {
			Type  string `json:"type"`
			ID    int64  `json:"id"`
			Error Error  `json:"error"`
		}{"return", r.ID, e})
	}
	if err := checkValue(r.Value); err != nil {
		return fmt.Errorf("cannot send the answer of call %d: %v", r.ID, err)
	}
	return w.send(struct {
		Type  string          `json:"type"`
		ID    int64           `json:"id"`
		Value json.RawMessage `json:"value"`
	}{"return", r.ID, r.Value})
}

func (w *Writer) send(message any) error {
	line, err := marshal(message)
	if err != nil {
		return fmt.Errorf("cannot encode a frame: %v", err)
	}
	if len(line) > MaxFromHost {
		return fmt.Errorf("cannot send a message of %d bytes: the limit is %d", len(line), MaxFromHost)
	}
	if len(line) <= piece {
		return w.write(line)
	}
	w.long.Lock()
	defer w.long.Unlock()
	for rest := line[:len(line)-1]; ; { // without its line end
		n := min(piece, len(rest))
		for n < len(rest) && !utf8.RuneStart(rest[n]) {
			n--
		}
		part, err := marshal(struct {
			Type string `json:"type"`
			Data string `json:"data"`
			Last bool   `json:"last"`
		}{"part", string(rest[:n]), n == len(rest)})
		if err != nil {
			return fmt.Errorf("cannot encode a frame: %v", err)
		}
		if err := w.write(part); err != nil {
			return err
		}
		if rest = rest[n:]; len(rest) == 0 {
			return nil
		}
	}
}

func (w *Writer) write(line []byte) error {
	w.line.Lock()
	defer w.line.Unlock()
	_, err := w.w.Write(line)
	return err
}

// marshal returns message as one line. What is raw in it loses its line ends; nothing is escaped for HTML, so that
// the runner's fast path sees few escapes.
func marshal(message any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(message)
	return b.Bytes(), err
}
