package upstream

import (
	"maps"
	"slices"
	"strings"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream/wire"
)

// command is the program of a server.
func (c *client) command() wire.Command {
	s := c.server
	return wire.Command{Program: s.Command, Args: s.Args, Env: environment(c.pool.opts.Environ, s.Env), Dir: s.Dir}
}

// environment is what a server inherits: ours, and what its configuration adds.
func environment(ours []string, add map[string]string) []string {
	var env []string
	for _, kv := range ours {
		name, _, _ := strings.Cut(kv, "=")
		_, replaced := add[name]
		if name != config.EnvGuard && !replaced {
			env = append(env, kv)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(add)) {
		env = append(env, name+"="+add[name])
	}
	return append(env, config.EnvGuard+"=1")
}
