package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/mcp-bridge/mcp-bridge/bridge"
	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

func searchCommand() *cobra.Command {
	var asJSON, refresh bool
	var limit int
	c := &cobra.Command{
		Use: "search QUERY...", Short: "Search the tools of all MCP servers", Args: cobra.MinimumNArgs(1),
		Long: "Search the tools of all MCP servers by what is known of them; none is started. A server is known when a script has\n" +
			"used it once; --refresh starts all and asks them anew.",
		Example: "  mcp-bridge search create an issue\n  mcp-bridge search --refresh --limit 20 files",
		RunE: withServers(func(c *cobra.Command, args []string, s *mcpServers) error {
			if limit < 1 {
				return usage("--limit %d: allowed is 1 and more", limit)
			}
			if refresh {
				s.learn(c.Context(), c.ErrOrStderr())
			}
			return search(c.OutOrStdout(), s, strings.Join(args, " "), limit, asJSON)
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print [{server, tool, description, score}]")
	c.Flags().BoolVar(&refresh, "refresh", false, "start all servers, and ask them for their tools anew")
	c.Flags().IntVar(&limit, "limit", 10, "how many to show at most")
	return c
}

// learn asks the servers for their tools, some of them at the same time.
func (s *mcpServers) learn(ctx context.Context, stderr io.Writer) {
	all := s.List()
	errs := make([]error, len(all))
	var g errgroup.Group
	g.SetLimit(4)
	for i, info := range all {
		if info.Unavailable != "" {
			continue
		}
		g.Go(func() error {
			_, errs[i] = s.Running(ctx, info.Name)
			return nil
		})
	}
	_ = g.Wait()
	for _, err := range errs {
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(stderr, "mcp-bridge: "+config.Printable(err.Error()))
		}
	}
}

func search(out io.Writer, s bridge.Servers, query string, limit int, asJSON bool) error {
	type row struct {
		Server      string  `json:"server"`
		Tool        string  `json:"tool"`
		Description string  `json:"description"`
		Score       float64 `json:"score"`
	}
	rows := []row{}
	for _, m := range s.Search(query, max(limit, 1)) {
		rows = append(rows, row{m.Server, m.Tool.Name, m.Tool.Description, m.Score})
	}
	if asJSON {
		if err := writeJSON(out, rows); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, r := range rows {
			first, _, _ := strings.Cut(strings.TrimSpace(r.Description), "\n")
			fmt.Fprintf(w, "%s\t%s\t%s\n", shown(r.Server), shown(r.Tool), shown(first))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(rows) > 0 {
		return nil
	}
	all, unknown := s.List(), 0
	for _, i := range all {
		if i.Tools < 0 && i.Unavailable == "" {
			unknown++
		}
	}
	why := errors.New("no tool fits")
	switch {
	case len(all) == 0:
		why = errors.New("no MCP server is configured; docs/servers.md says where they are looked for")
	case unknown > 0:
		why = fmt.Errorf("no tool fits; nothing is known yet of %d of %d servers, and --refresh asks them", unknown, len(all))
	}
	return &exitError{exitNothing, why}
}

// shown is a cell of the table. One that is too long would move what is beside it out of sight, in all rows.
func shown(s string) string {
	s = config.Printable(s)
	if runes := []rune(s); len(runes) > 100 {
		s = string(runes[:99]) + "…"
	}
	return s
}
