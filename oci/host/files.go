package host

import (
	"fmt"
	"math"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// minFiles is what a container needs of RLIMIT_NOFILE: bridges speak with what runs in it over descriptors with high numbers,
// where a script's own do not meet them.
const minFiles = 256

// EnoughFiles says what is wrong with the hard limit of open files, which nobody but a privileged process can raise. A limit that
// is not known is enough.
func EnoughFiles(hard map[string]uint64) error {
	if most, ok := hard["RLIMIT_NOFILE"]; ok && most < minFiles {
		return &oci.HostError{
			Missing: fmt.Sprintf("this process may have only %d open files, and a sandbox needs %d", most, minFiles),
			Fix:     "raise the hard limit of whoever starts mcp-bridge (ulimit -Hn, LimitNOFILE=) to 1024 or more",
		}
	}
	return nil
}

// filesOfRun is what a container that runs and one that waits take of a bridge's descriptors together, and filesOfBridge what it
// has beside them, for MCP servers above all; both with some to spare.
const filesOfRun, filesOfBridge = 32, 128

// RunsAtOnce is how many containers a bridge has descriptors for, at least 1; 0 if the limit is not known.
func RunsAtOnce(hard map[string]uint64) int {
	most, ok := hard["RLIMIT_NOFILE"]
	if !ok {
		return 0
	}
	return int(max(1, (min(most, math.MaxInt32)-min(most, filesOfBridge))/filesOfRun))
}
