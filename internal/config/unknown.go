package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Unknown finds the names in environ (as of os.Environ) that look like ours and are not, each with the name that was
// probably meant, ready to be shown: a misspelt limit would otherwise silently be no limit.
func Unknown(environ []string) []string {
	const prefix = "MCP_BRIDGE_"
	known := Variables()
	var found []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if len(name) < len(prefix) || !strings.EqualFold(name[:len(prefix)], prefix) {
			continue
		}
		if name == EnvGuard || slices.ContainsFunc(known, func(v Variable) bool { return v.Name == name }) {
			continue
		}
		shown := strings.Trim(fmt.Sprintf("%+q", name[:min(len(name), 100)]), `"`)
		if meant := closest(name, known); meant != "" {
			shown += " (did you mean " + meant + "?)"
		}
		found = append(found, shown)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// closest is the known name that takes the fewest edits, if they are few, or else one that name only adds words to
// (MCP_BRIDGE_MEMORY_LIMIT).
func closest(name string, known []Variable) string {
	if len(name) > 64 {
		return ""
	}
	name = strings.ToUpper(name)
	best, least := "", 4
	for _, v := range known {
		if strings.HasPrefix(name, v.Name+"_") && least == 4 {
			best = v.Name
		}
		if d := levenshtein.ComputeDistance(name, v.Name); d < least {
			best, least = v.Name, d
		}
	}
	return best
}
