package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// EnvGuard is set in the environment of every server that the bridge starts. A bridge that finds it in its own has been
// started by a bridge, directly or not, and uses no servers: the two would start each other for ever.
const EnvGuard = "MCP_BRIDGE_GUARD"

const (
	maxServers = 1000 // in one file
	maxName    = 128  // characters
	maxHistory = 64 << 20
)

// A Discovery is all that configurations of MCP servers say.
type Discovery struct {
	Servers  []Server  // in the order of precedence, each name once; some are unavailable
	Passed   []Passed  // entries that are not in Servers
	Problems []Problem // what could not be read
	Project  Project
}

// Passed is an entry that was passed over, and why.
type Passed struct {
	Server Server
	Reason string
}

// A Problem is a file that could not be read, or a part of one.
type Problem struct {
	File         string
	Line, Column int // from one; 0 if there is no such place
	Text         string
}

func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.Text
	case p.Column > 0:
		return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
	case p.Line > 0:
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
	}
	return p.File + ": " + p.Text
}

// Discover reads the configurations of all programs that it knows. It starts nothing and changes nothing, and never
// fails as a whole: what is wrong with one file or entry is told of that file or entry.
func Discover(h Host, c Config) Discovery {
	i := newImporter(h)
	i.c = c
	if h.Getenv(EnvGuard) != "" && !c.AllowSelfServer {
		i.d.Problems = append(i.d.Problems, Problem{Text: EnvGuard + " is set: this bridge was started by an MCP server of another bridge, and uses none itself; " + EnvAllowSelfServer + "=1 changes that"})
		return i.d
	}
	i.project, i.real = h.project()
	i.dirs = h.claudeDirs(i.project, i.real)
	for _, name := range c.ServersConfig {
		i.named(name)
	}
	all := sources()
	for _, s := range all {
		for _, f := range i.files(s, s.user) {
			i.use(f)
		}
	}
	i.useProject(all)
	return i.d
}

// An importer makes servers of documents.
type importer struct {
	h             Host
	c             Config
	d             Discovery
	project, real string         // the project's directory, as it was given and without links
	dirs          []string       // what Claude Code may call it
	names         map[string]int // indices into d.Servers
	read          map[string]bool
	told          map[string]bool // files and directories that cannot be read
	given         map[string]bool // files of MCP_SERVERS_CONFIG

	claude   any             // what Claude Code's own file says
	settings []claudeSetting // nil before they are read
	managed  string          // the file that forbids all other servers to Claude Code
	mine     bool            // the file being read is the user's, not the project's
	f        loaded          // the file being read
	x        expander
}

func newImporter(h Host) *importer {
	return &importer{h: h, names: make(map[string]int), read: make(map[string]bool), told: make(map[string]bool), given: make(map[string]bool)}
}

// loaded is a file that could be read.
type loaded struct {
	source
	file string
	doc  any
}

func (i *importer) problem(file, format string, args ...any) {
	i.d.Problems = append(i.d.Problems, Problem{File: file, Text: fmt.Sprintf(format, args...)})
}

// files reads those of a source that exist and have not been read yet.
func (i *importer) files(s source, patterns []string) (list []loaded) {
	for _, pattern := range patterns {
		for _, p := range i.h.place(pattern, i.project) {
			names, err := glob(i.h.Files, p)
			if err != nil && !absent(err) {
				i.unreadable(path.Dir(p), err)
			}
			for _, name := range names {
				if f, ok := i.load(s, name, false); ok {
					list = append(list, f)
				}
			}
		}
	}
	return list
}

// unreadable tells of a file or directory, or, once for all that would be in it, of the directory above it that may not be
// entered.
func (i *importer) unreadable(name string, err error) {
	for name != path.Dir(name) {
		if _, serr := fs.Stat(i.h.Files, below(name)); !errors.Is(serr, fs.ErrPermission) {
			break
		}
		name = path.Dir(name)
	}
	if !i.told[name] {
		i.told[name] = true
		i.problem(name, "cannot be read: %s", cause(err))
	}
}

// load reads one file, if it is there; if it must be, its absence is a problem.
func (i *importer) load(s source, name string, must bool) (f loaded, ok bool) {
	if i.read[name] {
		return f, false
	}
	most := int64(maxFile)
	if path.Base(name) == ".claude.json" {
		most = maxHistory // all that was ever typed is in it
	}
	b, _, err := readFile(i.h.Files, name, most)
	if err != nil {
		switch {
		case must:
			i.problem(name, "cannot be read: %s", cause(err))
		case !absent(err):
			i.unreadable(name, err)
		}
		return f, false
	}
	i.read[name] = true
	doc, notes, err := parse(name, b, s.format, s.keep(i.dirs))
	if err != nil {
		p := Problem{File: name, Text: "cannot be read: " + err.Error()}
		if e, ok := err.(*syntaxError); ok { // it is made by parse, and wrapped by nobody
			p.Line, p.Column = e.line, e.column
		}
		i.d.Problems = append(i.d.Problems, p)
		return f, false
	}
	for _, n := range notes {
		i.problem(name, "%s", n)
	}
	if _, ok := doc.(object); !ok {
		i.problem(name, "cannot be read: it is no object")
		return f, false
	}
	if s.roots == nil {
		s.shape = shapeOf(doc, s.shape)
	}
	return loaded{s, name, doc}, true
}

// named reads what MCP_SERVERS_CONFIG names: a file, or all in a directory.
func (i *importer) named(name string) {
	i.mine = true
	names, err := list(i.h.Files, name)
	if err != nil {
		names = []string{""} // no directory
	}
	for _, n := range names {
		switch strings.ToLower(path.Ext(n)) {
		case "", ".json", ".jsonc", ".toml", ".yaml", ".yml":
			if n != "" && path.Ext(n) == "" {
				continue
			}
			file := path.Join(name, n)
			if i.given[file] {
				continue
			}
			f, ok := i.load(anySource(), file, true)
			i.given[file] = true
			delete(i.read, file) // there may be more in it for its own program; and as a project's it is a part of what is trusted
			if ok {
				i.use(f)
			}
		}
	}
}

// keep says which keys of a file matter, so that the rest of it, which may be megabytes, need not be kept.
func (s shape) keep(dirs []string) func(key ...string) bool {
	if s.roots == nil {
		return nil
	}
	return func(key ...string) bool {
		if slices.Contains(s.keys, key[0]) {
			return true
		}
		return slices.ContainsFunc(s.roots, func(root []string) bool {
			if len(root) == 0 {
				return true
			}
			if root[0] != key[0] {
				return false
			}
			return len(key) == 1 || len(root) == 1 || root[1] != thisProject || slices.Contains(dirs, key[1])
		})
	}
}

// follow goes along keys.
func follow(doc any, root []string) (any, bool) {
	for _, key := range root {
		t, ok := doc.(object)
		if !ok {
			return nil, false
		}
		if doc, ok = t[key]; !ok {
			return nil, false
		}
	}
	return doc, true
}

// rootsOf puts the directories, in turn, in the place of the project.
func rootsOf(roots [][]string, dirs []string) (list [][]string) {
	for _, root := range roots {
		at := slices.Index(root, thisProject)
		if at < 0 {
			list = append(list, root)
			continue
		}
		for _, dir := range dirs {
			of := slices.Clone(root)
			of[at] = dir
			list = append(list, of)
		}
	}
	return list
}

// An item is one entry of a file, before anything is made of it.
type item struct {
	name  string
	value any
}

// items lists the entries of a file.
func (i *importer) items(f loaded) (list []item) {
	roots := rootsOf(f.roots, i.dirs)
	for n, root := range roots {
		v, ok := follow(f.doc, root)
		if !ok || v == nil {
			continue
		}
		var some []item
		switch v := v.(type) {
		case object:
			if len(root) == 0 && single(v) {
				return []item{{strings.TrimSuffix(path.Base(f.file), path.Ext(f.file)), v}}
			}
			for _, name := range slices.Sorted(maps.Keys(v)) {
				inner := append(slices.Clone(root), name)
				if n > 0 && slices.ContainsFunc(roots[:n], func(r []string) bool { return slices.Equal(r, inner) }) && !single(v[name]) {
					continue // was a root itself
				}
				some = append(some, item{name, v[name]})
			}
			if len(root) > 1 && single(v) {
				continue // an entry that has the name of a root
			}
		case []any:
			for n, e := range v {
				t, _ := e.(object)
				name, ok := t["name"].(string)
				if !ok {
					name = fmt.Sprintf("%s-%d", strings.ToLower(f.host), n+1)
				}
				some = append(some, item{name, e})
			}
		default:
			i.problem(f.file, "%q is not an object with MCP servers", strings.Join(root, "."))
			continue
		}
		list = append(list, some...)
	}
	if len(list) > maxServers {
		i.problem(f.file, "none of its %d MCP servers is used: more than %d are too many", len(list), maxServers)
		return nil
	}
	return list
}

// single says that a value looks like one entry rather than several.
func single(v any) bool {
	t, _ := v.(object)
	for _, key := range slices.Concat(commandKeys, addressKeys) {
		switch t[key].(type) {
		case string, []any:
			return true
		}
	}
	return false
}

// use makes servers of the entries of a file.
func (i *importer) use(f loaded) {
	i.f, i.mine = f, true
	i.useItems(i.items(f))
}

func (i *importer) useItems(items []item) {
	i.x = i.expander()
	if i.f.host == "Claude Code (managed)" && len(items) > 0 {
		i.managed = i.f.file
	}
	if path.Base(i.f.file) == ".claude.json" {
		i.claude = i.f.doc
	}
	for _, it := range items {
		if why := badName(it.name); why != "" {
			i.problem(i.f.file, "an MCP server cannot be used, because %s: %.150q", why, it.name)
			continue
		}
		s, own := i.entry(it)
		if own != "" {
			i.d.Passed = append(i.d.Passed, Passed{s, own})
			continue
		}
		i.add(s)
	}
}

// add puts a server into its place: the first of a name wins, as a whole. Only what its own program does not use
// either gives way.
func (i *importer) add(s Server) {
	n, taken := i.names[s.Name]
	switch {
	case !taken:
		i.names[s.Name] = len(i.d.Servers)
		i.d.Servers = append(i.d.Servers, s)
	case i.d.Servers[n].Disabled && !s.Disabled:
		first := i.d.Servers[n]
		i.d.Passed = append(i.d.Passed, Passed{first, first.Unavailable + "; the one in " + s.File + " is used"})
		i.d.Servers[n] = s
	case i.given[s.File] && i.d.Servers[n].File == s.File: // the same, read once more
	default:
		i.d.Passed = append(i.d.Passed, Passed{s, "shadowed by the one in " + i.d.Servers[n].File})
	}
}

// badName says what is wrong with a name.
func badName(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "its name is empty"
	case !utf8.ValidString(name):
		return "its name is not UTF-8"
	case utf8.RuneCountInString(name) > maxName:
		return fmt.Sprintf("its name is longer than %d characters", maxName)
	case strings.ContainsFunc(name, unicode.IsControl):
		return "its name has a control character"
	}
	return ""
}

// expander fills in variables as the program of the file does.
func (i *importer) expander() expander {
	x := expander{
		syntax: i.f.syntax, host: i.f.host, getenv: i.h.Getenv, home: i.h.Home, project: i.project, files: i.h.Files, dir: path.Dir(i.f.file),
	}
	if x.syntax&secrets != 0 {
		// Continue reads them from files first. The project's is the project's: it counts only for its own entries.
		values := make(map[string]string)
		names := []string{path.Join(i.h.Home, ".continue/.env")}
		if !i.mine {
			names = append(names, path.Join(i.project, ".continue/.env"), path.Join(i.project, ".env"))
		}
		for _, name := range names {
			if b, _, err := readFile(i.h.Files, name, maxSecret); err == nil {
				maps.Copy(values, dotenv(b))
			}
		}
		x.getenv = func(name string) string {
			if v := values[name]; v != "" {
				return v
			}
			return i.h.Getenv(name)
		}
	}
	return x
}
