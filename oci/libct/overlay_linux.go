//go:build linux && cgo

package libct

import (
	"fmt"
	"os"

	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/stage0"
)

// coverRootfs covers the image, in the mount namespace of the container that this process is the init of.
func coverRootfs() {
	// The descriptor is good for the path only: it is of a mount in the bridge's namespace.
	if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", stage0.Rootfs)); err == nil {
		host.CoverRootfs(path)
	}
}
