package config

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const cursorFile = annHome + "/.cursor/mcp.json"

// one is what becomes of the only file that there is, which is Cursor's.
func one(text string) Discovery {
	return Discover(machine(map[string]string{cursorFile: text}, nil), Config{})
}

// TestBrokenFiles: what is wrong with a file is told with its place, and another file is read all the same.
func TestBrokenFiles(t *testing.T) {
	deep := strings.Repeat("[", 100_000)
	for _, tt := range []struct{ name, file, text, want string }{
		{"comma", ".cursor/mcp.json", "{\n  \"mcpServers\": {\n    \"a\" {}\n}}", "~/.cursor/mcp.json:3:9: cannot be read: invalid character '{' after object name"},
		{"cut off", ".cursor/mcp.json", `{"mcpServers": {"a": {"command": "x"}`, "~/.cursor/mcp.json:1:38: cannot be read: parsing object after value: unexpected EOF"},
		{"a secret without quotes", ".cursor/mcp.json", "{\"mcpServers\": {\"a\": {\"env\": {\"K\": SECRETVALUE}}}}", "~/.cursor/mcp.json:1:36: cannot be read: invalid literal"},
		{"comment where none may be", ".claude.json", "{\n // x\n}", "~/.claude.json:2:2: cannot be read: it has a comment or a trailing comma, which this program does not allow"},
		{"not UTF-8", ".cursor/mcp.json", "{\n\"mcpServers\": {\"\xff\": {\"command\": \"x\"}}}", "~/.cursor/mcp.json:2:17: cannot be read: it is not UTF-8"},
		{"UTF-16", ".cursor/mcp.json", "\xff\xfe{\x00}\x00", "~/.cursor/mcp.json:1:1: cannot be read: it is not UTF-8"},
		{"a list", ".cursor/mcp.json", `[]`, "~/.cursor/mcp.json: cannot be read: it is no object"},
		{"servers are text", ".cursor/mcp.json", `{"mcpServers": "x"}`, "~/.cursor/mcp.json: \"mcpServers\" is not an object with MCP servers"},
		{"deep", ".cursor/mcp.json", `{"mcpServers": ` + deep, "~/.cursor/mcp.json:1:215: cannot be read: it is nested too deeply"},
		{"deep TOML", ".codex/config.toml", "a = " + deep, "~/.codex/config.toml:1:10005: cannot be read: arrays and inline tables are nested more than the maximum of 10000 levels deep"},
		{"dotted TOML", ".codex/config.toml", strings.Repeat("a.", 1000) + "a = 1", "~/.codex/config.toml: cannot be read: it is nested too deeply"},
		{"TOML", ".codex/config.toml", "[mcp_servers.a]\ncommand = x", "~/.codex/config.toml:2:11: cannot be read: "},
		{"TOML twice", ".codex/config.toml", "[mcp_servers.a]\ncommand='x'\n[mcp_servers.a]\ncommand='y'", "~/.codex/config.toml:3:"},
		{"YAML", ".continue/config.yaml", "mcpServers:\n  - name: [", "~/.continue/config.yaml:"},
		{"YAML twice", ".config/goose/config.yaml", "extensions:\n  a: {cmd: x}\n  a: {cmd: y}", "~/.config/goose/config.yaml:3:3: cannot be read: \"a\" is there twice"},
		{"YAML deep", ".continue/config.yaml", deep, "~/.continue/config.yaml"},
		{"YAML cycle", ".continue/config.yaml", "a: &a\n  b: *a\n", "~/.continue/config.yaml:2:6: cannot be read: it is nested too deeply, or without end"},
		{"YAML bomb", ".continue/config.yaml", bomb(), "~/.continue/config.yaml:"},
		{"large", ".cursor/mcp.json", strings.Repeat(" ", maxFile+1), "~/.cursor/mcp.json: cannot be read: it is too large (more than 4 MiB)"},
		{"large YAML", ".continue/config.yaml", strings.Repeat("#\n", maxTyped), "~/.continue/config.yaml: cannot be read: it is too large (more than 1 MiB)"},
		{"many", ".cursor/mcp.json", many(10_000), "~/.cursor/mcp.json: none of its 10000 MCP servers is used: more than 1000 are too many"},
		{"empty name", ".cursor/mcp.json", `{"mcpServers": {" ": {"command": "x"}}}`, "~/.cursor/mcp.json: an MCP server cannot be used, because its name is empty: \" \""},
		{"new line in a name", ".cursor/mcp.json", `{"mcpServers": {"a\nb": {"command": "x"}}}`, "~/.cursor/mcp.json: an MCP server cannot be used, because its name has a control character: \"a\\nb\""},
		{"long name", ".cursor/mcp.json", `{"mcpServers": {"` + strings.Repeat("ä", 129) + `": {"command": "x"}}}`, "~/.cursor/mcp.json: an MCP server cannot be used, because its name is longer than 128 characters"},
		{"twice", ".cursor/mcp.json", "{\"mcpServers\": {\"good\": 1,\n\"good\": {\"command\": \"never\"}}}", "~/.cursor/mcp.json: \"good\" is there twice (line 2); the last one counts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := machine(map[string]string{
				annHome + "/" + tt.file:                 tt.text,
				annHome + "/.config/mcp/servers/g.json": `{"mcpServers": {"good": {"command": "x"}}}`,
			}, nil)
			d := Discover(h, Config{})
			if len(d.Problems) != 1 || !strings.HasPrefix(d.Problems[0].String(), strings.Replace(tt.want, "~", annHome, 1)) {
				t.Errorf("%.500q, want %q", d.Problems, tt.want)
			}
			if strings.Contains(fmt.Sprint(d.Problems), "SECRET") {
				t.Errorf("it shows what may be a secret: %q", d.Problems)
			}
			if n := slices.IndexFunc(d.Servers, func(s Server) bool { return s.Name == "good" && s.Unavailable == "" }); n < 0 {
				t.Errorf("the other file is not read: %v", d.Servers)
			}
		})
	}
}

// bomb is a YAML file whose aliases come to 10^9 values.
func bomb() string {
	s := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for n := range 8 {
		s += fmt.Sprintf("a%d: &a%d [%s]\n", n+1, n+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", n), 10), ","))
	}
	return s
}

func many(n int) string {
	var b strings.Builder
	b.WriteString(`{"mcpServers": {`)
	for n := range n {
		if n > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, `"server-%d": {"command": "npx", "args": ["-y", "server-%d"], "env": {"A": "${env:HOME}"}}`, n, n)
	}
	return b.String() + "}}"
}

// TestFilesThatAreFine: odd, but no problem.
func TestFilesThatAreFine(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "blank": "\n \n", "nothing": "{}", "null": `{"mcpServers": null}`, "no servers": `{"mcpServers": {}}`,
		"byte order mark": "\ufeff{}", "brackets in text": `{"mcpServers": {}, "x": "` + strings.Repeat("[", 1000) + `"}`,
		"comments": "// [[[ \" \n/* {{{ \" */ {\"x\": \"\\\"//\",}",
	} {
		t.Run(name, func(t *testing.T) {
			if d := one(text); len(d.Problems)+len(d.Servers)+len(d.Passed) > 0 {
				t.Errorf("%+v", d)
			}
		})
	}
}

// TestEntries: an entry that cannot be used says why, and is no other entry's concern.
func TestEntries(t *testing.T) {
	for entry, want := range map[string]string{
		`1`:                                                  "its entry is not an object",
		`null`:                                               "its entry is not an object",
		`{}`:                                                 "its entry has neither a command nor a url; its keys are none",
		`{"comand": "x", "args": []}`:                        `its entry has neither a command nor a url; its keys are "args", "comand"`,
		`{"type": "stdio", "url": "http://x"}`:               `its entry has no command; its keys are "type", "url"`,
		`{"type": "http", "command": "x"}`:                   `its entry has no url; its keys are "command", "type"`,
		`{"command": 1.5, "args": [true, 2]}`:                "",
		`{"command": ""}`:                                    `its "command" is empty`,
		`{"command": []}`:                                    `its "command" is empty`,
		`{"command": "x", "args": "-y foo"}`:                 `its "args" are not a list of texts`,
		`{"command": "x", "args": ["a", null]}`:              `its "args" are not a list of texts`,
		`{"command": "x", "args": [{}]}`:                     `its "args" are not a list of texts`,
		`{"command": "x", "args": ["a\u0000b"]}`:             "it has a NUL character in its command, arguments or environment",
		`{"command": "x", "env": {"A=B": "c"}}`:              `it sets a variable that no process can have: "A=B"`,
		`{"command": "x", "env": {"": "c"}}`:                 `it sets a variable that no process can have: ""`,
		`{"command": "x", "env": ["A=b"]}`:                   `its "env" is not an object`,
		`{"command": "x", "env": {"A": []}}`:                 `its "env" has a "A" that is not text`,
		`{"command": "x", "cwd": []}`:                        `its "cwd" is not text`,
		`{"command": "x", "disabledTools": "rm"}`:            `its "disabledTools" are not a list of texts`,
		`{"command": "x", "timeout": "soon"}`:                "",
		`{"command": "${env:A}"}`:                            "A is not set in the environment of mcp-bridge",
		`{"command": "x", "envFile": "/dev/zero"}`:           "its envFile /dev/zero cannot be read: file does not exist",
		`{"url": "example.com/mcp"}`:                         "its url does not begin with http:// or https://",
		`{"url": "localhost:8080"}`:                          "its url does not begin with http:// or https://",
		`{"url": "http://"}`:                                 "its url names no host",
		`{"url": "http://[::1"}`:                             "its url is none",
		`{"url": "file:///etc/passwd"}`:                      `its url begins with "file": only http and https can be used`,
		`{"url": "http://x", "headers": {"A": "b\nC: d"}}`:   `its header "A" is none`,
		`{"url": "http://x", "headers": {"A B": "b"}}`:       `its header "A B" is none`,
		`{"url": "http://x", "auth": {"CLIENT_ID": {}}}`:     `its oauth has a "clientId" that is not text`,
		`{"url": "http://x", "oauth": {"callbackPort": -1}}`: "its oauth has a callbackPort that is no port",
		`{"command": "x", "args": ["` + strings.Repeat("a", maxArg+1) + `"]}`: "one of its values is longer than 131071 bytes",
		`{"command": "x", "args": [` + strings.Repeat(`"a",`, 1000) + `"a"]}`: "it has more than 1000 arguments",
	} {
		t.Run(entry[:min(len(entry), 60)], func(t *testing.T) {
			d := one(`{"mcpServers": {"bad": ` + entry + `, "good": {"command": "x"}}}`)
			if len(d.Servers) != 2 || len(d.Problems) != 0 {
				t.Fatalf("%+v", d)
			}
			if got := d.Servers[0].Unavailable; got != want {
				t.Errorf("%q, want %q", got, want)
			}
			if d.Servers[1].Unavailable != "" {
				t.Errorf("the other one: %s", d.Servers[1].Unavailable)
			}
		})
	}
}

func TestNamesAreKept(t *testing.T) {
	for _, name := range []string{"a", "class", "__init__", "a.b", "a-b", "größe", "日本", "a b", "../x", "🦆", strings.Repeat("ä", 128), "\u202egnp"} {
		d := one(fmt.Sprintf(`{"mcpServers": {%q: {"command": "x"}}}`, name))
		if len(d.Servers) != 1 || d.Servers[0].Name != name {
			t.Errorf("%q: %+v", name, d)
		}
	}
}

func TestDisabledServers(t *testing.T) {
	files := map[string]string{
		annHome + "/.codex/config.toml": "[mcp_servers.a]\ncommand = 'codex'\n[mcp_servers.c]\ncommand = 'codex'\nenabled=false",
		annHome + "/.cursor/mcp.json":   `{"mcpServers": {"a": {"command": "cursor", "disabled": true}, "b": {"command": "cursor", "disabled": true}, "c": {"command": "cursor", "disabled": true}}}`,
	}
	commands := func(c Config) (list []string) {
		for _, s := range Discover(machine(files, nil), c).Servers {
			list = append(list, fmt.Sprint(s.Name, " ", s.Command, " ", s.Disabled, " ", s.Unavailable != ""))
		}
		return list
	}
	if d := cmp.Diff([]string{"a codex false false", "b cursor true true", "c cursor true true"}, commands(Config{})); d != "" {
		t.Errorf("by default: %s", d)
	}
	if d := cmp.Diff([]string{"a cursor false false", "b cursor false false", "c cursor false false"}, commands(Config{UseDisabled: true})); d != "" {
		t.Errorf("with them: %s", d)
	}
}

func TestPermits(t *testing.T) {
	for _, tt := range []struct {
		s    Server
		tool string
		want bool
	}{
		{Server{}, "x", true},
		{Server{Allow: []string{}}, "x", false},
		{Server{Allow: []string{"a", "r_*"}}, "r_x/y", true},
		{Server{Allow: []string{"a", "r_*"}}, "b", false},
		{Server{Allow: []string{"[a"}}, "a", false},
		{Server{Allow: []string{"a"}, Deny: []string{"a"}}, "a", false},
		{Server{Deny: []string{"*"}}, "a/b", false},
		{Server{Deny: []string{"[a"}}, "b", false}, // what cannot be understood forbids
		{Server{Deny: []string{exactly("a*[b")}}, "axb", true},
		{Server{Deny: []string{exactly("a*[b")}}, "a*[b", false},
	} {
		if got := tt.s.Permits(tt.tool); got != tt.want {
			t.Errorf("Allow %q, Deny %q: %q is permitted: %v", tt.s.Allow, tt.s.Deny, tt.tool, got)
		}
	}
}

// TestSelf: our own entry is passed over, however it is written, and nothing else is.
func TestSelf(t *testing.T) {
	entry := func(argv []string) string {
		args := make([]string, len(argv)-1)
		for n, a := range argv[1:] {
			args[n] = fmt.Sprintf("%q", a)
		}
		return fmt.Sprintf(`{"mcpServers": {"x": {"command": %q, "args": [%s]}}}`, argv[0], strings.Join(args, ","))
	}
	for line, want := range map[string]bool{
		"mcp-bridge": true, "/usr/local/bin/mcp-bridge serve": true, "/opt/renamed-bridge": true, "./mcp-bridge": true,
		"npx -y mcp-bridge": true, "npx mcp-bridge@1.2.3 serve": true, "uvx mcp-server-code-execution-mode": true,
		"uvx --from git+https://github.com/elusznik/mcp-server-code-execution-mode mcp-server-code-execution-mode run": true,
		"uvx mcp-server-code-execution-mode==1.0":                            true,
		"uv run python /src/mcp_server_code_execution_mode.py":               true,
		"uv --directory /src/x run python mcp_server_code_execution_mode.py": true,
		"python3 -m mcp_server_code_execution_mode":                          true,
		"/opt/py/bin/python3.12 mcp_server_code_execution_mode.py":           true,
		"env A=b /usr/bin/mcp-bridge":                                        true,
		"systemd-run --user --scope -p Delegate=yes mcp-bridge":              true,
		"docker run -i --rm -v /a:/b ghcr.io/x/mcp-bridge:latest":            true,
		"docker run -i --rm mcp-bridge":                                      true,
		"sh -c exec\x01/opt/bin/mcp-bridge\x01serve":                         true,
		"bash -lc cd\x01/src\x01&&\x01A=b\x01npx\x01-y\x01mcp-bridge":        true,
		"timeout 30 mcp-bridge":                                              true,
		"go run github.com/mcp-bridge/mcp-bridge/cmd/mcp-bridge@latest":      true,
		"wsl mcp-bridge": true,
		"npx -y @modelcontextprotocol/server-filesystem /src/mcp-bridge":                     false,
		"npx -y @modelcontextprotocol/server-filesystem /src/mcp-server-code-execution-mode": false,
		"uvx mcp-server-git --repository /src/mcp-bridge":                                    false,
		"uvx mcp-server-git --repository mcp-bridge":                                         false,
		"uv --directory /src/mcp-bridge run other":                                           false,
		"docker run -i -v /src/mcp-bridge:/x mcp/git":                                        false,
		"sh -c cd\x01/src/mcp-bridge\x01&&\x01npx\x01x":                                      false,
		"node /src/mcp-bridge/other.js":                                                      false,
		"mcp-bridge-of-another-kind":                                                         false,
		"uvx mcp-server-code-execution":                                                      false,
	} {
		argv := strings.Fields(line)
		for n := range argv {
			argv[n] = strings.ReplaceAll(argv[n], "\x01", " ")
		}
		d := one(entry(argv))
		if got := len(d.Passed) == 1 && strings.HasPrefix(d.Passed[0].Reason, "it starts mcp-bridge itself"); got != want {
			t.Errorf("%q: passed over: %v", argv, got)
		}
		h := machine(map[string]string{cursorFile: entry(argv)}, nil)
		if d := Discover(h, Config{AllowSelfServer: true}); len(d.Servers) != 1 || d.Servers[0].Unavailable != "" {
			t.Errorf("%q cannot be allowed: %+v", argv, d)
		}
	}
}

// TestGuard: a bridge that a bridge has started uses no servers.
func TestGuard(t *testing.T) {
	h := machine(map[string]string{cursorFile: `{"mcpServers": {"x": {"command": "y"}}}`}, map[string]string{EnvGuard: "1"})
	if d := Discover(h, Config{}); len(d.Servers) != 0 || len(d.Problems) != 1 || !strings.Contains(d.Problems[0].String(), EnvGuard) {
		t.Errorf("%+v", d)
	}
	if d := Discover(h, Config{AllowSelfServer: true}); len(d.Servers) != 1 {
		t.Errorf("%+v", d)
	}
	if unknown := Unknown([]string{EnvGuard + "=1"}); unknown != nil {
		t.Errorf("%v", unknown)
	}
}

// TestNothingSecretIsShown: not of an entry that is usable, and not in the reason of one that is not.
func TestNothingSecretIsShown(t *testing.T) {
	const secret = "hunter2"
	for _, entry := range []string{
		`{"command": "x", "args": ["--api-key", "hunter2"]}`,
		`{"command": "x", "args": ["--token=hunter2", "--password", "hunter2", "-H", "hunter2"]}`,
		`{"command": "x", "args": ["API_TOKEN=hunter2"], "env": {"A": "hunter2"}}`,
		`{"command": "x", "args": ["--header", "Authorization: Bearer hunter2"]}`,
		`{"command": "x", "args": ["Authorization: Bearer hunter2"]}`,
		`{"command": "x", "args": ["postgres://ann:hunter2@db/x?sslmode=hunter2"]}`,
		`{"command": "x", "args": ["${env:SECRET}"]}`,
		`{"command": "sh", "args": ["-c", "TOKEN=hunter2 exec x"]}`,
		`{"command": "x", "args": ["hunter2hunter2hunter2abc"]}`,
		`{"command": "x", "args": ["--key", "${env:A:-hunter2}"]}`,
		`{"url": "https://ann:hunter2@x.example/mcp?key=hunter2#hunter2", "headers": {"A": "hunter2"}}`,
		`{"url": "https://x.example/s/hunter2hunter2hunter2abc/mcp"}`,
		`{"url": "hunter2hunter2hunter2abc"}`,
		`{"url": "http://ann:hunter2@x.example:port/"}`,
		`{"url": "http://x", "headers": {"A": "hunter2\n"}}`,
		`{"type": "http", "url": "http://x", "headersHelper": "hunter2"}`,
	} {
		h := machine(map[string]string{cursorFile: `{"mcpServers": {"x": ` + entry + `}}`}, map[string]string{"SECRET": secret})
		d := Discover(h, Config{})
		for _, s := range d.Servers {
			if strings.Contains(s.Shown+s.Unavailable, secret) || s.Shown == "" {
				t.Errorf("%s: %q %q", entry, s.Shown, s.Unavailable)
			}
		}
	}
	if d := one(`{"mcpServers": {"x": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-sequential-thinking", "--key", "${env:K}", "/home/ann/my dir"]}}}`); d.Servers[0].Shown != `npx -y @modelcontextprotocol/server-sequential-thinking --key ${env:K} "/home/ann/my dir"` {
		t.Errorf("too little is shown: %s", d.Servers[0].Shown)
	}
}

func TestPrintable(t *testing.T) {
	for s, want := range map[string]string{
		"plain ä 日本": "plain ä 日本", "a\x1b[31m": `a\x1b[31m`, "a\nb\t": `a\nb\t`, "\u202e": `\u202e`, "\xff": `\xff`, "\ufffd": "\ufffd", "\u0085": `\u0085`, "'": "'",
	} {
		if got := Printable(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

// TestManyAliases: expansion is bounded too.
func TestExpansionIsBounded(t *testing.T) {
	h := machine(map[string]string{cursorFile: `{"mcpServers": {"x": {"command": "x", "args": ["` + strings.Repeat("${env:BIG}", 1000) + `"]}}}`},
		map[string]string{"BIG": strings.Repeat("x", 100_000)})
	start := time.Now()
	if d := Discover(h, Config{}); !strings.Contains(d.Servers[0].Unavailable, "longer than") {
		t.Errorf("%+v", d)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// sixty is a user with every program, and 60 servers between them.
func sixty() map[string]string {
	files := make(map[string]string)
	entries := func(from, n int, format string) string {
		var list []string
		for k := range n {
			list = append(list, fmt.Sprintf(format, from+k))
		}
		return strings.Join(list, ",")
	}
	const std = `"server-%d": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/ann"], "env": {"A": "b"}}`
	history := strings.Repeat(`{"display": "please look at this", "pastedContents": {}},`, 2000)
	files[".claude.json"] = `{"projects": {"/home/ann/project": {"history": [` + history + `{}]}}, "mcpServers": {` + entries(0, 10, std) + "}}"
	files[".config/Claude/claude_desktop_config.json"] = `{"mcpServers": {` + entries(10, 5, std) + "}}"
	files[".cursor/mcp.json"] = `{"mcpServers": {` + entries(15, 10, std) + "}}"
	files[".config/Code/User/mcp.json"] = `{"servers": {` + entries(25, 10, std) + "}}"
	files[".codeium/windsurf/mcp_config.json"] = `{"mcpServers": {` + entries(35, 5, std) + "}}"
	files[".gemini/settings.json"] = `{"mcpServers": {` + entries(40, 5, std) + "}}"
	files[".config/zed/settings.json"] = `{"context_servers": {` + entries(45, 5, std) + "}}"
	var toml, yaml strings.Builder
	yaml.WriteString("extensions:\n")
	for k := 50; k < 55; k++ {
		fmt.Fprintf(&toml, "[mcp_servers.server-%d]\ncommand = 'npx'\nargs = ['-y', 'x']\n", k)
		fmt.Fprintf(&yaml, "  server-%d:\n    type: stdio\n    enabled: true\n    cmd: npx\n    args: ['-y', 'x']\n", k+5)
	}
	files[".codex/config.toml"], files[".config/goose/config.yaml"] = toml.String(), yaml.String()
	return files
}

// TestCommentAtTheEnd: of a file, without an end of line.
func TestCommentAtTheEnd(t *testing.T) {
	d := Discover(machine(map[string]string{annHome + "/.cursor/mcp.json": `{"mcpServers": {"a": {"command": "x"}}} // end`}, nil), Config{})
	if len(d.Problems) > 0 || len(d.Servers) != 1 || d.Servers[0].Name != "a" {
		t.Errorf("%v, %v", d.Servers, d.Problems)
	}
}

// TestShown: what an entry starts is shown without what could be a secret.
func TestShown(t *testing.T) {
	for args, want := range map[string]string{
		`"-e", "DB_PASS=hunter2"`:          "x -e DB_PASS=…",
		`"--pass", "hunter2"`:              "x --pass …",
		`"--pat", "hunter2", "y"`:          "x --pat … y",
		`"--dsn", "u:hunter2@tcp(h)/db"`:   "x --dsn …",
		`"u:hunter2@h:5432/db"`:            "x …@h:5432/db",
		`"{\"apiKey\":\"hunter2\"}"`:       "x …",
		`"@modelcontextprotocol/server-x"`: "x @modelcontextprotocol/server-x",
		`"x@1.2.3", "--port", "80"`:        "x x@1.2.3 --port 80",
	} {
		d := Discover(machine(map[string]string{annHome + "/.cursor/mcp.json": `{"mcpServers": {"a": {"command": "x", "args": [` + args + `]}}}`}, nil), Config{})
		if len(d.Servers) != 1 || d.Servers[0].Shown != want {
			t.Errorf("%s: %v, want %s", args, d.Servers, want)
		}
	}
}

// TestWhole: what decides what an entry does is shown to who is to trust it, by whatever name a program has for it.
func TestWhole(t *testing.T) {
	for _, key := range slices.Concat(commandKeys, addressKeys) {
		if got := wholeOf(object{key: "/evil"}); got != "/evil" {
			t.Errorf("%s: %s", key, got)
		}
	}
	for _, key := range slices.Concat(dirKeys, envFileKeys) {
		if got := wholeOf(object{"command": "x", key: "/evil"}); !strings.HasSuffix(got, " /evil") {
			t.Errorf("%s: %s", key, got)
		}
	}
	for _, key := range envKeys {
		if got := wholeOf(object{"command": "x", key: object{"A": "/evil"}}); !strings.Contains(got, "env A=/evil") {
			t.Errorf("%s: %s", key, got)
		}
	}
}

// TestSingle: a file may be one entry.
func TestSingle(t *testing.T) {
	for _, key := range slices.Concat(commandKeys, addressKeys) {
		if !single(object{key: "https://example.com"}) {
			t.Errorf("a file with %s is not one entry", key)
		}
	}
}

// closed is files of which those below a directory may not be looked at.
type closed struct {
	fs.FS
	dir string
}

func (c closed) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, c.dir+"/") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EACCES}
	}
	return c.FS.Open(name)
}

// TestClosedDirectory: of a directory that may not be entered it is told once, not for each file that could be in it.
func TestClosedDirectory(t *testing.T) {
	files := map[string]string{cursorFile: `{"mcpServers": {"good": {"command": "x"}}}`, annProject + "/.mcp.json": "{}"}
	h := machine(files, nil)
	h.Files = closed{h.Files, strings.TrimPrefix(annProject, "/")}
	d := Discover(h, Config{ServersConfig: []string{annProject + "/a.json"}})
	want := []string{annProject + "/a.json: cannot be read: permission denied", annProject + ": cannot be read: permission denied"}
	var got []string
	for _, p := range d.Problems {
		got = append(got, p.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(d.Servers) != 1 {
		t.Errorf("the other file is not read: %v", d.Servers)
	}
}
