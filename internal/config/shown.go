package config

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// shownOf is shown of an entry of which nothing has been made yet.
func shownOf(entry any) string {
	t, _ := entry.(object)
	t = maps.Clone(t)
	flatten(t)
	return shown(t)
}

// shown is what an entry starts or calls, for people: as it is written, with variables by their names, and without
// what could be a secret. Better too little is shown than too much.
func shown(t object) string {
	var words []string
	if one, ok := text(first(t, "command", "cmd")); ok && one != "" {
		words = []string{one}
	} else if list, ok := texts(first(t, "command", "cmd")); ok {
		words = list
	}
	if len(words) == 0 {
		address, _ := text(first(t, "url", "serverUrl", "httpUrl", "uri", "server_url"))
		return short(hideURL(strings.TrimSpace(address)))
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
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
			w = strconv.Quote(w)
		}
		out = append(out, w)
	}
	return short(strings.Join(out, " "))
}

func short(s string) string {
	const most = 300
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return s
}

// sensitive says that a word announces a secret.
func sensitive(word string) bool {
	word = strings.ToLower(word)
	for _, w := range []string{"key", "token", "secret", "passw", "pwd", "auth", "bearer", "credential", "cookie", "header", "signature"} {
		if strings.Contains(word, w) {
			return true
		}
	}
	return word == "-h" || word == "-p" || word == "-u"
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
	if strings.ContainsFunc(word, unicode.IsSpace) && sensitive(word) {
		return "…" // "Authorization: Bearer ...", or a shell's command with one
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
