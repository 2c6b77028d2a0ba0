package rootfs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"runtime"

	dref "github.com/containers/image/v5/docker/reference"
	"github.com/opencontainers/go-digest"

	"github.com/mcp-bridge/mcp-bridge/internal/atomicfile"
)

// A memo records which manifest a tag, or the digest of an index, stood for when a registry was last asked.
type memo struct {
	Ref    string        `json:"ref"`
	Arch   string        `json:"arch"`
	Digest digest.Digest `json:"digest"`
}

// remembered finds the entry of a registry's image without asking the registry: a digest means the same for ever, a
// tag means what it did when it was pulled.
func (c *cache) remembered(name dref.Named) (entry, bool) {
	if d, ok := name.(dref.Digested); ok {
		if e, ok := c.lookup(d.Digest()); ok {
			return e, true
		}
	}
	key := memoKey(name)
	b, err := readBounded(filepath.Join(c.dir, refsDir, memoFile(key)), maxRecord)
	if err != nil {
		return entry{}, false
	}
	var m memo
	if json.Unmarshal(b, &m) != nil || m.Ref != key || m.Arch != runtime.GOARCH || m.Digest.Validate() != nil {
		return entry{}, false
	}
	return c.lookup(m.Digest)
}

// remember records that name stands for the manifest d; so does top, the digest of the index it was found in.
func (c *cache) remember(name dref.Named, top, d digest.Digest) error {
	keys := []string{memoKey(name)}
	if top != d {
		if k := top.String(); k != keys[0] {
			keys = append(keys, k)
		}
	}
	for _, key := range keys {
		if key == d.String() {
			continue // says nothing
		}
		b, err := json.Marshal(memo{Ref: key, Arch: runtime.GOARCH, Digest: d})
		if err != nil {
			return err
		}
		if err := atomicfile.Replace(filepath.Join(c.dir, refsDir, memoFile(key)), atomicfile.Bytes(b)); err != nil {
			return err
		}
	}
	return nil
}

// memoKey is the digest, if there is one: the same bytes have no other meaning in another repository.
func memoKey(name dref.Named) string {
	if d, ok := name.(dref.Digested); ok {
		return d.Digest().String()
	}
	return name.String()
}

// memoFile is a name that every file system takes. The architecture is a part of it, for caches that are carried around.
func memoFile(key string) string {
	h := sha256.Sum256([]byte(runtime.GOARCH + "\n" + key))
	return "image-" + hex.EncodeToString(h[:16])
}
