package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// extra is what a program's own keys say of an entry, in terms of a [Server].
type extra struct {
	off         string // why the program does not use it
	own         string // why it is nothing that can be used outside of the program
	allow, deny []string
}

const (
	maxArgs = 1000        // and variables, and headers
	maxArg  = 128<<10 - 1 // bytes; Linux's MAX_ARG_STRLEN
)

// entry makes a server of an entry. own says that it is none that could be used, and is to be passed over.
func (i *importer) entry(it item) (s Server, own string) {
	s = Server{Name: it.name, Host: i.f.host, File: i.f.file}
	t, ok := it.value.(object)
	if !ok {
		s.Unavailable = "its entry is not an object"
		return s, ""
	}
	t = maps.Clone(t) // it is changed
	flatten(t)
	var x extra
	err := error(nil)
	if i.f.adapt != nil {
		err = i.f.adapt(i, it.name, t, &x)
	}
	if x.own != "" {
		s.Shown = shown(t)
		return s, x.own
	}
	err = errors.Join(err, i.fill(t, &s, x))
	if !i.c.AllowSelfServer && i.isSelf(s) {
		return s, "it starts mcp-bridge itself; " + EnvAllowSelfServer + "=1 uses it all the same"
	}
	if disabled(t) && x.off == "" {
		x.off = "it is disabled in " + s.Host
	}
	switch {
	case x.off != "" && !i.c.UseDisabled:
		s.Disabled = true
		s.Unavailable = x.off + "; " + EnvDisabledServers + "=use uses it all the same"
	case err != nil:
		// One reason is enough to act on, and what several would say is mostly the same.
		s.Unavailable, _, _ = strings.Cut(err.Error(), "\n")
	}
	return s, ""
}

func disabled(t object) bool { return t["disabled"] == true || t["enabled"] == false }

// What programs call the same thing. Who reads an entry and who shows it take the names from here, so that nothing is
// obeyed that is not shown.
var (
	commandKeys = []string{"command", "cmd"}
	addressKeys = []string{"url", "serverUrl", "httpUrl", "uri", "server_url"}
	dirKeys     = []string{"cwd", "workingDirectory"}
	envKeys     = []string{"env", "environment", "envs"}
	envFileKeys = []string{"envFile", "env_file"}
)

// transportOf reads the words that programs have for transports.
func transportOf(word string) (Transport, error) {
	switch strings.ToLower(word) {
	case "":
		return "", nil
	case "stdio", "local":
		return Stdio, nil
	case "http", "streamable-http", "streamable_http", "streamablehttp", "http-stream":
		return HTTP, nil
	case "sse":
		return SSE, nil
	case "remote":
		return Remote, nil
	case "ws", "websocket", "tcp":
		return "", fmt.Errorf("its type is %q, which is no transport of MCP: use a server with stdio or http", word)
	}
	return "", fmt.Errorf("its type %.50q is unknown: known are stdio, http, streamable-http and sse", word)
}

// fill reads the keys that mean the same in all programs.
func (i *importer) fill(t object, s *Server, x extra) error {
	s.Shown = shown(t)
	word, _ := first(t, "type", "transport").(string)
	kind, err := transportOf(word)
	if err != nil {
		return err
	}
	command := first(t, commandKeys...)
	address := first(t, addressKeys...)
	switch {
	case kind == "" && command != nil:
		kind = Stdio
	case kind == "" && address != nil:
		if kind = i.f.untyped; kind == "" {
			kind = Remote
		}
	case kind == "":
		return fmt.Errorf("its entry has neither a command nor a url; its keys are %s", keys(t))
	case kind == Stdio && command == nil:
		return fmt.Errorf("its entry has no command; its keys are %s", keys(t))
	case kind != Stdio && address == nil:
		return fmt.Errorf("its entry has no url; its keys are %s", keys(t))
	}
	s.Transport = kind
	i.times(t, s)
	if err := i.filters(t, s, x); err != nil {
		return err
	}
	if kind == Stdio {
		return i.fillStdio(t, command, s)
	}
	return i.fillRemote(t, address, s)
}

func (i *importer) fillStdio(t object, command any, s *Server) error {
	// Some write the command and its arguments as one list.
	parts, ok := texts(command)
	if one, isText := text(command); isText {
		parts, ok = []string{one}, true
	}
	switch {
	case !ok:
		return errors.New(`its "command" is not text`)
	case len(parts) == 0 || parts[0] == "":
		return errors.New(`its "command" is empty`)
	}
	args, ok := texts(t["args"])
	if !ok {
		return errors.New(`its "args" are not a list of texts`)
	}
	parts = append(parts, args...)
	if len(parts) > maxArgs {
		return fmt.Errorf("it has more than %d arguments", maxArgs)
	}
	var err error
	for n, p := range parts {
		if parts[n], err = i.value(p); err != nil {
			return err
		}
	}
	s.Command, s.Args = parts[0], parts[1:]
	if s.Env, err = i.environment(t); err != nil {
		return err
	}
	dir, ok := text(first(t, dirKeys...))
	switch {
	case !ok:
		return errors.New(`its "cwd" is not text`)
	case dir != "":
		if dir, err = i.value(dir); err != nil {
			return err
		}
		if s.Dir = dir; !path.IsAbs(dir) {
			x := i.x
			x.dir = i.project
			s.Dir = x.absolute(dir)
		}
	case !i.mine:
		s.Dir = i.project
	}
	if s.Command == "" {
		return errors.New(`its "command" is empty`)
	}
	return nil
}

// value fills in variables, and refuses what no process can be given.
func (i *importer) value(s string) (string, error) {
	v, err := i.x.expand(s)
	switch {
	case err != nil:
		return "", err
	case strings.Contains(v, "\x00"):
		return "", errors.New("it has a NUL character in its command, arguments or environment")
	case len(v) > maxArg:
		return "", fmt.Errorf("one of its values is longer than %d bytes", maxArg)
	}
	return v, nil
}

func (i *importer) environment(t object) (map[string]string, error) {
	env := make(map[string]string)
	if name, ok := text(first(t, envFileKeys...)); ok && name != "" {
		name, err := i.value(name)
		if err != nil {
			return nil, err
		}
		x := i.x
		x.dir = i.project
		b, _, err := readFile(i.h.Files, x.absolute(name), maxText)
		if err != nil {
			return nil, fmt.Errorf("its envFile %s cannot be read: %s", name, cause(err))
		}
		env = dotenv(b)
	}
	own, err := i.values(first(t, envKeys...), "env")
	if err != nil {
		return nil, err
	}
	maps.Copy(env, own)
	if len(env) > maxArgs {
		return nil, fmt.Errorf("it sets more than %d variables", maxArgs)
	}
	for name, v := range env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(v, "\x00") || len(name)+len(v) >= maxArg {
			return nil, fmt.Errorf("it sets a variable that no process can have: %.50q", name)
		}
	}
	if len(env) == 0 {
		return nil, nil
	}
	return env, nil
}

// values reads an object of texts, with their variables filled in. Null is what has been taken back.
func (i *importer) values(v any, what string) (map[string]string, error) {
	if v == nil {
		return nil, nil
	}
	t, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("its %q is not an object", what)
	}
	values := make(map[string]string, len(t))
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if t[name] == nil {
			continue
		}
		raw, ok := text(t[name])
		if !ok {
			return nil, fmt.Errorf("its %q has a %.50q that is not text", what, name)
		}
		value, err := i.value(raw)
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, nil
}

func (i *importer) fillRemote(t object, address any, s *Server) (err error) {
	raw, ok := text(address)
	if !ok {
		return errors.New(`its "url" is not text`)
	}
	if s.URL, err = i.value(strings.TrimSpace(raw)); err != nil {
		return err
	}
	u, err := url.Parse(s.URL)
	switch {
	case err != nil:
		return errors.New("its url is none") // the reason would quote it, and it may have a secret in it
	case u.Scheme == "" || u.Opaque != "":
		return errors.New("its url does not begin with http:// or https://")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("its url begins with %.20q: only http and https can be used", u.Scheme)
	case u.Host == "":
		return errors.New("its url names no host")
	}
	if t["headersHelper"] != nil {
		return errors.New(`a program ("headersHelper") makes its headers, which mcp-bridge does not start: write them into "headers"`)
	}
	if s.Headers, err = i.values(first(t, "headers", "http_headers"), "headers"); err != nil {
		return err
	}
	for name, v := range s.Headers {
		if name == "" || strings.ContainsAny(name, "\r\n\x00: ") || strings.ContainsAny(v, "\r\n\x00") {
			return fmt.Errorf("its header %.50q is none", name)
		}
	}
	if len(s.Headers) > maxArgs {
		return fmt.Errorf("it has more than %d headers", maxArgs)
	}
	s.OAuth, err = i.oauth(t)
	return err
}

func (i *importer) oauth(t object) (*OAuth, error) {
	o, ok := first(t, "oauth", "auth").(object)
	scopes := first(o, "scopes", "scope")
	if scopes == nil {
		scopes = t["scopes"]
	}
	if !ok && scopes == nil {
		return nil, nil
	}
	var a OAuth
	for _, field := range []struct {
		to   *string
		keys []string
	}{
		{&a.ClientID, []string{"clientId", "client_id", "CLIENT_ID"}},
		{&a.ClientSecret, []string{"clientSecret", "client_secret", "CLIENT_SECRET"}},
		{&a.MetadataURL, []string{"authServerMetadataUrl"}},
	} {
		raw, ok := text(first(o, field.keys...))
		if !ok {
			return nil, fmt.Errorf("its oauth has a %q that is not text", field.keys[0])
		}
		var err error
		if *field.to, err = i.value(raw); err != nil {
			return nil, err
		}
	}
	if port, ok := text(o["callbackPort"]); ok && port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, errors.New("its oauth has a callbackPort that is no port")
		}
		a.CallbackPort = int(n)
	}
	if list, ok := texts(scopes); ok {
		a.Scopes = list
	} else if words, ok := text(scopes); ok {
		a.Scopes = strings.Fields(words)
	}
	return &a, nil
}

// times reads how long things may take. What is no number there is not worth a server.
func (i *importer) times(t object, s *Server) {
	for _, k := range i.f.times {
		n, ok := t[k.key].(number)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(string(n), 64)
		if err != nil || f <= 0 {
			continue
		}
		d := time.Duration(min(f*float64(k.unit), float64(24*time.Hour)))
		if k.start {
			s.StartTimeout = d
		} else {
			s.CallTimeout = d
		}
	}
}

// filters reads which tools may be called. Where that cannot be read, none may.
func (i *importer) filters(t object, s *Server, x extra) error {
	for _, list := range []struct {
		to   *[]string
		more []string
		keys []string
	}{
		{&s.Allow, x.allow, []string{"includeTools", "enabled_tools", "enabledTools", "available_tools"}},
		{&s.Deny, x.deny, []string{"excludeTools", "disabled_tools", "disabledTools"}},
	} {
		*list.to = list.more
		for _, key := range list.keys {
			v, there := t[key]
			if !there || v == nil {
				continue
			}
			names, ok := texts(v)
			if !ok {
				return fmt.Errorf("its %q are not a list of texts", key)
			}
			if len(names) == 0 && (i.f.all || list.to == &s.Deny) {
				continue
			}
			all := make([]string, 0, len(names)+len(*list.to))
			all = append(all, *list.to...)
			for _, name := range names {
				if !i.f.globs {
					name = exactly(name)
				}
				all = append(all, name)
			}
			*list.to = all
		}
	}
	return nil
}

// exactly is a glob that fits one name.
func exactly(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// Permits says whether a tool of this server may be called at all.
func (s *Server) Permits(tool string) bool {
	fits := func(globs []string, byDefault bool) bool {
		return slices.ContainsFunc(globs, func(g string) bool {
			ok, err := like(g, tool)
			return ok || err != nil && byDefault
		})
	}
	return (s.Allow == nil || fits(s.Allow, false)) && !fits(s.Deny, true)
}

// like is path.Match for texts in which "/" has no meaning.
func like(glob, text string) (bool, error) {
	return path.Match(strings.ReplaceAll(glob, "/", "\x00"), strings.ReplaceAll(text, "/", "\x00"))
}

// first is the value of the first key that is there.
func first(t object, keys ...string) any {
	for _, k := range keys {
		if v, ok := t[k]; ok && v != nil {
			return v
		}
	}
	return nil
}

// text makes text of what people write without quotes too. Nothing is empty text.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case number:
		return string(v), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

func texts(v any) ([]string, bool) {
	if v == nil {
		return nil, true
	}
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	all := make([]string, len(list))
	for n, e := range list {
		if all[n], ok = text(e); !ok || e == nil {
			return nil, false
		}
	}
	return all, true
}

// keys are those of an entry, for the one who has mistyped one.
func keys(t object) string {
	const most = 10
	names := slices.Sorted(maps.Keys(t))
	for n := range names {
		names[n] = fmt.Sprintf("%.40q", names[n])
	}
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > most:
		names = append(names[:most], "...")
	}
	return strings.Join(names, ", ")
}
