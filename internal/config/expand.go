package config

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// syntax is which variables a program fills in where it starts its servers. What another program would fill in is
// plain text to it, and stays.
type syntax uint

const (
	braced   syntax = 1 << iota // ${NAME} and ${NAME:-default}
	bare                        // $NAME
	envColon                    // ${env:NAME}
	fileRef                     // ${file:/path}
	folders                     // ${userHome}, ${workspaceFolder}, ${workspaceFolderBasename}, ${pathSeparator}, ${/}
	inputs                      // ${input:ID}
	curly                       // {env:NAME} and {file:path}
	secrets                     // ${{ secrets.NAME }}
)

// maxText is how long a value may become: more than any system lets a program have as its arguments or environment.
const maxText = 1 << 20

// An expander fills in the variables of one entry.
type expander struct {
	syntax  syntax
	host    string // of the entry, for people
	getenv  func(string) string
	home    string
	project string
	files   fs.FS
	dir     string // where relative files are
}

// expand fills in variables. One that has no value is an error: half a command is no command, and the name of a
// variable is no password.
func (x *expander) expand(s string) (string, error) {
	if !strings.ContainsAny(s, "${") {
		return s, nil
	}
	var out strings.Builder
	for s != "" {
		n, value, err := x.variable(s)
		if err != nil {
			return "", err
		}
		if n == 0 {
			n = 1 + max(0, strings.IndexAny(s[1:], "${"))
			if !strings.ContainsAny(s[1:], "${") {
				n = len(s)
			}
			value = s[:n]
		}
		if out.Len()+len(value) > maxText {
			return "", fmt.Errorf("a value is longer than %d bytes with its variables filled in", maxText)
		}
		out.WriteString(value)
		s = s[n:]
	}
	return out.String(), nil
}

// variable reads the one that s begins with, if it does; n is its length.
func (x *expander) variable(s string) (n int, value string, err error) {
	if x.syntax&secrets != 0 && strings.HasPrefix(s, "${{") {
		if end := strings.Index(s, "}}"); end > 0 {
			value, err = x.secret(strings.TrimSpace(s[3:end]))
			return end + 2, value, err
		}
	}
	if x.syntax&curly != 0 && (strings.HasPrefix(s, "{env:") || strings.HasPrefix(s, "{file:")) {
		if end := strings.IndexByte(s, '}'); end > 0 {
			kind, name, _ := strings.Cut(s[1:end], ":")
			value, err = x.named(kind, name)
			return end + 1, value, err
		}
	}
	if strings.HasPrefix(s, "${") {
		if end := strings.IndexByte(s, '}'); end > 0 {
			value, ok, err := x.inBraces(s[2:end])
			if ok || err != nil {
				return end + 1, value, err
			}
		}
		return 0, "", nil
	}
	if x.syntax&bare != 0 && s[0] == '$' {
		if name := identifier(s[1:]); name != "" {
			value, err = x.lookup(name)
			return 1 + len(name), value, err
		}
	}
	return 0, "", nil
}

// inBraces is what ${body} stands for, if it stands for anything here.
func (x *expander) inBraces(body string) (value string, ok bool, err error) {
	kind, name, colon := strings.Cut(body, ":")
	switch {
	case colon && (kind == "env" && x.syntax&envColon != 0 || kind == "file" && x.syntax&fileRef != 0 || kind == "input" && x.syntax&inputs != 0):
		value, err = x.named(kind, name)
		return value, true, err
	case x.syntax&folders != 0:
		if value, ok = x.folder(body); ok {
			return value, true, nil
		}
		switch kind {
		case "config", "command", "workspaceFolder", "input", "file", "relativeFile", "selectedText", "extensionInstallFolder":
			return "", true, fmt.Errorf("${%s} is known to %s only: write what it stands for", body, x.host)
		}
	}
	if x.syntax&braced == 0 {
		return "", false, nil
	}
	name = identifier(body)
	switch rest := body[len(name):]; {
	case name == "":
		return "", false, nil
	case rest == "":
		value, err = x.lookup(name)
		return value, true, err
	case strings.HasPrefix(rest, ":-"):
		if value = x.getenv(name); value == "" {
			value = rest[2:]
		}
		return value, true, nil
	}
	return "", false, nil // ${NAME%.*} and the like are for a shell
}

func (x *expander) folder(name string) (string, bool) {
	switch name {
	case "userHome":
		return x.home, x.home != ""
	case "workspaceFolder", "workspaceRoot", "cwd":
		return x.project, true
	case "workspaceFolderBasename":
		return path.Base(x.project), true
	case "pathSeparator", "/":
		return "/", true
	}
	return "", false
}

func (x *expander) named(kind, name string) (string, error) {
	switch kind {
	case "file":
		return x.file(strings.TrimSpace(name))
	case "input":
		id := strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z':
				return r - 'a' + 'A'
			case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
				return r
			}
			return '_'
		}, name)
		if v := x.getenv("MCP_INPUT_" + id); v != "" {
			return v, nil
		}
		return "", fmt.Errorf("%s asks for %q when it starts this server: set MCP_INPUT_%s in the environment of mcp-bridge", x.host, name, id)
	}
	name, byDefault, ok := strings.Cut(name, ":-")
	if v := x.getenv(name); v != "" || ok {
		if v == "" {
			v = byDefault
		}
		return v, nil
	}
	return "", notSet(name)
}

// secret is what Continue calls one. It may be in a file of its own, or in the environment.
func (x *expander) secret(name string) (string, error) {
	name, ok := strings.CutPrefix(name, "secrets.")
	if !ok {
		return "", fmt.Errorf("${{ %s }} is known to %s only: write what it stands for", name, x.host)
	}
	return x.lookup(name)
}

func (x *expander) lookup(name string) (string, error) {
	if v := x.getenv(name); v != "" {
		return v, nil
	}
	return "", notSet(name)
}

func notSet(name string) error {
	return fmt.Errorf("%s is not set in the environment of mcp-bridge", name)
}

const maxSecret = 64 << 10

func (x *expander) file(name string) (string, error) {
	b, _, err := readFile(x.files, x.absolute(name), maxSecret)
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %s", name, cause(err))
	}
	return strings.TrimSpace(string(b)), nil
}

// absolute makes a path of what stands in an entry.
func (x *expander) absolute(name string) string {
	if name == "~" || strings.HasPrefix(name, "~/") {
		return path.Join(x.home, name[1:])
	}
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(x.dir, name)
}

// identifier is the name of a variable that s begins with.
func identifier(s string) string {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return s[:i]
		}
	}
	return s
}

// dotenv reads a file of NAME=value lines, as dotenv(1) and its kin do.
func dotenv(b []byte) map[string]string {
	values := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		value = strings.TrimSpace(value)
		switch {
		case value == "":
		case value[0] == '"' || value[0] == '\'':
			quote := value[:1]
			end := strings.Index(value[1:], quote)
			for quote == `"` && end > 0 && value[end] == '\\' {
				next := strings.Index(value[end+2:], quote)
				if next < 0 {
					end = -1
					break
				}
				end += 1 + next
			}
			if end < 0 {
				break // no quotes then
			}
			value = value[1 : end+1]
			if quote == `"` {
				value = strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\t`, "\t", `\"`, `"`, `\\`, `\`).Replace(value)
			}
		default:
			if i := strings.Index(value, " #"); i >= 0 {
				value = strings.TrimSpace(value[:i])
			}
		}
		values[name] = value
	}
	return values
}
