package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// claudeDirs are the directories under which Claude Code may keep what it knows of a project: the root of its repository, of which
// a worktree is a part, or else itself.
func (h Host) claudeDirs(project, real string) []string {
	var dirs []string
	for _, dir := range []string{h.repository(real), project, real} {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// repository is the root of the git repository that a directory is in, or the directory. Of a worktree it is that of the first.
func (h Host) repository(dir string) string {
	for d := dir; ; d = path.Dir(d) {
		mark := path.Join(d, ".git")
		b, _, err := readFile(h.Files, mark, 4<<10)
		switch {
		case err == errNotFile:
			return d
		case err == nil:
			// See gitrepository-layout(5). Both have to name each other: a file alone could name any repository.
			at, _ := strings.CutPrefix(strings.TrimSpace(string(b)), "gitdir: ")
			if !path.IsAbs(at) {
				at = path.Join(d, at)
			}
			back, _, err := readFile(h.Files, path.Join(at, "gitdir"), 4<<10)
			root, ok := strings.CutSuffix(path.Dir(at), "/.git/worktrees")
			other := strings.TrimSpace(string(back))
			if !path.IsAbs(other) {
				other = path.Join(at, other)
			}
			if ok && err == nil && other == mark {
				return root
			}
			return d
		case !absent(err):
			return d
		case d == path.Dir(d):
			return dir
		}
	}
}

func claudeSwitches(i *importer, name string, t object, x *extra) error {
	for _, dir := range i.dirs {
		if has(i.claude, name, "projects", dir, "disabledMcpServers") {
			x.off = "it is disabled in Claude Code for this project"
		}
	}
	return claudePolicy(i, name, t)
}

func claudeApproval(i *importer, name string, t object, x *extra) error {
	for _, dir := range i.dirs {
		if has(i.claude, name, "projects", dir, "disabledMcpjsonServers") {
			x.off = "it was rejected in Claude Code"
		}
	}
	for _, s := range i.claudeSettings() {
		if has(s.doc, name, "disabledMcpjsonServers") {
			x.off = "it was rejected in Claude Code"
		}
	}
	return claudePolicy(i, name, t)
}

// A claudeSetting is one of Claude Code's files of settings, which are none with servers.
type claudeSetting struct {
	file    string
	doc     any
	machine bool // it is the machine's, not the user's or the project's
}

// claudeSettings are those of the machine, the user's, and the project's.
func (i *importer) claudeSettings() []claudeSetting {
	if i.settings != nil {
		return i.settings
	}
	i.settings = []claudeSetting{}
	patterns := []string{
		"linux:/etc/claude-code/managed-settings.json", "mac:/Library/Application Support/ClaudeCode/managed-settings.json",
		"linux:/etc/claude-code/managed-settings.d/*.json", "mac:/Library/Application Support/ClaudeCode/managed-settings.d/*.json",
		"${CLAUDE_CONFIG_DIR:-~/.claude}/settings.json",
	}
	for n, pattern := range patterns {
		for _, p := range i.h.place(pattern, i.project) {
			names, _ := glob(i.h.Files, p) // what cannot be listed cannot be read either
			for _, name := range names {
				i.claudeSettingsAt(name, n < len(patterns)-1)
			}
		}
	}
	for _, dir := range i.dirs {
		i.claudeSettingsAt(path.Join(dir, ".claude/settings.json"), false)
		i.claudeSettingsAt(path.Join(dir, ".claude/settings.local.json"), false)
	}
	return i.settings
}

func (i *importer) claudeSettingsAt(name string, machine bool) {
	b, _, err := readFile(i.h.Files, name, maxFile)
	if err != nil {
		return
	}
	if doc, _, _ := parse(name, b, strict, nil); doc != nil { // what is wrong with it is Claude Code's business
		i.settings = append(i.settings, claudeSetting{name, doc, machine})
	}
}

// claudePolicy says that Claude Code is not allowed a server (https://code.claude.com/docs/en/managed-mcp).
func claudePolicy(i *importer, name string, t object) error {
	if i.managed != "" {
		return fmt.Errorf("%s allows Claude Code no servers but its own", i.managed)
	}
	if err := claudeDenied(i, name, t); err != nil {
		return err
	}
	var allowed []object // of all files together, unless the machine's says that only its own count
	var files []string
	for _, s := range i.claudeSettings() {
		if rules, ok := claudeRules(s.doc, "allowedMcpServers"); ok {
			allowed, files = append(allowed, rules...), append(files, s.file)
		}
		if only, _ := follow(s.doc, []string{"allowManagedMcpServersOnly"}); only == true && s.machine {
			break
		}
	}
	if files != nil && !i.claudeAllowed(allowed, name, t) {
		return fmt.Errorf(`it is not among the "allowedMcpServers" of %s`, strings.Join(files, " and "))
	}
	return nil
}

func claudeDenied(i *importer, name string, t object) error {
	for _, s := range i.claudeSettings() {
		if rules, ok := claudeRules(s.doc, "deniedMcpServers"); ok && slices.ContainsFunc(rules, func(r object) bool { return i.claudeRuleFits(r, name, t) }) {
			return fmt.Errorf(`it is among the "deniedMcpServers" of %s`, s.file)
		}
	}
	return nil
}

func claudeRules(doc any, key string) (rules []object, ok bool) {
	v, _ := follow(doc, []string{key})
	list, ok := v.([]any)
	for _, r := range list {
		if rule, ok := r.(object); ok {
			rules = append(rules, rule)
		}
	}
	return rules, ok
}

// claudeAllowed heeds names only where no rule is about commands, or for a remote server about addresses.
func (i *importer) claudeAllowed(rules []object, name string, t object) bool {
	key := "serverUrl"
	if _, local := t["command"]; local {
		key = "serverCommand"
	}
	strict := slices.ContainsFunc(rules, func(r object) bool { return r[key] != nil })
	return slices.ContainsFunc(rules, func(r object) bool {
		return (!strict || r[key] != nil) && i.claudeRuleFits(r, name, t)
	})
}

// claudeRuleFits fills in variables on both sides.
func (i *importer) claudeRuleFits(rule object, name string, t object) bool {
	filled := func(list ...string) []string {
		for n, s := range list {
			if full, err := i.x.expand(s); err == nil {
				list[n] = full
			}
		}
		return list
	}
	if rule["serverName"] == any(name) {
		return true
	}
	if want, ok := texts(rule["serverCommand"]); ok && len(want) > 0 {
		command, _ := text(t["command"])
		args, _ := texts(t["args"])
		return slices.Equal(filled(slices.Clone(want)...), filled(append([]string{command}, args...)...))
	}
	pattern, _ := text(rule["serverUrl"])
	address, _ := text(t["url"])
	if pattern == "" || address == "" {
		return false
	}
	pattern, address = filled(pattern)[0], filled(address)[0]
	scheme, host, where := urlParts(address)
	pscheme, phost, pwhere := urlParts(pattern)
	if pwhere == "" {
		where = "" // any path
	}
	only := strings.ReplaceAll(exactly(pscheme+phost+pwhere), `\*`, "*") // no other character has a meaning
	ok, _ := like(only, scheme+host+where)
	return ok
}

// urlParts are the scheme, the host as it is compared, and the rest of an address or of a pattern.
func urlParts(s string) (scheme, host, rest string) {
	scheme, s, ok := strings.Cut(s, "://")
	if !ok {
		return "", "", scheme
	}
	n := strings.IndexAny(s, "/?#")
	if n < 0 {
		n = len(s)
	}
	return strings.ToLower(scheme) + "://", strings.TrimSuffix(strings.ToLower(s[:n]), "."), s[n:]
}
