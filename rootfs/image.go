package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An image is a reference that has been resolved to one manifest for this machine, and where its blobs come from.
// Every transport ends here: resolve, look into the cache, then ensureImage.
type image struct {
	ref      string
	manifest ispec.Descriptor
	src      source
	remote   bool // its blobs are downloaded
}

// ensureImage makes the tree of an image.
func ensureImage(ctx context.Context, c *cache, im image) (entry, error) {
	e, err := c.populate(ctx, im.manifest.Digest, func(ctx context.Context, st staging) (entry, error) {
		if m := meterOf(ctx); m != nil {
			m.phase(im.phase(), im.size(ctx))
			im.src = meteredSource{im.src, m}
		}
		return im.unpack(ctx, c, st)
	})
	if err != nil {
		return entry{}, fmt.Errorf("cannot unpack image %s: %w", im.ref, err)
	}
	return e, nil
}

// phase is what reading the blobs is called.
func (im image) phase() Phase {
	if im.remote {
		return Downloading
	}
	return Unpacking
}

// size is how many bytes unpack will read, or 0 if the manifest cannot be read: unpack says why.
func (im image) size(ctx context.Context) int64 {
	b, err := im.blob(ctx, im.manifest, maxManifest)
	if err != nil {
		return 0
	}
	m, err := parseManifest(b)
	if err != nil {
		return 0
	}
	total := im.manifest.Size + m.Config.Size
	for _, l := range m.Layers {
		total += max(l.Size, 0)
	}
	return total
}

// unpack makes the root. Manifest and config are verified before anything of them is used, layers while they are
// written: the caller throws everything away if this fails.
func (im image) unpack(ctx context.Context, c *cache, st staging) (entry, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxTime, fmt.Errorf("%w: it takes more than %v", errBound, maxTime))
	defer cancel()
	b, err := im.blob(ctx, im.manifest, maxManifest)
	if err != nil {
		return entry{}, fmt.Errorf("cannot read manifest %s: %w", im.manifest.Digest, err)
	}
	manifest, err := parseManifest(b)
	if err != nil {
		return entry{}, fmt.Errorf("cannot use manifest %s: %w", im.manifest.Digest, err)
	}
	var env []string
	size, err := im.unpackLayers(ctx, c, st, manifest.Layers, func(ctx context.Context) ([]digest.Digest, error) {
		b, err := im.blob(ctx, manifest.Config, maxConfig)
		if err != nil {
			return nil, fmt.Errorf("cannot read config %s: %w", manifest.Config.Digest, err)
		}
		var config ispec.Image
		if config, env, err = parseConfig(b, len(manifest.Layers)); err != nil {
			return nil, fmt.Errorf("cannot use config %s: %w", manifest.Config.Digest, err)
		}
		return config.RootFS.DiffIDs, nil
	})
	if err != nil {
		return entry{}, err
	}
	t, err := openTree(st.root)
	if err != nil {
		return entry{}, err
	}
	defer t.close()
	if err := t.mountPoints(); err != nil {
		return entry{}, err
	}
	python, err := findPython(st.root, env)
	if err != nil {
		return entry{}, err
	}
	return entry{Python: python, Env: env, Ref: im.ref, Bytes: size}, nil
}

func (im image) open(ctx context.Context, desc ispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	// Never URLs: a "foreign" layer is taken from the same place as all others, or not at all.
	rc, size, err := im.src.GetBlob(ctx, types.BlobInfo{Digest: desc.Digest, Size: desc.Size})
	if err != nil {
		return nil, err
	}
	if size >= 0 && size != desc.Size {
		rc.Close()
		return nil, fmt.Errorf("it has %d bytes, its descriptor says %d", size, desc.Size)
	}
	return rc, nil
}

// blob reads and verifies a small blob.
func (im image) blob(ctx context.Context, desc ispec.Descriptor, limit int64) ([]byte, error) {
	if desc.Size > limit {
		return nil, fmt.Errorf("its descriptor says %d bytes, more than %d", desc.Size, limit)
	}
	rc, err := im.open(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, desc.Size+1))
	if err != nil {
		return nil, err
	}
	return b, checkBytes(b, desc)
}

func checkBytes(b []byte, desc ispec.Descriptor) error {
	if int64(len(b)) != desc.Size {
		return fmt.Errorf("it has not %d bytes, as its descriptor says", desc.Size)
	}
	if d := desc.Digest.Algorithm().FromBytes(b); d != desc.Digest {
		return fmt.Errorf("its content has the digest %s", d)
	}
	return nil
}

func parseManifest(b []byte) (ispec.Manifest, error) {
	var m ispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return m, err
	}
	if m.SchemaVersion != 2 || m.MediaType != "" && !isManifest(m.MediaType) {
		return m, fmt.Errorf("it is no image manifest (schema %d, type %q)", m.SchemaVersion, m.MediaType)
	}
	if m.Config.MediaType != ispec.MediaTypeImageConfig && m.Config.MediaType != dockerConfig {
		return m, fmt.Errorf("it is an artifact of type %q, not an image", m.Config.MediaType)
	}
	if len(m.Layers) > maxLayers {
		return m, fmt.Errorf("it has %d layers, more than %d", len(m.Layers), maxLayers)
	}
	return m, nil
}

func parseConfig(b []byte, layers int) (ispec.Image, []string, error) {
	var im ispec.Image
	if err := json.Unmarshal(b, &im); err != nil {
		return im, nil, err
	}
	if im.OS != "" && im.OS != "linux" || im.Architecture != "" && im.Architecture != runtime.GOARCH {
		return im, nil, fmt.Errorf("the image is for %s/%s, this machine runs linux/%s", im.OS, im.Architecture, runtime.GOARCH)
	}
	if len(im.RootFS.DiffIDs) != layers {
		return im, nil, fmt.Errorf("it describes %d layers, the manifest %d", len(im.RootFS.DiffIDs), layers)
	}
	env, err := cleanEnv(im.Config.Env)
	return im, env, err
}

// cleanEnv keeps what can be a part of an environment: KEY=VALUE without NUL; of a repeated key the last. Engines
// ignore the rest too, so it is no error.
func cleanEnv(env []string) ([]string, error) {
	total := 0
	at := map[string]int{}
	var clean []string
	for _, kv := range env {
		if total += len(kv); total > maxEnvBytes {
			return nil, fmt.Errorf("its environment has more than %d bytes", maxEnvBytes)
		}
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" || strings.ContainsRune(kv, 0) {
			continue
		}
		if i, ok := at[key]; ok {
			clean[i] = kv
			continue
		}
		at[key] = len(clean)
		clean = append(clean, kv)
	}
	if len(clean) > maxEnv {
		return nil, fmt.Errorf("its environment has more than %d variables", maxEnv)
	}
	return clean, nil
}

// layerTypes are the media types of layers that are a tar archive, possibly compressed. What it is compressed with is
// taken from its first bytes, because wrong suffixes are in use and the digests settle the matter anyway.
var layerTypes = []string{
	ispec.MediaTypeImageLayer, ispec.MediaTypeImageLayerGzip, ispec.MediaTypeImageLayerZstd,
	foreignLayer, foreignLayer + "+gzip", foreignLayer + "+zstd",
	dockerLayer, dockerLayer + ".gzip", dockerLayer + ".zstd",
}

func checkLayerType(mediaType string) error {
	if !slices.Contains(layerTypes, mediaType) {
		return errors.New("its type " + mediaType + " is none that can be unpacked")
	}
	return nil
}
