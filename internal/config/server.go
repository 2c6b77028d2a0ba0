package config

import "time"

// Transport is how an MCP server is reached.
type Transport string

// The transports. Remote is a URL whose entry does not say which: streamable HTTP is tried first, SSE if the server
// answers that with a client error (MCP, basic/transports, "Backwards Compatibility").
const (
	Stdio  Transport = "stdio"
	HTTP   Transport = "http"
	SSE    Transport = "sse"
	Remote Transport = "remote"
)

// A Server is one MCP server that the user has configured, in whatever program. Variables are expanded and defaults
// applied: what is here is what is used.
type Server struct {
	Name string
	Host string // the program whose configuration it is, for people: "Claude Code", "VS Code", ...
	File string // the absolute path of that configuration

	Transport Transport
	Command   string // Stdio: a path, or a name to be found on PATH
	Args      []string
	Env       map[string]string // added to the environment that the bridge itself got
	Dir       string            // Stdio: absolute; empty: the bridge's own
	URL       string            // the others
	Headers   map[string]string
	OAuth     *OAuth

	// Allow and Deny are tool names or globs (path.Match). Only what Allow names can be called, if it is not nil, and
	// never what Deny names.
	Allow, Deny []string

	StartTimeout, CallTimeout time.Duration // 0: the default

	// Unavailable says why this server cannot be used, and what the user can do; empty if it can.
	Unavailable string
	// Disabled says that it is so because its own program does not use it.
	Disabled bool

	// Shown is the command line or the URL for people: as it is written, without secrets. It may have characters that a
	// terminal obeys; see [Printable].
	Shown string
}

// OAuth is what an entry says about authorization beyond headers.
type OAuth struct {
	ClientID     string
	ClientSecret string
	Scopes       []string
	CallbackPort int
	MetadataURL  string
}
