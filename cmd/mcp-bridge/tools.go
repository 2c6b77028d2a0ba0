package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/bridge"
	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

func savedTools(cfg config.Config) *bridge.SavedTools {
	return &bridge.SavedTools{Dir: cfg.ToolsDir}
}

func toolsCommand() *cobra.Command {
	var remove []string
	c := &cobra.Command{
		Use:   "tools [NAME]",
		Short: "List, show or remove the functions that scripts have saved with runtime.save_tool",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, _, err := load(os.Stderr)
			if err != nil {
				return err
			}
			saved := savedTools(cfg)
			for _, name := range remove {
				if err := saved.Remove(name); err != nil {
					return err
				}
			}
			if len(remove) > 0 {
				return nil
			}
			sources, err := saved.All()
			if err != nil {
				return err
			}
			if len(args) > 0 {
				source, ok := sources[args[0]]
				if !ok {
					return fmt.Errorf("there is no saved tool %.100q", args[0])
				}
				_, err := fmt.Fprint(forTerminal(os.Stdout), source)
				return err
			}
			names, err := saved.Names()
			if err != nil {
				return err
			}
			for _, name := range names {
				if _, err := fmt.Println(name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringArrayVar(&remove, "remove", nil, "remove the saved function of this name (may be repeated)")
	return c
}

func stubsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stubs SERVER",
		Short: "Print the Python types of an MCP server's tools, as a .pyi",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, log, err := load(os.Stderr)
			if err != nil {
				return err
			}
			b, closeBridge, err := newBridge(cfg, log, nil)
			if err != nil {
				return err
			}
			text, err := b.Stubs(c.Context(), args[0])
			if closeErr := closeBridge(); closeErr != nil {
				log.Error("cannot clean up", "error", closeErr)
			}
			if err != nil {
				return printableError(err)
			}
			_, err = fmt.Fprint(forTerminal(os.Stdout), text)
			return err
		},
	}
}
