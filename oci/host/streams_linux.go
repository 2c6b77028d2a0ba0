//go:build linux

package host

import (
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// Give makes the guest the owner of its pipes, so that it can open them by name (/dev/stdout). Where this process is not
// root stage0 can do it, as the pipes' owner is root there.
func Give(s oci.Streams, uids, gids []specs.LinuxIDMapping, u oci.User) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid := hostID(uids, u.UID), hostID(gids, u.GID)
	for _, f := range append([]*os.File{s.Stdin, s.Stdout, s.Stderr}, s.Extra...) {
		if f == nil {
			continue
		}
		st, err := f.Stat()
		if err == nil && st.Mode()&os.ModeNamedPipe == 0 {
			return fmt.Errorf("internal error: %s is no pipe, and no other file of the host may change its owner", f.Name())
		}
		if err == nil {
			err = f.Chown(uid, gid)
		}
		if err != nil {
			return fmt.Errorf("cannot give a pipe to the container: %w", err)
		}
	}
	return nil
}

func hostID(maps []specs.LinuxIDMapping, id uint32) int {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int(m.HostID + id - m.ContainerID)
		}
	}
	return -1
}
