package host

import (
	"fmt"

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
