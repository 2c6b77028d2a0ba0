//go:build linux && cgo

package direct

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// A base is a user namespace with a user's subordinate ids, below which containers get theirs. Only newuidmap and
// newgidmap can map these ids, and two setuid programs take longer to start than a container; who has entered a namespace
// that has them can map them on. It is made once, nothing runs in it, and it goes with its descriptor.
type base struct {
	mu sync.Mutex
	ns *os.File
}

// toBase maps the host's ids to 1, 2, ... in the base, so that no container has an id that is its own in the namespace
// around it, nor one that is called root's; fromBase maps these to what the container calls them.
func toBase(m []oci.IDMap) (out []oci.IDMap) {
	for i, l := range m {
		out = append(out, oci.IDMap{Container: uint32(i) + 1, Host: l.Host, Size: 1})
	}
	return out
}

func fromBase(m []oci.IDMap) (out []oci.IDMap) {
	for i, l := range m {
		out = append(out, oci.IDMap{Container: l.Container, Host: uint32(i) + 1, Size: 1})
	}
	return out
}

// open makes the base if there is none.
func (b *base) open(ctx context.Context, h *host.Host, on oci.Host) (*os.File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ns != nil {
		return b.ns, nil
	}
	var err error
	b.ns, err = h.UserNamespace(ctx, toBase(on.UIDMap), toBase(on.GIDMap))
	return b.ns, err
}

func (b *base) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ns != nil {
		b.ns.Close()
		b.ns = nil
	}
}

func lines(m []oci.IDMap) string {
	var b strings.Builder
	for _, l := range m {
		fmt.Fprintln(&b, l.Container, l.Host, l.Size)
	}
	return b.String()
}
