package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// shownOf is shown of an entry of which nothing has been made yet.
func shownOf(entry any) string { return shown(flat(entry)) }

func flat(entry any) object {
	t, _ := entry.(object)
	t = maps.Clone(t)
	flatten(t)
	return t
}

// wholeOf is shownOf with all that decides what runs, and what of this host goes to whom: for who is to trust it.
func wholeOf(entry any) string {
	t := flat(entry)
	const most = 10_000 // none of it may be beyond the end that is seen
	words := []string{shownUpTo(t, most)}
	if address, ok := text(first(t, addressKeys...)); ok && address != "" {
		words[0] = withVariables(words[0], address)
	}
	for _, keys := range [][]string{dirKeys, envFileKeys} {
		if v, ok := text(first(t, keys...)); ok && v != "" {
			words = append(words, keys[0]+" "+visible(v))
		}
	}
	env, _ := first(t, envKeys...).(object)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value, ok := text(env[name])
		if !ok {
			value = fmt.Sprint(env[name])
		}
		shown := hide(value)
		if sensitive(name) || sensitive(value) {
			shown = hideValue(value)
		}
		words = append(words, "env "+name+"="+visible(withVariables(shown, value)))
	}
	for _, key := range []string{"headers", "http_headers", "env_http_headers", "bearer_token_env_var", "requestOptions", "apiKey", "oauth", "auth"} {
		words = append(words, sent(key, t[key])...)
	}
	return short(strings.Join(words, "; "), most)
}

// sent is a value of an entry that goes to its server: its variables, while the rest may be a secret.
func sent(name string, v any) (words []string) {
	if t, ok := v.(object); ok {
		for _, key := range slices.Sorted(maps.Keys(t)) {
			words = append(words, sent(name+" "+visible(key), t[key])...)
		}
		return words
	}
	if v == nil {
		return nil
	}
	value, ok := text(v)
	if !ok {
		value = fmt.Sprint(v)
	}
	shown := hideValue(value)
	if strings.HasPrefix(name, "env_http_headers") || name == "bearer_token_env_var" { // the names of variables
		shown = "$" + value
	}
	return []string{name + "=" + visible(withVariables(shown, value))}
}

// withVariables adds to what is shown of a value the variables and files in it that are not seen there.
func withVariables(shown, value string) string {
	for i := range len(value) {
		rest, name := value[i:], ""
		switch {
		case strings.HasPrefix(rest, "${{"):
			name, _, _ = strings.Cut(rest, "}}")
			name += "}}"
		case strings.HasPrefix(rest, "${"), strings.HasPrefix(rest, "{env:"), strings.HasPrefix(rest, "{file:"):
			name, _, _ = strings.Cut(rest, "}")
			name, _, _ = strings.Cut(name, ":-") // a default may be a secret
			name += "}"
		case rest[0] == '$':
			name = "$" + identifier(rest[1:])
		}
		if len(name) > 1 && !strings.Contains(shown, name) {
			shown += name
		}
	}
	return shown
}

// shown is what an entry starts or calls, for people: as it is written, with variables by their names, and without
// what could be a secret. Better too little is shown than too much.
func shown(t object) string { return shownUpTo(t, 300) }

func shownUpTo(t object, most int) string {
	var words []string
	if one, ok := text(first(t, commandKeys...)); ok && one != "" {
		words = []string{one}
	} else if list, ok := texts(first(t, commandKeys...)); ok {
		words = list
	}
	if len(words) == 0 {
		address, _ := text(first(t, addressKeys...))
		return short(hideURL(strings.TrimSpace(address)), most)
	}
	args, _ := texts(t["args"])
	var out []string
	secret := false
	for n, w := range append(words[:len(words):len(words)], args...) {
		if n == 100 {
			out = append(out, "…")
			break
		}
		flag := strings.HasPrefix(w, "-")
		if secret && !flag {
			w = hideValue(w)
		} else if name, value, ok := strings.Cut(w, "="); ok && (sensitive(name) || sensitive(value)) {
			w = name + "=" + hideValue(value)
		} else {
			w = hide(w)
		}
		secret = flag && sensitive(w) && !strings.Contains(w, "=")
		out = append(out, visible(w))
	}
	return short(strings.Join(out, " "), most)
}

// visible is a word, quoted if it would not be seen as one.
func visible(w string) string {
	if w == "" || strings.ContainsFunc(w, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return strconv.Quote(w)
	}
	return w
}

func short(s string, most int) string {
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return s
}

// sensitive says that a word announces a secret.
func sensitive(word string) bool {
	word = strings.ToLower(word)
	for _, w := range []string{"key", "token", "secret", "pass", "pwd", "dsn", "auth", "bearer", "credential", "cookie", "header", "signature"} {
		if strings.Contains(word, w) {
			return true
		}
	}
	return word == "-h" || word == "-p" || word == "-u" || word == "--pat"
}

// hideValue leaves of a secret the name of the variable that it is in.
func hideValue(s string) string {
	if name, ok := strings.CutPrefix(s, "$"); ok && identifier(name) == name {
		return s
	}
	if strings.HasPrefix(s, "${") && strings.IndexByte(s, '}') == len(s)-1 && !strings.Contains(s, ":-") {
		return s
	}
	return "…"
}

// hide takes out of a word what looks like a secret by itself.
func hide(word string) string {
	if strings.Contains(word, "://") {
		return hideURL(word)
	}
	if sensitive(word) && (strings.ContainsFunc(word, unicode.IsSpace) || strings.HasPrefix(word, "{")) {
		return "…" // "Authorization: Bearer ...", or a shell's command with one, or an object
	}
	if user, rest, ok := strings.Cut(word, "@"); ok && strings.Contains(user, ":") && !strings.Contains(user, "/") {
		return "…@" + hideRandom(rest) // user:password@host
	}
	return hideRandom(word)
}

// hideRandom replaces long parts that mix letters and digits: keys, and now and then a hash that is none.
func hideRandom(s string) string {
	var out strings.Builder
	for s != "" {
		n := strings.IndexFunc(s, func(r rune) bool {
			return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_+=", r)
		})
		if n < 0 {
			n = len(s)
		}
		if part := s[:n]; len(part) >= 20 && strings.ContainsAny(part, "0123456789") && strings.ToUpper(part) != strings.ToLower(part) {
			out.WriteString("…")
		} else {
			out.WriteString(part)
		}
		s = s[n:]
		if s != "" {
			_, size := utf8.DecodeRuneInString(s)
			out.WriteString(s[:size])
			s = s[size:]
		}
	}
	return out.String()
}

// hideURL leaves of a URL where it leads: no user, no query, and no part of its path that could be a key.
func hideURL(s string) string {
	s, _, _ = strings.Cut(s, "#")
	s, _, query := strings.Cut(s, "?")
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return hideRandom(s)
	}
	host, path, slash := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = "…" + host[at:]
	}
	out := scheme + "://" + host
	if slash {
		out += "/" + hideRandom(path)
	}
	if query {
		out += "?…"
	}
	return out
}

// ShellWord is text as a shell reads it.
func ShellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@:,%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Printable is text in one line that a terminal shows and does not obey.
func Printable(s string) string {
	var out strings.Builder
	for n, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[n:], "\ufffd"):
			fmt.Fprintf(&out, `\x%02x`, s[n])
		case unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			out.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return out.String()
}
