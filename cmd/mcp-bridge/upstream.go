package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/bridge"
	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// mcpServers are the user's MCP servers. They are looked for behind the start, because a client waits for that, and
// once: who has added one starts the bridge again, as with every other MCP client.
type mcpServers struct {
	pool func() *upstream.Pool
	// client is the bridge whose client servers may ask; nil: they are refused. It is set before pool is called.
	client *bridge.Bridge

	mu     sync.Mutex
	opened *upstream.Pool
}

// newServers is to be called before a launcher is made, which may change the environment for containers.
func newServers(cfg config.Config, log *slog.Logger) *mcpServers {
	environ := os.Environ()
	s := &mcpServers{}
	s.pool = sync.OnceValue(func() *upstream.Pool {
		opts := upstream.Options{
			Servers: discover(cfg, log).Servers, CatalogDir: filepath.Join(cfg.CacheDir, "catalog"), TokenDir: thisHost().TokenDir(), Environ: environ, IdleTimeout: cfg.IdleTimeout,
			Version: version, Logger: log,
		}
		if s.client != nil {
			opts.OnRequest, opts.Capabilities = s.client.AskClient, s.client.ClientCapabilities
		}
		p := upstream.New(opts)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.opened = p
		return p
	})
	return s
}

// withServers is a command on the MCP servers.
func withServers(f func(c *cobra.Command, args []string, s *mcpServers) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		cfg, log, err := load(os.Stderr)
		if err != nil {
			return err
		}
		s := newServers(cfg, log)
		defer s.close()
		return f(c, args, s)
	}
}

// close ends the servers that have been started.
func (s *mcpServers) close() {
	s.mu.Lock()
	p := s.opened
	s.mu.Unlock()
	if p != nil {
		p.Close()
	}
}

func (s *mcpServers) List() []upstream.Info { return s.pool().List() }

func (s *mcpServers) Tools(ctx context.Context, server string) ([]upstream.Tool, error) {
	return s.pool().Tools(ctx, server)
}

func (s *mcpServers) Running(ctx context.Context, server string) ([]upstream.Tool, error) {
	return s.pool().Running(ctx, server)
}

func (s *mcpServers) Again(ctx context.Context, server string) ([]upstream.Tool, error) {
	return s.pool().Again(ctx, server)
}

func (s *mcpServers) Request(ctx context.Context, server, method string, params json.RawMessage, progress func(json.RawMessage)) (json.RawMessage, error) {
	return s.pool().Request(ctx, server, method, params, progress)
}

func (s *mcpServers) Search(query string, limit int) []upstream.Match {
	return s.pool().Search(query, limit)
}
