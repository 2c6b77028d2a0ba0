package rootfs

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Bounds on what an image may make us do. A bound that is hit is an error, never a silent cut.
const (
	// maxIndex, maxManifest and maxConfig: registries refuse manifests above 4 MiB; configs carry the build history.
	maxIndex    = 4 << 20
	maxManifest = 4 << 20
	maxConfig   = 8 << 20

	// maxIndexDepth: an index in an index is in use (buildx), a third one has not been seen.
	maxIndexDepth = 4

	// maxLayers: overlayfs mounts at most 500 layers, so no engine could run more.
	maxLayers = 500

	// maxBytes is the content of all layers together: the largest images with Python in them that people use for
	// running scripts (CUDA) have some 6 GiB.
	maxBytes = 8 << 30

	// maxEntries is the number of tar entries and implied directories of all layers: large images have 200,000.
	// It bounds inodes and our memory (some 100 bytes each).
	maxEntries = 1_000_000

	// maxRatio and ratioFree bound what one layer may unpack to: ratioFree and maxRatio times its compressed size.
	// Real layers are at 2 to 20; deflate cannot exceed 1,032, zstd can reach 30,000, and a sparse file declares
	// any size for nothing. A bomb ends here, before the disk is full.
	maxRatio  = 200
	ratioFree = 256 << 20

	// maxPath is the kernel's PATH_MAX, maxName its NAME_MAX.
	maxPath = 4096
	maxName = 255

	// maxDepth is the real depth of a directory below the root, after symbolic links: node_modules reaches 50.
	// Removing a tree holds a descriptor per level, so an unlimited depth could make a tree that nobody can delete.
	maxDepth = 200

	// maxTime is how long one image may take, the download of its layers included: the largest in use have 3 GiB, and
	// 2 MB/s is a slow network. maxCPU bounds what the unpacker may compute: 8 GiB of gzip take less than a minute.
	maxTime = 30 * time.Minute
	maxCPU  = 10 * time.Minute

	// maxStreams is how many layers are downloaded and unpacked at the same time: registries allow a client a handful
	// of connections, and each layer costs a few MB of memory.
	maxStreams = 4

	// maxWindow is the memory a zstd frame may ask for: what `zstd --long` (27) makes. softMemory is what the unpacker has
	// before it collects garbage all the time; usual images need a sixth.
	maxWindow  = 128 << 20
	softMemory = 256 << 20

	// maxEnv and maxEnvBytes: the kernel refuses a single string above 128 KiB; engines set a dozen variables.
	maxEnv      = 512
	maxEnvBytes = 128 << 10

	// maxRecord is the size of a .complete file or of a note about the host: an Env and some paths.
	maxRecord = 1 << 20

	// maxProbe is what the host's interpreter may answer, maxHostFiles and maxHostBytes what is copied of it: a whole
	// standard library is 3,000 files and 100 MB with an unstripped libpython.
	maxProbe     = 1 << 20
	maxHostFiles = 50_000
	maxHostBytes = 1 << 30
)

var errBound = errors.New("it is over the bounds")

// A budget is what the layers of an image use together. It is safe for concurrent use.
type budget struct{ entries, bytes atomic.Int64 }

// A quota is what one layer may add to an image's budget. It belongs to whoever unpacks the layer.
type quota struct {
	budget *budget
	left   int64 // bytes
}

// newQuota makes the quota of a layer of this compressed size: see maxRatio.
func newQuota(b *budget, compressed int64) *quota {
	n := int64(maxBytes)
	if compressed < maxBytes { // no overflow; above, maxRatio cannot bind
		n = min(n, ratioFree+maxRatio*max(compressed, 0))
	}
	return &quota{budget: b, left: n}
}

// charge counts one entry and the bytes it is going to write, before it writes them.
func (q *quota) charge(size int64) error {
	if q.budget.entries.Add(1) > maxEntries {
		return fmt.Errorf("%w: more than %d entries", errBound, maxEntries)
	}
	if left := min(q.left, maxBytes-q.budget.bytes.Load()); size < 0 || size > left {
		return fmt.Errorf("%w: %d bytes of content, %d are left", errBound, size, left)
	}
	if q.budget.bytes.Add(size) > maxBytes { // another layer was quicker
		return fmt.Errorf("%w: more than %d bytes of content", errBound, maxBytes)
	}
	q.left -= size
	return nil
}

// unpackerVersion is a part of every entry's name: raise it when the unpacker makes a different tree of the same
// image, and old entries are no longer found.
const unpackerVersion = 1
