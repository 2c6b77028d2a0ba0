package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

const (
	annHome    = "/home/ann"
	annProject = "/home/ann/project"
)

// machine is a host with these files and this environment.
func machine(files, env map[string]string) Host {
	m := make(fstest.MapFS)
	for name, text := range files {
		m[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: []byte(text), Mode: 0o600}
	}
	return Host{
		Getenv: func(name string) string { return env[name] }, Home: annHome, Cwd: annProject, OS: "linux", Files: m,
		Program: "/opt/renamed-bridge",
	}
}

// TestHosts reads the configurations of testdata/hosts, each of which is a machine: the lines "env NAME=VALUE" of its
// comment are the environment, and the last file is what is to be found.
func TestHosts(t *testing.T) {
	archives, err := filepath.Glob("testdata/hosts/*.txtar")
	if err != nil || len(archives) < 15 {
		t.Fatalf("%d archives, %v", len(archives), err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files, env := make(map[string]string), make(map[string]string)
			want := ""
			for _, f := range a.Files {
				where, rest, _ := strings.Cut(f.Name, "/")
				switch where {
				case "home":
					files[annHome+"/"+rest] = string(f.Data)
				case "project":
					files[annProject+"/"+rest] = string(f.Data)
				case "root":
					files["/"+rest] = string(f.Data)
				case "want":
					want = string(f.Data)
				}
			}
			h := machine(files, env)
			var c Config
			for line := range strings.Lines(string(a.Comment)) {
				line = strings.TrimSpace(line)
				if kv, ok := strings.CutPrefix(line, "env "); ok {
					name, value, _ := strings.Cut(kv, "=")
					env[name] = value
				}
				if system, ok := strings.CutPrefix(line, "os "); ok {
					h.OS = system
				}
			}
			c.TrustProject = env["TRUST"] != ""
			if list := env["CONFIG"]; list != "" {
				c.ServersConfig = strings.Split(list, ":")
			}
			got := describe(Discover(h, c))
			if *update {
				if n := len(a.Files); a.Files[n-1].Name == "want" {
					a.Files = a.Files[:n-1]
				}
				a.Files = append(a.Files, txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// describe writes all that was found as lines.
func describe(d Discovery) string {
	var b strings.Builder
	for _, s := range d.Servers {
		b.WriteString(line(s) + "\n")
	}
	for _, p := range d.Passed {
		fmt.Fprintf(&b, "passed over: %q of %s in %s (%s): %s\n", p.Server.Name, p.Server.Host, p.Server.File, p.Server.Shown, p.Reason)
	}
	for _, p := range d.Problems {
		fmt.Fprintf(&b, "problem: %s\n", p)
	}
	return b.String()
}

// line is a server without what is zero.
func line(s Server) string {
	b, err := json.Marshal(s)
	if err != nil {
		return err.Error()
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return err.Error()
	}
	for name, v := range fields {
		switch v := v.(type) {
		case nil:
			delete(fields, name)
		case string:
			if v == "" {
				delete(fields, name)
			}
		case bool:
			if !v {
				delete(fields, name)
			}
		case json.Number:
			if v == "0" {
				delete(fields, name)
			}
		case []any:
			if len(v) == 0 && name == "Args" {
				delete(fields, name)
			}
		}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(fields); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(out.String())
}
