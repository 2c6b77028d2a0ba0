package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// fill starts a server once, so that the catalog has it.
func fill(t *testing.T, dir string, s config.Server) (file string) {
	t.Helper()
	p := New(Options{Servers: []config.Server{s}, CatalogDir: dir})
	defer p.Close()
	if _, err := p.Tools(limited(t), s.Name); err != nil {
		t.Fatal(err)
	}
	file, err := p.catalog.file(s)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the catalog is written", exists(file))
	return file
}

// TestCatalog: what is on disk is what the server said, and tells nobody of its configuration.
func TestCatalog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "catalogs")
	s := hostile(t, "", "TOKEN=secret-value")
	s.Headers = map[string]string{"X": "secret-header"}
	fill(t, dir, s)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if !d.IsDir() {
			b, err := os.ReadFile(path)
			if bytes.Contains(b, []byte("secret")) {
				t.Errorf("%s has a secret", path)
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	p := pool(t, Options{CatalogDir: dir}, s)
	want := []Info{{Name: "hostile", Source: "Test: /etc/test.json", Description: "Does harm.", Tools: len(hostileTools)}}
	if diff := cmp.Diff(want, p.List()); diff != "" {
		t.Error(diff)
	}
	tools, err := p.Tools(limited(t), "hostile")
	if err != nil || !strings.Contains(string(tools[0].InputSchema), "12345678901234567890") {
		t.Errorf("%s, %v", tools[0].InputSchema, err)
	}
	// Another token may mean another catalog.
	s.Env["TOKEN"] = "other"
	if list := pool(t, Options{CatalogDir: dir}, s).List(); list[0].Tools != -1 {
		t.Errorf("%+v", list)
	}
}

// TestCatalogFiles: a file that is not a good catalog is ignored and removed.
func TestCatalogFiles(t *testing.T) {
	good := `{"version":1,"tools":1}` + "\n" + `{"tools":[{"name":"a"}]}` + "\n"
	for name, content := range map[string]string{
		"good":            good,
		"empty":           "",
		"cut":             good[:len(good)-9],
		"no second line":  `{"version":1,"tools":1}` + "\n",
		"another version": strings.Replace(good, `"version":1`, `"version":2`, 1),
		"counts wrongly":  strings.Replace(good, `"tools":1`, `"tools":2`, 1),
		"negative":        strings.Replace(good, `"tools":1`, `"tools":-5`, 1),
		"nameless":        strings.Replace(good, `"a"`, `""`, 1),
		"long head":       `{"version":1,"tools":1,"description":"` + strings.Repeat("x", 1<<20) + `"}` + "\n",
		"types":           `{"version":1,"tools":1}` + "\n" + `{"tools":[5]}`,
		"deep":            `{"version":1,"tools":1}` + "\n" + strings.Repeat("[", 1<<20),
		"link":            "", "pipe": "", "directory": "",
	} {
		t.Run(name, func(t *testing.T) {
			s := hostile(t, "exit")
			dir := t.TempDir()
			d := catalogDir{dir: dir, log: pool(t, Options{}).opts.Logger}
			file, err := d.file(s)
			if err != nil {
				t.Fatal(err)
			}
			switch name {
			case "link":
				target := filepath.Join(t.TempDir(), "target")
				if err = os.WriteFile(target, []byte(good), 0o600); err == nil {
					err = os.Symlink(target, file)
				}
			case "pipe":
				err = syscall.Mkfifo(file, 0o600)
			case "directory":
				err = os.MkdirAll(filepath.Join(file, "x"), 0o700)
			default:
				err = os.WriteFile(file, []byte(content), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			p := pool(t, Options{CatalogDir: dir}, s)
			p.List()
			known := p.byName["hostile"].remembered()
			_, statErr := os.Lstat(file)
			if name == "good" {
				if known == nil || len(known.tools) != 1 || statErr != nil {
					t.Errorf("%+v, %v", known, statErr)
				}
			} else if known != nil || statErr == nil {
				t.Errorf("%+v; the file is there: %v", known, statErr == nil)
			}
		})
	}
	// A key that is none is made anew, and a directory that cannot be written is no reason to fail.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	fill(t, dir, hostile(t, ""))
	text(t, pool(t, Options{CatalogDir: "/proc/nowhere"}, hostile(t, "")), "hostile", "echo", "{}")
}

// TestFilters: what an entry does not allow is not listed, not found and not called, by its exact name.
func TestFilters(t *testing.T) {
	s := hostile(t, "")
	s.Allow, s.Deny = []string{"e*", "denied", "[", "di?"}, []string{"denied", "err*"}
	p := pool(t, Options{}, s)
	tools, err := p.Tools(limited(t), "hostile")
	var names []string
	for _, tool := range tools {
		names = append(names, tool.Name)
	}
	if diff := cmp.Diff([]string{"echo", "die", "environment"}, names); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if info := p.List()[0]; info.Tools != 3 {
		t.Errorf("%+v", info)
	}
	for _, m := range p.Search("denied error text", 10) {
		if m.Tool.Name != "echo" && m.Tool.Name != "environment" {
			t.Errorf("search finds %+v", m)
		}
	}
	_, err = call(limited(t), p, "hostile", "denied", "{}")
	wantError(t, err, `may not be asked for "denied"`, "/etc/test.json")
	for params, want := range map[string]string{
		`{"name":"echo","name":"denied"}`:             `"name" is there twice`,
		`{"name":"echo","n\u0061me":"denied"}`:        `"name" is there twice`,
		`{"name":"den\u0069ed"}`:                      `may not be asked for "denied"`,
		`{"NAME":"denied"}`:                           "name is missing",
		`{"name":["denied"]}`:                         "not a string",
		`{"name":"echo","arguments":[1]}`:             "arguments is not an object",
		`{"name":"echo","arguments":{"a":NaN}}`:       "not JSON",
		`["echo"]`:                                    "not a JSON object",
		``:                                            "not JSON",
		`{"name":"echo"} {"name":"denied"}`:           "not JSON",
		`{"name":"denied ","arguments":{}}`:           `may not be asked for "denied "`,
		`{"name":"eChO","arguments":{}}`:              `has no tool "eChO"; did you mean "echo"`,
		`{"name":"echo","arguments":{},"Name":"die"}`: "",
	} {
		result, err := p.Request(limited(t), "hostile", "tools/call", json.RawMessage(params), nil)
		if want != "" {
			wantError(t, err, want)
		} else if err != nil || strings.Contains(string(result), "die") {
			t.Errorf("%s, %v", result, err)
		}
	}
	_, err = p.Request(limited(t), "hostile", "logging/setLevel", nil, nil)
	wantError(t, err, `"logging/setLevel" is not passed on`)
	// A line break in params is not one on the wire.
	result, err := p.Request(limited(t), "hostile", "tools/call", json.RawMessage("{\"name\":\n\"echo\",\r\n\"arguments\":{\"n\":\n12345678901234567890}}"), nil)
	if err != nil || !strings.Contains(string(result), `{\"n\":12345678901234567890}`) {
		t.Errorf("%s, %v", result, err)
	}
}

// TestNames: lists of all sorts.
func TestNames(t *testing.T) {
	one, two := hostile(t, "exit"), hostile(t, "exit")
	two.File = "second"
	p := pool(t, Options{}, one, two)
	if l := p.List(); len(l) != 1 || l[0].Source != "Test: /etc/test.json" {
		t.Errorf("%+v", l)
	}
	_, err := pool(t, Options{}).Tools(context.WithoutCancel(t.Context()), "x")
	wantError(t, err, `there is no MCP server "x"; no server is configured`)
	for _, tt := range []struct {
		name  string
		names []string
		want  string
	}{
		{"createissue", []string{"list_issues", "create_issue", "createIssue"}, `did you mean "create_issue" or "createIssue"?`},
		{"raed_file", []string{"read_file", "write_file"}, `did you mean "read_file"?`},
		{"zzz", []string{"a", "b"}, `there are "a", "b"`},
		{"", []string{"a"}, `did you mean "a"?`},
		{strings.Repeat("x", 5000), []string{"a"}, `there are "a"`},
	} {
		if got := Suggest(tt.name, tt.names, ""); got != tt.want {
			t.Errorf("Suggest(%.20q): %s; want %s", tt.name, got, tt.want)
		}
	}
}
