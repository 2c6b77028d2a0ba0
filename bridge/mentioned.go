package bridge

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
)

// Bounds of the search for names in a script. What is beyond them is left to the script to ask for.
const (
	maxMention = 64 << 10 // bytes of the script, and of the tools that are found
	maxNames   = 1000     // tools of one server
	glance     = 100 * time.Millisecond
)

// mentioned are the tools that the script mentions, by the place of their server, as far as they are known. The script need not
// ask for them then, which takes a moment, and for a server of a hundred tools several. The catalog has them at once, or else the
// server may have to start, which is not waited for.
func (k *broker) mentioned(ctx context.Context, code string) map[int][]guest.Tool {
	if len(code) > maxMention || len(k.infos) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, glance)
	defer cancel()
	out, size := make(map[int][]guest.Tool), 0
	words := make(map[string]bool)
	for _, w := range strings.FieldsFunc(code, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		words[w] = true
	}
	for i, info := range k.infos {
		alias := k.aliases[i]
		if info.Unavailable != "" || !containsAny(code, "mcp_"+alias, "servers."+alias, "import "+alias, `"`+info.Name+`"`, "'"+info.Name+"'") {
			continue
		}
		k.mu.Lock()
		found, ok := k.found[info.Name]
		k.mu.Unlock()
		if !ok && info.Tools >= 0 {
			found, _ = k.find(ctx, info.Name, k.servers.Tools) // the script will hear of an error
		}
		if len(found) == 0 || len(found) > maxNames {
			continue
		}
		tools, err := k.made.of(info.Name, found)
		if err != nil {
			continue
		}
		tools = slices.DeleteFunc(slices.Clone(tools), func(t guest.Tool) bool {
			return !words[t.Alias] && (t.Name == t.Alias || !strings.Contains(code, t.Name))
		})
		if n := sizeOf(tools); size+n <= maxMention {
			out[i], size = tools, size+n
		}
	}
	return out
}

func containsAny(text string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}
