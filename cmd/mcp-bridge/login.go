package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

func loginCommand() *cobra.Command {
	var noBrowser bool
	var scopes []string
	c := &cobra.Command{
		Use: "login SERVER", Short: "Log in to an MCP server with a browser", Args: cobra.ExactArgs(1),
		Long: "Log in to a remote MCP server that wants OAuth: open its page in a browser, wait up to 5 minutes until you have\n" +
			"agreed there, and keep the tokens in files of yours. Bridges that run use them from then on, and renew them.",
		Example: "  mcp-bridge login linear\n  mcp-bridge login --no-browser linear",
		RunE: withServers(func(c *cobra.Command, args []string, s *mcpServers) error {
			return login(c.Context(), c.OutOrStdout(), s, args[0], scopes, !noBrowser)
		}),
	}
	c.Flags().BoolVar(&noBrowser, "no-browser", false, "print the URL only; it must be opened on this host, or the port of its answer forwarded")
	c.Flags().StringSliceVar(&scopes, "scope", nil, "ask for this scope instead of what the server names (may be repeated)")
	return c
}

func login(ctx context.Context, out io.Writer, s *mcpServers, name string, scopes []string, browse bool) error {
	issuer, err := s.pool().Login(ctx, name, scopes, func(url string) {
		fmt.Fprintf(out, "Open this in a browser, if it does not open by itself:\n\n  %s\n\n", config.Printable(url))
		if browse {
			openBrowser(ctx, url)
		}
	})
	if ctx.Err() != nil && err != nil {
		return &exitError{exitInterrupt, errors.New("interrupted: there is no new login")}
	}
	if err != nil {
		return &exitError{exitNothing, printableError(err)}
	}
	_, err = fmt.Fprintf(out, "Logged in to %s at %s\n", config.Printable(name), config.Printable(issuer))
	return err
}

// openBrowser tries to; the URL has been printed.
func openBrowser(ctx context.Context, url string) {
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	// It may stay as long as its browser, which is not ours to end; and it must not write into what is ours.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, url)
	if cmd.Start() == nil {
		go func() { _ = cmd.Wait() }()
	}
}

func logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout SERVER", Short: "Remove what login has got, and tell the server so", Args: cobra.ExactArgs(1),
		Long:    "Remove the tokens of an MCP server, and ask who gave them to end them.",
		Example: "  mcp-bridge logout linear",
		RunE: withServers(func(c *cobra.Command, args []string, s *mcpServers) error {
			found, told, err := s.pool().Logout(c.Context(), args[0])
			switch {
			case err != nil:
				return &exitError{exitNothing, printableError(err)}
			case !found:
				return &exitError{exitNothing, fmt.Errorf("%s has no login", config.Printable(args[0]))}
			case told != nil:
				fmt.Fprintf(c.ErrOrStderr(), "mcp-bridge: the tokens are removed here, but may still be good: %s\n", config.Printable(told.Error()))
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "Logged out of %s\n", config.Printable(args[0]))
			return err
		}),
	}
}

// printableError is an error whose text a server may have made.
func printableError(err error) error { return errors.New(config.Printable(err.Error())) }
