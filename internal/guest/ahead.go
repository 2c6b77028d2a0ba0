package guest

import (
	"slices"
	"strings"
	"sync"
)

// Library is what [Ahead] and [Writer.Warm] call what scripts see of MCP.
const Library = "mcp"

// lookAhead is how many bytes of a script Ahead reads: imports stand at the top.
const lookAhead = 64 << 10

// ahead are the modules that a runner may import before its script does: none does anything else by that (TestAheadModules).
// A few look at what a script may have changed by then; the runner has them look again, or it does not matter. Like the source
// of the runner they wait until they are asked for.
var ahead = sync.OnceValue(func() []string {
	return strings.Fields(`abc argparse array ast asyncio base64 binascii bisect bz2 calendar cmath collections collections.abc
	colorsys concurrent.futures configparser contextlib contextvars copy csv dataclasses datetime decimal difflib enum errno fnmatch
	fractions functools glob gzip hashlib heapq hmac html html.parser inspect io ipaddress itertools json keyword logging lzma math
	mimetypes numbers operator os os.path pathlib pickle platform pprint queue random re secrets shlex shutil sqlite3 statistics
	string struct subprocess sys tarfile tempfile textwrap threading time tomllib traceback types typing unicodedata urllib
	urllib.parse uuid warnings weakref xml xml.etree.ElementTree zipfile zlib zoneinfo`)
})

// Ahead returns what a script will take time to load, as far as its text shows that, for [Writer.Warm] of those that come
// after it. Being wrong costs time or memory, no more.
func Ahead(code string) []string {
	code = code[:min(len(code), lookAhead)]
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	awaits, saved := strings.Contains(code, "await"), strings.Contains(code, "user_tools")
	if strings.Contains(code, "asyncio") || awaits && saved {
		add("asyncio")
	}
	if strings.Contains(code, Library) || saved {
		add(Library)
	}
	for line := range strings.SplitSeq(code, "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "lazy ") // since Python 3.15
		rest, ok := strings.CutPrefix(line, "import ")
		if from, is := strings.CutPrefix(line, "from "); is {
			rest, _, ok = strings.Cut(from, " import")
		}
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(rest, ",") {
			name = strings.TrimSpace(name)
			if end := strings.IndexAny(name, " \t;#"); end >= 0 {
				name = name[:end]
			}
			switch {
			case slices.Contains(ahead(), name):
				add(name)
			case awaits && !strings.HasPrefix(name, Library):
				add("asyncio") // the script is run by it, because the module may be
			}
		}
	}
	return names
}
