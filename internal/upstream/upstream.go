// Package upstream is the MCP servers whose tools scripts may call: a pool of clients that are started when they are
// needed, and a catalog of what each of them offers, kept on disk and searched without starting one. Everything that a
// server says is passed on as the bytes it sent, because a script's author knows the server and we do not; what is read
// here is bounded and never trusted.
package upstream

import "encoding/json"

// An Info describes a server without starting it.
type Info struct {
	Name string // as configured; what scripts and errors call it
	// Source is where its configuration was found, for people ("Cursor: ~/.cursor/mcp.json").
	Source string
	// Description is what the server said of itself (serverInfo.description, instructions or serverInfo.title; the first line), if it is known.
	Description string
	// Unavailable says why it cannot be used, and what to do; empty for a server that can be tried.
	Unavailable string
	// Tools is how many tools it has by the catalog, -1 if that is not known yet.
	Tools int
}

// A Tool is what a server's tools/list said of one of its tools.
type Tool struct {
	Name         string          `json:"name"`
	Title        string          `json:"title,omitempty"`
	Description  string          `json:"description,omitempty"`
	InputSchema  json.RawMessage `json:"inputSchema,omitempty"`
	OutputSchema json.RawMessage `json:"outputSchema,omitempty"`
	Annotations  json.RawMessage `json:"annotations,omitempty"`
}

// A Match is a tool that search found.
type Match struct {
	Server string
	Tool   Tool
	Score  float64 // higher is better; comparable within one answer only
}

// An Error is what a server answered instead of a result (a JSON-RPC error), or why it could not be asked. Message is
// for the script's author and names the server.
type Error struct {
	Code    int64 // of JSON-RPC, 0 if the server did not answer
	Message string
	Data    json.RawMessage
}

func (e *Error) Error() string { return e.Message }
