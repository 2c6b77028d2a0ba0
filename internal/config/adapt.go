package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What is here says in the words that [importer.fill] knows what each program says in its own.

// flatten takes apart what some programs write as an object of its own.
func flatten(t object) {
	for _, key := range []string{"transport", "command"} {
		inner, ok := t[key].(object)
		if !ok {
			continue
		}
		delete(t, key)
		for k, v := range inner {
			if key == "command" && k == "path" {
				k = "command"
			}
			if _, ok := t[k]; !ok {
				t[k] = v
			}
		}
	}
}

// has says that a list, at keys of a document, has a name.
func has(doc any, name string, keys ...string) bool {
	v, _ := follow(doc, keys)
	list, _ := v.([]any)
	return slices.Contains(list, any(name))
}

func vscodeEntry(_ *importer, _ string, t object, _ *extra) error {
	if t["sandboxEnabled"] == true {
		return errors.New(`it is to run in VS Code's sandbox ("sandboxEnabled"), which mcp-bridge does not have`)
	}
	return nil
}

func codex(i *importer, _ string, t object, _ *extra) error {
	headers := make(object)
	if given, ok := t["http_headers"].(object); ok {
		maps.Copy(headers, given)
	}
	if named, ok := t["env_http_headers"].(object); ok {
		for header, v := range named {
			name, _ := v.(string)
			value := i.h.Getenv(name)
			if value == "" {
				return notSet(name)
			}
			headers[header] = value
		}
	}
	if name, ok := t["bearer_token_env_var"].(string); ok {
		token := i.h.Getenv(name)
		if token == "" {
			return notSet(name)
		}
		headers["Authorization"] = "Bearer " + token
	}
	if len(headers) > 0 {
		t["http_headers"] = headers
	}
	return nil
}

func geminiEntry(i *importer, name string, t object, x *extra) error {
	switch {
	case t["httpUrl"] != nil:
		t["url"], t["type"] = t["httpUrl"], "http"
		delete(t, "command")
	case t["url"] != nil:
		delete(t, "command")
	case t["tcp"] != nil:
		t["type"], t["url"] = "tcp", t["tcp"]
	}
	if _, ok := follow(i.f.doc, []string{"mcp", "allowed"}); ok && !has(i.f.doc, name, "mcp", "allowed") {
		x.off = `it is not among the "mcp.allowed" of ` + i.f.host
	}
	if has(i.f.doc, name, "mcp", "excluded") {
		x.off = `it is among the "mcp.excluded" of ` + i.f.host
	}
	return googleLogin(t)
}

func antigravity(_ *importer, _ string, t object, _ *extra) error {
	if t["serverUrl"] != nil {
		t["url"] = t["serverUrl"]
		delete(t, "command")
	}
	return googleLogin(t)
}

func googleLogin(t object) error {
	if kind, ok := t["authProviderType"].(string); ok && kind != "" && kind != "dynamic_discovery" {
		return fmt.Errorf("it logs in by %.50q, which mcp-bridge cannot do", kind)
	}
	return nil
}

// openCode reads {"tools": {"server_tool*": false}}, which stands beside the servers.
func openCode(i *importer, name string, _ object, x *extra) error {
	v, _ := follow(i.f.doc, []string{"tools"})
	tools, _ := v.(object)
	prefix := name + "_"
	all := false
	var allow []string
	for _, pattern := range slices.Sorted(maps.Keys(tools)) {
		on, _ := tools[pattern].(bool)
		rest, mine := strings.CutPrefix(pattern, prefix)
		start, glob := strings.CutSuffix(pattern, "*")
		whole := glob && strings.HasPrefix(prefix, start)
		switch {
		case whole:
			all = all || !on
		case mine && on:
			allow = append(allow, rest)
		case mine:
			x.deny = append(x.deny, rest)
		}
	}
	if all && allow == nil {
		x.off = `its tools are switched off ("tools") in ` + i.f.host
	} else if all {
		x.allow = allow
	}
	return nil
}

func zed(_ *importer, _ string, t object, x *extra) error {
	if t["command"] == nil && t["url"] == nil && (t["source"] == "extension" || t["settings"] != nil) {
		x.own = "an extension of Zed runs it, and only Zed knows how"
	}
	return nil
}

func continueEntry(_ *importer, _ string, t object, _ *extra) error {
	if t["uses"] != nil {
		return errors.New(`it is fetched from Continue's hub ("uses"): write out what it is`)
	}
	if o, ok := t["requestOptions"].(object); ok && o["headers"] != nil && t["headers"] == nil {
		t["headers"] = o["headers"]
	}
	if key, ok := t["apiKey"].(string); ok {
		headers, _ := t["headers"].(object)
		headers = maps.Clone(headers)
		if headers == nil {
			headers = make(object)
		}
		headers["Authorization"] = "Bearer " + key
		t["headers"] = headers
	}
	return nil
}

func goose(i *importer, _ string, t object, x *extra) error {
	switch kind, _ := t["type"].(string); kind {
	case "builtin", "platform", "frontend", "inline_python":
		x.own = "it is a part of Goose itself (" + kind + ")"
		return nil
	}
	if env, ok := t["envs"].(object); ok {
		env = maps.Clone(env)
		maps.DeleteFunc(env, func(name string, _ any) bool { return gooseDrops(name) })
		t["envs"] = env
	}
	if err := gooseHeaders(i, t); err != nil {
		return err
	}
	names, ok := texts(t["env_keys"])
	if !ok {
		return errors.New(`its "env_keys" are not a list of texts`)
	}
	for _, name := range names {
		if i.h.Getenv(name) == "" {
			return fmt.Errorf("%s is in Goose's keyring, which mcp-bridge does not read: set it in the environment of mcp-bridge", name)
		}
	}
	return nil
}

// gooseHeaders fills in variables, which Goose does in headers only, and of the entry's own first.
func gooseHeaders(i *importer, t object) error {
	headers, ok := t["headers"].(object)
	if !ok {
		return nil
	}
	headers = maps.Clone(headers)
	own, _ := t["envs"].(object)
	x := i.x
	x.syntax = braced
	x.getenv = func(name string) string {
		if v, _ := text(own[name]); v != "" {
			return v
		}
		return i.h.Getenv(name)
	}
	for name, v := range headers {
		s, _ := v.(string)
		s, err := x.expand(s)
		if err != nil {
			return err
		}
		headers[name] = s
	}
	t["headers"] = headers
	return nil
}

// gooseDrops says that Goose lets no entry set a variable, because it decides which code is run.
func gooseDrops(name string) bool {
	switch name = strings.ToUpper(name); name {
	case "PATH", "PYTHONPATH", "PYTHONHOME", "NODE_OPTIONS", "RUBYOPT", "GEM_PATH", "GEM_HOME", "CLASSPATH", "GOROOT":
		return true
	}
	return strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "DYLD_")
}

func amp(i *importer, _ string, t object, x *extra) error {
	v, _ := follow(i.f.doc, []string{"amp.mcpPermissions"})
	rules, _ := v.([]any)
	command, _ := text(t["command"])
	args, _ := texts(t["args"])
	address, _ := text(t["url"])
	for _, r := range rules {
		rule, _ := r.(object)
		matches, ok := rule["matches"].(object)
		if !ok {
			return errors.New(`its program's "amp.mcpPermissions" cannot be read`)
		}
		fits := true
		for key, pattern := range matches {
			have := map[string]string{"command": command, "args": strings.Join(args, " "), "url": address}[key]
			glob, _ := pattern.(string)
			ok, err := like(glob, have)
			fits = fits && (ok || err != nil) && have != ""
		}
		if !fits {
			continue
		}
		if rule["action"] != "allow" {
			x.off = `it is not allowed by "amp.mcpPermissions"`
		}
		return nil
	}
	return nil
}

func copilot(_ *importer, _ string, t object, x *extra) error {
	tools, ok := texts(t["tools"])
	if !ok {
		return errors.New(`its "tools" are not a list of texts`)
	}
	if t["tools"] == nil || slices.Contains(tools, "*") {
		return nil
	}
	x.allow = make([]string, len(tools))
	for n, name := range tools {
		x.allow[n] = exactly(name)
	}
	return nil
}
