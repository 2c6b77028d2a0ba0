package config

import (
	"path"
	"strings"
	"time"
)

// A source is where a program keeps its MCP servers. The order of the sources is their precedence.
type source struct {
	host string
	shape
	format format
	// user and project are files: ~/ is the home directory, ${NAME:-default} a variable, app: where programs keep their
	// settings on this system, code: where VS Code and its relatives do, linux: and mac: are for that system only, and
	// ./ is the project. One element may have a "*".
	user, project []string
}

// A shape is how a program writes its entries, as far as that differs from what [importer.entry] reads of all of them.
type shape struct {
	roots   [][]string // the keys that lead to the entries; <project> is its directory
	syntax  syntax
	untyped Transport // of a URL without a type; empty is Remote
	times   []timeKey
	all     bool                                                     // an empty list of allowed tools allows all
	globs   bool                                                     // the names of tools may be patterns
	keys    []string                                                 // others at the top that matter
	adapt   func(i *importer, name string, t object, x *extra) error // says what no table can
}

type timeKey struct {
	key   string
	unit  time.Duration
	start bool
}

const thisProject = "<project>"

func roots(keys ...string) [][]string {
	list := make([][]string, len(keys))
	for i, k := range keys {
		list[i] = strings.Split(k, "/")
	}
	return list
}

// sources is a function, not a variable, so that the re-executed launcher does not pay for it.
func sources() []source {
	var (
		millis  = []timeKey{{"timeout", time.Millisecond, false}}
		seconds = []timeKey{{"timeout", time.Second, false}}
		claude  = shape{roots: roots("mcpServers"), syntax: braced, times: millis}
		cursor  = shape{roots: roots("mcpServers"), syntax: envColon | folders}
		vscode  = shape{roots: roots("servers", "mcp/servers", "mcp.servers"), syntax: envColon | folders | inputs, adapt: vscodeEntry}
		gemini  = shape{roots: roots("mcpServers"), syntax: braced | bare, times: millis, adapt: geminiEntry, keys: []string{"mcp"}}
		code    = shape{roots: roots("mcp/servers", "mcp"), syntax: curly, adapt: openCode, keys: []string{"tools"}, times: []timeKey{{"timeout", time.Millisecond, true}}}
		roo     = shape{roots: roots("mcpServers"), syntax: envColon, times: seconds}
		cline   = shape{roots: roots("mcpServers"), syntax: envColon, untyped: SSE, times: seconds}
	)
	user := claude
	user.roots = [][]string{{"projects", thisProject, "mcpServers"}, {"mcpServers"}}
	user.adapt = claudeSwitches
	local := claude
	local.adapt = claudeApproval
	managed := claude
	managed.adapt = func(i *importer, name string, t object, _ *extra) error { return claudeDenied(i, name, t) }
	any := claude
	any.roots, any.syntax = nil, braced|envColon
	return []source{
		{host: "Claude Code (managed)", shape: managed, user: []string{
			"linux:/etc/claude-code/managed-mcp.json", "mac:/Library/Application Support/ClaudeCode/managed-mcp.json",
		}},
		{host: "Claude Code", shape: user, user: []string{"${CLAUDE_CONFIG_DIR:-~}/.claude.json"}},
		{host: "Claude Code", shape: local, project: []string{"./.mcp.json"}},
		{host: "MCP servers folder", shape: any, user: []string{"~/.config/mcp/servers/*.json"}},
		{host: "MCPs folder", shape: any, user: []string{"~/MCPs/*.json"}},
		{
			host: "Claude Code", shape: claude,
			user: []string{
				"mac:~/Library/Application Support/Claude Code/claude_code_config.json",
				"mac:~/Library/Application Support/Claude/claude_code_config.json",
			},
			project: []string{"./claude_code_config.json"},
		},
		{
			host: "Claude Desktop", shape: shape{roots: roots("mcpServers")},
			user:    []string{"app:Claude/claude_desktop_config.json", "linux:${XDG_CONFIG_HOME:-~/.config}/claude/claude_desktop_config.json"},
			project: []string{"./claude_desktop_config.json"},
		},
		{host: "mcp-servers folder", shape: any, project: []string{"./mcp-servers/*.json"}},
		{host: "Cursor", shape: cursor, format: lenient, user: []string{"~/.cursor/mcp.json"}, project: []string{"./.cursor/mcp.json"}},
		{
			host: "VS Code", shape: vscode, format: lenient,
			user:    []string{"code:mcp.json", "code:profiles/*/mcp.json", "code:settings.json"},
			project: []string{"./.vscode/mcp.json", "./.vscode/settings.json"},
		},
		{
			host: "Windsurf", shape: shape{roots: roots("mcpServers"), syntax: envColon | fileRef},
			user: []string{"~/.codeium/windsurf/mcp_config.json", "~/.codeium/mcp_config.json"},
		},
		{
			host: "Codex", shape: shape{roots: roots("mcp_servers"), adapt: codex, times: []timeKey{
				{"startup_timeout_ms", time.Millisecond, true}, {"startup_timeout_sec", time.Second, true}, {"tool_timeout_sec", time.Second, false},
			}},
			user: []string{"${CODEX_HOME:-~/.codex}/config.toml"}, project: []string{"./.codex/config.toml"},
		},
		{
			host: "Gemini CLI", format: lenient, shape: gemini,
			user: []string{
				"linux:/etc/gemini-cli/settings.json", "mac:/Library/Application Support/GeminiCli/settings.json", "~/.gemini/settings.json",
				"linux:/etc/gemini-cli/system-defaults.json", "mac:/Library/Application Support/GeminiCli/system-defaults.json",
			},
			project: []string{"./.gemini/settings.json"},
		},
		{
			host: "OpenCode", format: lenient, shape: code,
			user: []string{
				"${OPENCODE_CONFIG:-}", "${OPENCODE_CONFIG_DIR:-}/opencode.json", "${OPENCODE_CONFIG_DIR:-}/opencode.jsonc",
				"${XDG_CONFIG_HOME:-~/.config}/opencode/opencode.json", "${XDG_CONFIG_HOME:-~/.config}/opencode/opencode.jsonc",
				"${XDG_CONFIG_HOME:-~/.config}/opencode/config.json",
			},
			project: []string{"./opencode.json", "./opencode.jsonc", "./.opencode/opencode.json", "./.opencode/opencode.jsonc"},
		},
		{
			host: "Zed", format: lenient, shape: shape{roots: roots("context_servers"), times: seconds, adapt: zed},
			user: []string{"${XDG_CONFIG_HOME:-~/.config}/zed/settings.json"}, project: []string{"./.zed/settings.json"},
		},
		{host: "Cline", shape: cline, user: []string{
			"code:globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
			"${CLINE_DIR:-~/.cline}/data/settings/cline_mcp_settings.json", "~/.cline/mcp.json",
		}},
		{
			host: "Roo Code", shape: roo,
			user: []string{
				"code:globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
				"code:globalStorage/rooveterinaryinc.roo-cline/settings/cline_mcp_settings.json",
			},
			project: []string{"./.roo/mcp.json"},
		},
		{
			host: "Continue", shape: shape{
				roots: roots("mcpServers", "experimental/modelContextProtocolServers"), syntax: secrets, adapt: continueEntry,
				times: []timeKey{{"connectionTimeout", time.Millisecond, true}},
			},
			user: []string{
				"~/.continue/config.yaml", "~/.continue/config.json",
				"~/.continue/mcpServers/*.yaml", "~/.continue/mcpServers/*.yml", "~/.continue/mcpServers/*.json",
			},
			project: []string{"./.continue/mcpServers/*.yaml", "./.continue/mcpServers/*.yml", "./.continue/mcpServers/*.json"},
		},
		{
			host: "Goose", shape: shape{roots: roots("extensions"), times: seconds, all: true, adapt: goose},
			user: []string{"${XDG_CONFIG_HOME:-~/.config}/goose/config.yaml"},
		},
		{
			host: "Amp", format: lenient, shape: shape{roots: roots("amp.mcpServers"), syntax: braced, globs: true, adapt: amp, keys: []string{"amp.mcpPermissions"}},
			user: []string{"${XDG_CONFIG_HOME:-~/.config}/amp/settings.json"}, project: []string{"./.amp/settings.json"},
		},
		{host: "Junie", shape: claude, user: []string{"~/.junie/mcp/mcp.json"}, project: []string{"./.junie/mcp/mcp.json"}},
		{host: "LM Studio", shape: cursor, user: []string{"~/.lmstudio/mcp.json", "~/.cache/lm-studio/mcp.json"}},
		{
			host: "Antigravity", shape: shape{roots: roots("mcpServers"), syntax: braced, adapt: antigravity},
			user: []string{"~/.gemini/config/mcp_config.json", "~/.gemini/antigravity/mcp_config.json"},
			project: []string{
				"./.agents/mcp_config.json", "./.agent/mcp_config.json", "./_agents/mcp_config.json", "./_agent/mcp_config.json",
			},
		},
		{
			host: "Copilot CLI", shape: shape{roots: roots("mcpServers"), syntax: braced, adapt: copilot},
			user: []string{"${COPILOT_HOME:-~/.copilot}/mcp-config.json"}, project: []string{"./.github/mcp.json"},
		},
		{
			host: "Qwen Code", format: lenient, shape: gemini,
			user: []string{
				"${QWEN_CODE_SYSTEM_SETTINGS_PATH:-}", "linux:/etc/qwen-code/settings.json", "mac:/Library/Application Support/QwenCode/settings.json",
				"${QWEN_HOME:-~/.qwen}/settings.json",
				"linux:/etc/qwen-code/system-defaults.json", "mac:/Library/Application Support/QwenCode/system-defaults.json",
			},
			project: []string{"./.qwen/settings.json"},
		},
		{
			host: "Kiro", shape: shape{roots: roots("mcpServers"), syntax: braced},
			user: []string{"~/.kiro/settings/mcp.json"}, project: []string{"./.kiro/settings/mcp.json"},
		},
		{
			host: "Kilo Code", format: lenient, shape: code,
			user: []string{
				"${XDG_CONFIG_HOME:-~/.config}/kilo/kilo.json", "${XDG_CONFIG_HOME:-~/.config}/kilo/kilo.jsonc",
			},
			project: []string{"./kilo.json", "./kilo.jsonc", "./.kilo/kilo.json", "./.kilo/kilo.jsonc"},
		},
		{
			host: "Kilo Code", shape: roo,
			user:    []string{"code:globalStorage/kilocode.kilo-code/settings/mcp_settings.json", "~/.kilocode/cli/global/settings/mcp_settings.json"},
			project: []string{"./.kilocode/mcp.json"},
		},
	}
}

// anySource reads a file that no program has named: what its entries mean is told by the key they stand under.
func anySource() source {
	s := source{host: EnvServersConfig, format: lenient}
	s.syntax, s.times = braced|envColon, []timeKey{{"timeout", time.Millisecond, false}}
	return s
}

// shapeOf finds whose format a document without a known place is in.
func shapeOf(doc any, byDefault shape) shape {
	t, _ := doc.(object)
	for _, s := range sources() {
		switch s.host {
		case "Codex", "OpenCode", "Zed", "Goose", "Amp", "VS Code":
			for _, root := range s.roots {
				if v, ok := follow(t, root); ok {
					if _, ok := v.(object); ok {
						return s.shape
					}
				}
			}
		}
	}
	byDefault.roots = roots("mcpServers")
	if _, ok := t["mcpServers"]; !ok {
		byDefault.roots = [][]string{nil} // the entries themselves, or one entry
	}
	return byDefault
}

// place makes the path of a pattern, or several, or none if it does not apply here.
func (h Host) place(pattern, project string) []string {
	pattern = strings.ReplaceAll(pattern, "*", anything)
	if rest, ok := strings.CutPrefix(pattern, "linux:"); ok {
		if h.OS == "darwin" {
			return nil
		}
		pattern = rest
	}
	if rest, ok := strings.CutPrefix(pattern, "mac:"); ok {
		if h.OS != "darwin" {
			return nil
		}
		pattern = rest
	}
	if rest, ok := strings.CutPrefix(pattern, "app:"); ok {
		pattern = h.appDir() + "/" + rest
	}
	if rest, ok := strings.CutPrefix(pattern, "code:"); ok {
		var all []string
		for _, app := range []string{"Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf"} {
			all = append(all, h.place(h.appDir()+"/"+app+"/User/"+rest, project)...)
		}
		return append(all, h.place("~/.vscode-server/data/User/"+rest, project)...)
	}
	if rest, ok := strings.CutPrefix(pattern, "./"); ok {
		return []string{path.Join(project, rest)}
	}
	if rest, ok := strings.CutPrefix(pattern, "${"); ok {
		variable, rest, _ := strings.Cut(rest, "}")
		name, byDefault, _ := strings.Cut(variable, ":-")
		base := h.Getenv(name)
		if !path.IsAbs(base) { // so want the XDG rules; and the current directory is not the user's to vouch for
			base = byDefault
		}
		if base == "" {
			return nil
		}
		pattern = base + rest
	}
	if rest, ok := strings.CutPrefix(pattern, "~"); ok {
		if h.Home == "" {
			return nil
		}
		pattern = h.Home + rest
	}
	return []string{path.Clean(pattern)}
}

func (h Host) appDir() string {
	if h.OS == "darwin" {
		return "~/Library/Application Support"
	}
	return "${XDG_CONFIG_HOME:-~/.config}"
}
