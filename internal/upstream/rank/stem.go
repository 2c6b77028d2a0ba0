package rank

import "strings"

// stop says if a word says nothing of a tool.
func stop(w string) bool {
	switch w {
	case "a", "an", "and", "any", "are", "as", "at", "be", "by", "can", "do", "for", "from", "how", "i", "if", "in",
		"into", "is", "it", "its", "me", "my", "of", "on", "or", "our", "please", "some", "that", "the", "their", "them",
		"there", "this", "to", "tool", "tools", "us", "use", "using", "via", "want", "we", "what", "when", "which",
		"with", "you", "your", "need", "all", "will", "has", "have",
		"am", "was", "were", "been", "who", "where", "why", "should", "would", "could", "did", "does", "these", "those", "he",
		"she", "they", "his", "her", "but", "so", "than", "then", "just", "also", "too", "somebody", "someone", "something":
		return true
	}
	return false
}

// spelledOut is what an abbreviation of this trade stands for.
func spelledOut(w string) []string {
	switch strings.TrimSuffix(w, "s") {
	case "pr":
		return []string{"pull", "request"}
	case "mr":
		return []string{"merge", "request"}
	case "dm":
		return []string{"direct", "message"}
	case "db":
		return []string{"database"}
	case "js":
		return []string{"javascript"}
	case "k8":
		return []string{"kubernetes"}
	}
	return nil
}

// stem cuts the endings of English words, so that "issues", "creating" and "created" meet "issue" and "create". It is
// lighter than Porter's: what it cuts wrongly, it cuts wrongly in queries too.
func stem(w string) string {
	if len(w) <= 3 || w == "news" {
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
	{"delete", "remove", "erase", "drop", "trash"},
	{"create", "add", "new", "make", "insert", "open", "start"},
	{"get", "fetch", "retrieve", "read", "show", "view", "obtain", "see", "download", "describe"},
	{"list", "enumerate", "show"},
	{"search", "find", "query", "lookup", "look"},
	{"update", "edit", "modify", "change", "set"},
	{"write", "save", "store", "put", "upload"},
	{"send", "post"},
	{"run", "execute", "invoke", "evaluate", "trigger"},
	{"image", "picture", "photo", "screenshot"},
	{"time", "clock", "hour"},
	{"convert", "translate", "transform"},
	{"url", "web", "website", "page", "internet", "link"},
	{"page", "tab", "article"},
	{"open", "navigate", "visit"},
	{"repository", "repo", "project"},
	{"message", "msg"},
	{"mail", "email", "inbox"},
	{"issue", "ticket", "bug"},
	{"task", "todo"},
	{"event", "meeting", "appointment"},
	{"user", "person", "people", "member"},
	{"user", "account", "profile"},
	{"customer", "client"},
	{"comment", "reply", "answer"},
	{"label", "tag"},
	{"copy", "duplicate", "clone", "fork"},
	{"upload", "push"},
	{"stop", "pause", "cancel", "end", "close", "off"},
	{"complete", "finish", "done", "close"},
	{"type", "enter", "fill", "input"},
	{"click", "press"},
	{"row", "record"},
	{"environment", "env"},
	{"move", "rename"},
	{"diff", "difference", "compare", "change"},
	{"history", "log", "past", "version"},
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
	{"route", "direction"},
	{"place", "restaurant", "business", "location"},
	{"song", "track", "music"},
	{"light", "lamp"},
	{"bill", "invoice"},
	{"weather", "forecast"},
}
