package bridge

import (
	"context"
	"slices"
	"strings"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
)

// maxMention bounds a script in which names are looked for, and the tools that are found by them, in bytes. What is beyond is
// left to the script to ask for.
const maxMention = 64 << 10

// mentioned are the tools that the script mentions, by the place of their server, as far as the catalog knows them. The script
// need not ask for them then, which takes a moment, and for a server of a hundred tools several.
func (k *broker) mentioned(ctx context.Context, code string) map[int][]guest.Tool {
	if len(code) > maxMention {
		return nil
	}
	out, size := make(map[int][]guest.Tool), 0
	for i, info := range k.infos {
		ways := []string{"mcp_" + k.aliases[i], "servers." + k.aliases[i], `"` + info.Name + `"`, "'" + info.Name + "'"}
		if info.Unavailable != "" || !containsAny(code, ways...) {
			continue
		}
		k.mu.Lock()
		found, ok := k.found[info.Name]
		k.mu.Unlock()
		if !ok && info.Tools >= 0 {
			found, _ = k.find(ctx, info.Name, k.servers.Tools) // the script will hear of an error
		}
		tools := describe(found, func(name, alias string) bool { return containsAny(code, name, alias) })
		more := 0
		for _, t := range tools {
			more += sizeOf(t)
		}
		if size+more <= maxMention {
			out[i], size = tools, size+more
		}
	}
	return out
}

func containsAny(text string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}
