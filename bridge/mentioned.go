package bridge

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// Bounds of the search for names in a script. What is beyond them is left to the script to ask for.
const (
	maxMention    = 64 << 10 // bytes of the script, and of the tools that are found
	maxNames      = 1000     // tools of one server
	glanceTimeout = 100 * time.Millisecond
)

// mentioned are the tools that the script mentions, by the place of their server, as far as they are known. The script need not
// ask for them then, which takes a moment, and for a server of a hundred tools several. The catalog has them at once, or else the
// server may have to start, which is not waited for.
func (k *broker) mentioned(ctx context.Context, code string) map[int][]guest.Tool {
	if len(code) > maxMention {
		return nil
	}
	out, size := make(map[int][]guest.Tool), 0
	var words map[string]bool
	for i, info := range k.infos {
		alias := k.aliases[i]
		if info.Unavailable != "" || !containsAny(code, "mcp_"+alias, "servers."+alias, "import "+alias, `"`+info.Name+`"`, "'"+info.Name+"'") {
			continue
		}
		if words == nil {
			words = wordsOf(code)
		}
		tools := slices.DeleteFunc(k.glance(ctx, info), func(t guest.Tool) bool {
			return !words[t.Alias] && (t.Name == t.Alias || !strings.Contains(code, t.Name))
		})
		if n := sizeOf(tools); size+n <= maxMention {
			out[i], size = tools, size+n
		}
	}
	return out
}

// glance is the tools of a server, or none: the script will hear of what is wrong.
func (k *broker) glance(ctx context.Context, info upstream.Info) []guest.Tool {
	k.mu.Lock()
	tools, ok := k.tools[info.Name]
	k.mu.Unlock()
	if !ok && 0 < info.Tools && info.Tools <= maxNames {
		ctx, cancel := context.WithTimeout(ctx, glanceTimeout)
		defer cancel()
		if found, err := k.servers.Tools(ctx, info.Name); err == nil {
			tools, _ = k.made.of(info.Name, found)
		}
	}
	if len(tools) > maxNames {
		return nil
	}
	return slices.Clone(tools)
}

// wordsOf are all that could be identifiers of Python.
func wordsOf(code string) map[string]bool {
	words := make(map[string]bool)
	for _, w := range strings.FieldsFunc(code, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		words[w] = true
	}
	return words
}

func containsAny(text string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}
