package bridge

import (
	"maps"
	"slices"
	"sync"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
)

// remembered is for how many runs a sandbox of the pool loads what one of them has used.
const remembered = 10

// ample is the limit of a sandbox's memory, in bytes, from which on habits do not matter: all that they can load takes 16 MB.
const ample = 128 << 20

// habits are what the last scripts have used, and so what the next one probably will: a sandbox that waits has that loaded,
// and nothing that only costs memory and time. The zero value has seen no script.
type habits struct {
	mu   sync.Mutex
	runs int
	last map[string]int // which of the runs was the last to use it
}

func (h *habits) note(code string) {
	used := guest.Ahead(code)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = make(map[string]int)
	}
	h.runs++
	for _, name := range used {
		h.last[name] = h.runs
	}
	maps.DeleteFunc(h.last, func(_ string, run int) bool { return run <= h.runs-remembered })
}

func (h *habits) used() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.last))
}

// ahead is what to load for the next script. Where there are MCP servers, that is the library to use them in any case, and
// where there is little memory, nothing else: the script may need what the last ones used for itself.
func (b *Bridge) ahead() (names []string) {
	if limit := b.opts.Limits.Memory; limit == 0 || limit >= ample {
		names = b.habits.used()
	}
	if b.opts.Servers != nil && len(b.opts.Servers.List()) > 0 && !slices.Contains(names, guest.Library) {
		names = append(names, guest.Library)
	}
	return names
}
