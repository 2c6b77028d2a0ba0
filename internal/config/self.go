package config

import (
	"path"
	"slices"
	"strings"
)

// originalName is the program that this one takes the place of: its tool is the same, and to lend it to scripts would
// run scripts inside of scripts.
const originalName = "mcp-server-code-execution-mode"

// isSelf says that a server is this program, or the original, by itself or through what starts programs. It is right
// rather too seldom than too often: that another server is not offered would be a riddle, and what is not seen here
// finds [EnvGuard].
func (i *importer) isSelf(s Server) bool {
	if s.Transport != Stdio {
		return false
	}
	if i.h.Program != "" && path.Clean(s.Command) == i.h.Program {
		return true
	}
	return startsSelf(append([]string{s.Command}, s.Args...), 0)
}

func startsSelf(argv []string, depth int) bool {
	if depth > 4 || len(argv) == 0 {
		return false
	}
	if selfName(packageName(path.Base(argv[0]))) {
		return true
	}
	args := argv[1:]
	switch strings.TrimSuffix(path.Base(argv[0]), ".exe") {
	case "sh", "bash", "zsh", "dash", "fish":
		if n := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") && strings.HasSuffix(a, "c") }); n >= 0 && n+1 < len(args) {
			return shellStartsSelf(args[n+1], depth)
		}
		return operandStartsSelf(args, depth)
	case "docker", "podman", "nerdctl", "container":
		// An image, and never a path: those are what is mounted.
		return slices.ContainsFunc(args, func(a string) bool {
			return !strings.HasPrefix(a, "/") && !strings.HasPrefix(a, ".") && !strings.HasPrefix(a, "-") && selfName(packageName(path.Base(a)))
		})
	case "env", "nice", "nohup", "setsid", "sudo", "doas", "timeout", "stdbuf", "xargs", "systemd-run", "flatpak-spawn", "direnv", "mise", "wsl", "cmd",
		"npx", "bunx", "pnpx", "npm", "pnpm", "yarn", "bun", "node", "deno",
		"uvx", "uv", "pipx", "python", "python3", "poetry", "rye", "hatch", "go", "cargo", "nix":
		return operandStartsSelf(args, depth)
	}
	return slices.ContainsFunc(args, originalIn)
}

// operandStartsSelf looks at what a starter of programs is to start: the first argument that is neither an option nor
// one of its own words. What stands behind an option may be its value, or not; as a path it is taken for one.
func operandStartsSelf(args []string, depth int) bool {
	if slices.ContainsFunc(args, originalIn) {
		return true
	}
	value := false
	for n, a := range args {
		switch {
		case strings.HasPrefix(a, "-"):
			value = !strings.Contains(a, "=") && !slices.Contains([]string{"--", "-y", "--yes", "-q", "--quiet", "-i", "-u", "--user", "--scope"}, a)
			continue
		case strings.Contains(a, "=") && !strings.Contains(a, "=="), strings.Trim(a, "0123456789smh.") == "":
			value = false // a variable, or timeout's duration
			continue
		case slices.Contains([]string{"run", "tool", "exec", "x", "dlx"}, a):
			continue
		case value && strings.Contains(a, "/"):
		case startsSelf(args[n:], depth+1):
			return true
		}
		if !value {
			return false
		}
		value = false
	}
	return false
}

// shellStartsSelf looks at the words of a shell's command that are where a command's name stands.
func shellStartsSelf(script string, depth int) bool {
	for _, part := range strings.FieldsFunc(script, func(r rune) bool { return strings.ContainsRune(";&|\n()", r) }) {
		words := strings.Fields(part)
		for len(words) > 0 && (words[0] == "exec" || words[0] == "command" || strings.Contains(words[0], "=")) {
			words = words[1:]
		}
		for n := range words {
			words[n] = strings.Trim(words[n], `"'`)
		}
		if startsSelf(words, depth+1) {
			return true
		}
	}
	return false
}

// originalIn says that an argument is the original's script, module or package, from wherever it comes. That a
// directory has its name means nothing.
func originalIn(a string) bool {
	base := strings.TrimSuffix(path.Base(packageName(a)), ".py")
	if base == "mcp_server_code_execution_mode" {
		return true
	}
	return base == originalName && (!strings.Contains(a, "/") || strings.Contains(a, "://"))
}

func selfName(name string) bool {
	name = strings.TrimSuffix(name, ".exe")
	return name == "mcp-bridge" || name == originalName
}

// packageName is the name of a package or an image without its version.
func packageName(s string) string {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		rest, _, _ = strings.Cut(rest, "@")
		return scheme + "://" + strings.TrimSuffix(rest, ".git")
	}
	if n := strings.IndexAny(s[min(1, len(s)):], "@=[:"); n >= 0 {
		return s[:n+1]
	}
	return s
}
