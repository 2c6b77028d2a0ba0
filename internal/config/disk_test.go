package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// onDisk is a host whose home is a real directory with these files.
func onDisk(t testing.TB, files map[string]string) Host {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	if err := os.MkdirAll(filepath.Join(home, "project"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		put(t, filepath.Join(home, name), text)
	}
	return Host{
		Getenv: func(string) string { return "" }, Home: home, Cwd: home + "/project", OS: "linux", UID: os.Geteuid(),
		Files: Disk(), Real: filepath.EvalSymlinks,
	}
}

func put(t testing.TB, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestOddFiles: nothing that lies where a file should be keeps the bridge waiting.
func TestOddFiles(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(name string) error
		want string
	}{
		{"a pipe", func(name string) error { return syscall.Mkfifo(name, 0o600) }, "it is not a regular file"},
		{"a directory", func(name string) error { return os.Mkdir(name, 0o700) }, "it is not a regular file"},
		{"a device", func(name string) error { return os.Symlink("/dev/zero", name) }, "it is not a regular file"},
		{"a link to itself", func(name string) error { return os.Symlink(name, name) }, "too many levels of symbolic links"},
		{"a link to nowhere", func(name string) error { return os.Symlink("/nowhere", name) }, ""},
		{"100 MB of nothing", func(name string) error {
			return errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 100<<20))
		}, "it is too large (more than 4 MiB)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := onDisk(t, map[string]string{".codex/config.toml": "[mcp_servers.good]\ncommand = 'x'", ".cursor/x": ""})
			if err := tt.make(h.Home + "/.cursor/mcp.json"); err != nil {
				t.Fatal(err)
			}
			done := make(chan Discovery, 1)
			go func() { done <- Discover(h, Config{}) }()
			var d Discovery
			select {
			case d = <-done:
			case <-time.After(20 * time.Second):
				t.Fatal("it hangs")
			}
			if len(d.Servers) != 1 || d.Servers[0].Unavailable != "" {
				t.Errorf("%+v", d.Servers)
			}
			switch {
			case tt.want == "" && len(d.Problems) == 0:
			case len(d.Problems) != 1 || !strings.HasSuffix(d.Problems[0].Text, tt.want):
				t.Errorf("%q, want %q", d.Problems, tt.want)
			}
		})
	}
}

func TestFolderThatIsTooFull(t *testing.T) {
	h := onDisk(t, nil)
	for n := range maxNames + 1 {
		put(t, fmt.Sprintf("%s/MCPs/%d.json", h.Home, n), `{"mcpServers": {}}`)
	}
	d := Discover(h, Config{})
	if len(d.Problems) != 1 || !strings.Contains(d.Problems[0].Text, "more than 1024 files") {
		t.Errorf("%+v", d)
	}
}

func TestDisk(t *testing.T) {
	for _, name := range []string{"/etc/passwd", "../etc", "a//b", "a\x00b", ""} {
		if f, err := Disk().Open(name); err == nil {
			f.Close()
			t.Errorf("%q is opened", name)
		}
	}
	if _, err := fs.Stat(Disk(), "etc/passwd"); err != nil {
		t.Error(err)
	}
}

// TestStar: a directory with a star in its name is no pattern.
func TestStar(t *testing.T) {
	h := onDisk(t, map[string]string{"a*/.mcp.json": `{"mcpServers": {"star": {"command": "x"}}}`, "ab/.mcp.json": `{"mcpServers": {"other": {"command": "x"}}}`})
	h.Cwd = h.Home + "/a*"
	d := Discover(h, Config{TrustProject: true})
	if len(d.Servers) != 1 || d.Servers[0].Name != "star" {
		t.Errorf("%+v", d)
	}
}

const entryA, entryB = `{"mcpServers": {"a": {"command": "a"}}}`, `{"mcpServers": {"a": {"command": "b"}}}`

// TestTrust: an opened directory starts nothing, until the user has said so of what it says now.
func TestTrust(t *testing.T) {
	h := onDisk(t, map[string]string{
		"project/.mcp.json":             entryA,
		"project/.vscode/settings.json": `{"editor.tabSize": 2}`,
		".cursor/mcp.json":              `{"mcpServers": {"a": {"command": "user"}, "mine": {"command": "x"}}}`,
	})
	link := h.Home + "/link"
	if err := os.Symlink(h.Cwd, link); err != nil {
		t.Fatal(err)
	}
	state := func(want Trust, passed, used int) {
		t.Helper()
		for _, dir := range []string{h.Cwd, link} {
			h := h
			h.Cwd = dir
			d := Discover(h, Config{})
			if d.Project.Trust != want || len(d.Passed) != passed || len(d.Servers) != used || len(d.Problems) > 0 {
				t.Errorf("%s: %q, want %q: %+v", dir, d.Project.Trust, want, d)
			}
			for _, s := range d.Servers {
				if s.Name == "a" && s.Command != "user" {
					t.Errorf("the project has taken the place of the user's server: %+v", s)
				}
			}
		}
	}
	trust := func() {
		t.Helper()
		p, problems := ProjectAt(h, h.real(h.Cwd))
		if len(problems) > 0 || p.Fingerprint == "" {
			t.Fatalf("%+v %v", p, problems)
		}
		if err := UpdateTrusted(h, func(l Trusted) { l[p.Dir] = p.Fingerprint }); err != nil {
			t.Fatal(err)
		}
	}
	mcp := h.Cwd + "/.mcp.json"
	state(Untrusted, 1, 2)
	trust()
	state(Granted, 1, 2) // "a" is shadowed
	put(t, mcp, "{\n\"mcpServers\": {\"a\": {\"command\": \"a\"}}}\n")
	put(t, h.Cwd+"/.vscode/settings.json", `{"editor.tabSize": 4}`)
	state(Granted, 1, 2) // what it says is the same
	put(t, mcp, entryB)
	state(Changed, 1, 2)
	put(t, mcp, entryA)
	state(Granted, 1, 2)
	put(t, h.Cwd+"/.cursor/mcp.json", `{"mcpServers": {"new": {"command": "x"}}}`)
	state(Changed, 2, 2)
	trust()
	state(Granted, 1, 3)
	if d := Discover(h, Config{TrustProject: true}); d.Project.Trust != ByEnv || len(d.Servers) != 3 {
		t.Errorf("%+v", d)
	}
	if err := UpdateTrusted(h, func(l Trusted) { clear(l) }); err != nil {
		t.Fatal(err)
	}
	state(Untrusted, 2, 2)
}

// TestProjectThatIsHome: there the user's files are the user's, and the rest is a project's as anywhere.
func TestProjectThatIsHome(t *testing.T) {
	h := onDisk(t, map[string]string{".continue/mcpServers/a.json": entryA, ".mcp.json": `{"mcpServers": {"b": {"command": "x"}}}`})
	h.Cwd = h.Home
	if d := Discover(h, Config{}); len(d.Servers) != 1 || len(d.Passed) != 1 || len(d.Project.Files) != 1 {
		t.Errorf("%+v", d)
	}
	if p, _ := ProjectAt(h, h.Home); len(p.Files) != 1 || !strings.HasSuffix(p.Files[0], "/.mcp.json") {
		t.Errorf("%+v", p)
	}
}

// TestProjectFileThatIsGiven: MCP_SERVERS_CONFIG needs no trust, and does not change what is trusted.
func TestProjectFileThatIsGiven(t *testing.T) {
	h := onDisk(t, map[string]string{"project/.mcp.json": entryA, "project/.cursor/mcp.json": `{"mcpServers": {"b": {"command": "x"}}}`})
	c := Config{ServersConfig: []string{h.Cwd + "/.mcp.json"}}
	if d := Discover(h, c); len(d.Servers) != 1 || len(d.Passed) != 1 || d.Project.Trust != Untrusted {
		t.Errorf("%+v", d)
	}
	p, _ := ProjectAt(h, h.real(h.Cwd))
	if err := UpdateTrusted(h, func(l Trusted) { l[p.Dir] = p.Fingerprint }); err != nil {
		t.Fatal(err)
	}
	if d := Discover(h, c); len(d.Servers) != 2 || len(d.Passed) != 0 || d.Project.Trust != Granted {
		t.Errorf("%+v", d)
	}
}

func TestClaudeFileThatIsGiven(t *testing.T) {
	h := onDisk(t, nil)
	file := h.Home + "/.claude.json"
	put(t, file, `{"mcpServers": {"a": {"command": "x"}}, "projects": {"`+h.Cwd+`": {"mcpServers": {"b": {"command": "x"}}}}}`)
	if d := Discover(h, Config{ServersConfig: []string{file}}); len(d.Servers) != 2 || len(d.Passed) != 0 || d.Servers[0].Name != "a" {
		t.Errorf("%+v", d)
	}
}

// TestTrustFile: what others could have written is not believed, and never written over.
func TestTrustFile(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(h *Host, file string) error
		want  string
	}{
		{"writable by others", func(_ *Host, file string) error { return os.Chmod(file, 0o666) }, "others may write to it"},
		{"of another user", func(h *Host, _ string) error { h.UID++; return nil }, "it belongs to user"},
		{"broken", func(_ *Host, file string) error { return os.WriteFile(file, []byte("{"), 0o600) }, "unexpected end of JSON input"},
		{"of another version", func(_ *Host, file string) error { return os.WriteFile(file, []byte(`{"version": 2}`), 0o600) }, "version"},
		{"a pipe", func(_ *Host, file string) error { return errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)) }, "not a regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := onDisk(t, map[string]string{"project/.mcp.json": entryA})
			p, _ := ProjectAt(h, h.real(h.Cwd))
			grant := func() error {
				return UpdateTrusted(h, func(l Trusted) { l[p.Dir] = p.Fingerprint })
			}
			if err := grant(); err != nil {
				t.Fatal(err)
			}
			st, err := os.Stat(h.TrustFile())
			if err != nil || st.Mode().Perm() != 0o600 {
				t.Fatalf("%v %v", st.Mode(), err)
			}
			if err := tt.spoil(&h, h.TrustFile()); err != nil {
				t.Fatal(err)
			}
			d := Discover(h, Config{})
			if len(d.Servers) != 0 || d.Project.Trust != Untrusted || len(d.Problems) != 1 || !strings.Contains(d.Problems[0].Text, tt.want) {
				t.Errorf("want %q: %+v", tt.want, d)
			}
			if err := grant(); err == nil {
				t.Error("it was written over")
			}
		})
	}
	h := onDisk(t, nil)
	h.Home = ""
	if err := UpdateTrusted(h, func(Trusted) {}); err == nil || h.TrustFile() != "" {
		t.Errorf("%q %v", h.TrustFile(), err)
	}
}

func TestUpdateTrustedKeepsAll(t *testing.T) {
	h := onDisk(t, nil)
	const n = 20
	done := make(chan error)
	for k := range n {
		go func() {
			done <- UpdateTrusted(h, func(l Trusted) { l[fmt.Sprint("/", k)] = "x" })
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	l, err := ReadTrusted(h)
	if len(l) != n || err != nil {
		t.Errorf("%v %v", l, err)
	}
	left, err := filepath.Glob(filepath.Dir(h.TrustFile()) + "/*.tmp")
	if len(left) > 0 || err != nil {
		t.Errorf("%v %v", left, err)
	}
}

func BenchmarkDiscover(b *testing.B) {
	h := onDisk(b, sixty())
	if d := Discover(h, Config{}); len(d.Servers) != 60 || len(d.Problems) > 0 {
		b.Fatalf("%d servers: %v", len(d.Servers), d.Problems)
	}
	b.ReportAllocs()
	for b.Loop() {
		Discover(h, Config{})
	}
}

// FuzzDiscover: no file makes it fail, and what it makes of one can be started and shown.
func FuzzDiscover(f *testing.F) {
	f.Add(0, []byte(`{"mcpServers": {"a": {"command": "x", "args": ["${env:A}"]}}}`))
	f.Add(1, []byte("[mcp_servers.a]\ncommand = 'x'\nenv = {A='b'}"))
	f.Add(2, []byte("extensions:\n  a: &a {cmd: x, <<: *a}\n"))
	f.Add(3, []byte(`{"mcp": {"servers": {"a": {"command": ["x"]}}}, "tools": {"a_*": false}} // x`))
	f.Add(4, []byte(bomb()))
	names := []string{".cursor/mcp.json", ".codex/config.toml", ".config/goose/config.yaml", ".config/opencode/opencode.json", ".continue/config.yaml", ".config/Code/User/settings.json", ".claude.json", "MCPs/a.json", ".gemini/settings.json", ".config/amp/settings.json", ".config/zed/settings.json", ".copilot/mcp-config.json"}
	f.Fuzz(func(t *testing.T, n int, b []byte) {
		if n < 0 {
			return
		}
		h := machine(map[string]string{annHome + "/" + names[n%len(names)]: string(b)}, map[string]string{"A": "value"})
		d := Discover(h, Config{})
		for _, s := range d.Servers {
			if badName(s.Name) != "" {
				t.Errorf("%q", s.Name)
			}
			if s.Unavailable == "" && (s.Transport == "" || s.Command == "" && s.URL == "" || strings.Contains(s.Command+strings.Join(s.Args, ""), "\x00")) {
				t.Errorf("%+v", s)
			}
			Printable(s.Shown)
		}
	})
}
