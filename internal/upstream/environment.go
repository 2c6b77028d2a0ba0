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

// environment is what a server inherits: ours, without what the bridge has set for its own children, and with what its
// configuration adds.
func environment(ours []string, add map[string]string) []string {
	var env []string
	for _, kv := range ours {
		name, _, _ := strings.Cut(kv, "=")
		_, replaced := add[name]
		// GOMAXPROCS=1 is for libcontainer's init, see oci/libct.
		if name != "GOMAXPROCS" && name != config.EnvGuard && !strings.HasPrefix(name, "_LIBCONTAINER_") && !replaced {
			env = append(env, kv)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(add)) {
		env = append(env, name+"="+add[name])
	}
	return append(env, config.EnvGuard+"=1")
}
