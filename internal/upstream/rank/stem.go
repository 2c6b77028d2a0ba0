package rank

import (
	"strings"
	"unicode"
)

// words splits a text into lower-case words; names such as getUserByID, list_pull_requests and HTTP2Server too.
func words(text string) []string {
	var list []string
	runes := []rune(text)
	begin := -1
	flush := func(end int) {
		if begin >= 0 && end > begin {
			list = append(list, strings.ToLower(string(runes[begin:end])))
		}
		begin = -1
	}
	for i, r := range runes {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			flush(i)
			continue
		}
		if begin >= 0 && unicode.IsUpper(r) &&
			(!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			flush(i)
		}
		if begin < 0 {
			begin = i
		}
	}
	flush(len(runes))
	return list
}

// stop says if a word says nothing of a tool.
func stop(w string) bool {
	switch w {
	case "a", "an", "and", "any", "are", "as", "at", "be", "by", "can", "do", "for", "from", "how", "i", "if", "in",
		"into", "is", "it", "its", "me", "my", "of", "on", "or", "our", "please", "some", "that", "the", "their", "them",
		"there", "this", "to", "tool", "tools", "us", "use", "using", "via", "want", "we", "what", "when", "which",
		"with", "you", "your", "need", "all", "will", "has", "have":
		return true
	}
	return false
}

// stem cuts the endings of English words, so that "issues", "creating" and "created" meet "issue" and "create". It is
// lighter than Porter's: what it cuts wrongly, it cuts wrongly in queries too.
func stem(w string) string {
	if len(w) <= 3 {
		return w
	}
	switch {
	case strings.HasSuffix(w, "sses"), strings.HasSuffix(w, "shes"), strings.HasSuffix(w, "ches"), strings.HasSuffix(w, "xes"):
		w = w[:len(w)-2]
	case strings.HasSuffix(w, "ies") && len(w) > 4:
		w = w[:len(w)-3] + "y"
	case strings.HasSuffix(w, "s") && !strings.HasSuffix(w, "ss") && !strings.HasSuffix(w, "us") && !strings.HasSuffix(w, "is"):
		w = w[:len(w)-1]
	}
	for _, ending := range []string{"ization", "isation", "ations", "ation", "ating", "ated", "ator", "ing", "edly", "ed", "er", "or", "ion", "ment", "ly"} {
		root, ok := strings.CutSuffix(w, ending)
		if !ok || len(root) < 3 || !strings.ContainsAny(root, "aeiouy") {
			continue
		}
		w = root
		if n := len(w); n > 3 && w[n-1] == w[n-2] && !strings.ContainsRune("lsz", rune(w[n-1])) {
			w = w[:n-1] // getting, stopped
		}
		break
	}
	if n := len(w); n > 3 && w[n-1] == 'e' {
		w = w[:n-1]
	}
	if n := len(w); n > 4 && strings.HasSuffix(w, "at") {
		w = w[:n-2] // create, creation
	}
	if n := len(w); n > 3 && w[n-1] == 'y' {
		w = w[:n-1] + "i"
	}
	return w
}

// alike are words of this trade that mean the same, by their stems. A query's word also finds the others, for less.
var alike = [][]string{
	{"file", "document", "doc"},
	{"directory", "folder", "dir"},
	{"delete", "remove", "erase", "drop"},
	{"create", "add", "new", "make", "insert"},
	{"get", "fetch", "retrieve", "read", "show", "view", "obtain", "see"},
	{"list", "enumerate", "show"},
	{"search", "find", "query", "lookup", "look"},
	{"update", "edit", "modify", "change"},
	{"write", "save", "store", "put"},
	{"send", "post"},
	{"run", "execute", "invoke"},
	{"image", "picture", "photo", "screenshot"},
	{"time", "clock", "hour"},
	{"convert", "translate", "transform"},
	{"url", "web", "website", "page", "internet", "link"},
	{"repository", "repo"},
	{"message", "msg"},
	{"environment", "env"},
	{"move", "rename"},
	{"diff", "difference", "compare", "change"},
	{"history", "log", "past"},
	{"remember", "memory", "memorize", "recall"},
	{"graph", "network"},
	{"sum", "add", "plus", "total"},
	{"relation", "relationship", "connection", "link", "edge"},
	{"entity", "node"},
	{"think", "reason", "thought"},
	{"info", "information", "metadata", "detail", "stat"},
	{"size", "large", "big"},
	{"several", "multiple", "many"},
	{"stage", "staged", "unstage"},
	{"compress", "gzip", "zip"},
	{"timezone", "zone"},
	{"ask", "prompt", "elicit"},
}
