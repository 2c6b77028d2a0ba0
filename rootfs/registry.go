package rootfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	dref "github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ensureRegistry makes the tree of a registry's image, and records what the tag stands for. The registry is always
// asked; who need not ask has called remembered.
func (s *Store) ensureRegistry(ctx context.Context, c *cache, ref reference) (entry, error) {
	meterOf(ctx).phase(Resolving, 0)
	places, err := endpoints(s.etcDir(), ref.name)
	if err != nil {
		return entry{}, fmt.Errorf("cannot pull image %s: %w", ref.text, err)
	}
	var found *registrySource
	err = s.patience.try(ctx, func() error {
		found, err = s.open(ctx, places)
		return err
	})
	if err != nil {
		return entry{}, fmt.Errorf("cannot pull image %s: %w", ref.text, err)
	}
	defer found.Close()

	e, ok := c.lookup(found.manifest.Digest)
	if !ok {
		e, err = ensureImage(ctx, c, image{ref: ref.text, manifest: found.manifest, src: found, remote: true})
		if err != nil {
			return entry{}, err
		}
	}
	if err := c.remember(ref.name, found.top, found.manifest.Digest); err != nil {
		c.log.Warn("cannot note which image a tag stands for", "image", ref.text, "error", err)
	}
	return e, nil
}

// open asks one place after the other. If none has the image, the registry's own answer is what counts, with the
// mirrors' beside it.
func (s *Store) open(ctx context.Context, places []endpoint) (*registrySource, error) {
	mirrors := ""
	for i, e := range places {
		src, err := s.openAt(ctx, e)
		if err == nil {
			return src, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if i == len(places)-1 {
			if mirrors != "" {
				err = fmt.Errorf("%w (before that,%s)", err, mirrors)
			}
			return nil, err
		}
		mirrors += fmt.Sprintf(" mirror %s: %v;", e.name, err)
	}
	return nil, errors.New("internal error: an image without a place")
}

// openAt resolves an image at one place. The library asks for its login and its manifest in one go.
func (s *Store) openAt(ctx context.Context, e endpoint) (*registrySource, error) {
	l := findLogin(ctx, e.name, e.helpers)
	wctx, dog := s.patience.watch(ctx)
	defer dog.end()
	wctx = dog.traced(wctx, e.insecure)
	explain := func(err error) error { return explainPull(dog.blame(wctx, err), e, l, dref.FamiliarString(e.name)) }

	src, err := e.open(wctx, l)
	if err != nil {
		return nil, explain(err)
	}
	r := &registrySource{ImageSource: src, endpoint: e, login: l, patience: s.patience, known: make(map[digest.Digest][]byte)}
	b, mediaType, err := src.GetManifest(wctx, nil)
	if err == nil {
		var desc ispec.Descriptor
		if desc, err = r.describe(b, mediaType); err == nil {
			r.top = desc.Digest
			r.manifest, err = resolve(desc, func(desc ispec.Descriptor) ([]byte, error) { return r.nested(wctx, desc) })
		}
	}
	if err == nil && r.known[r.manifest.Digest] == nil {
		if _, err = r.nested(wctx, r.manifest); err != nil {
			err = fmt.Errorf("cannot read manifest %s: %w", r.manifest.Digest, err)
		}
	}
	if err != nil {
		src.Close()
		return nil, explain(err)
	}
	return r, nil
}

// A registrySource is an image in a registry, resolved. Blobs are downloaded again from where a connection broke.
type registrySource struct {
	types.ImageSource
	endpoint endpoint
	login    login
	patience patience
	top      digest.Digest // of the index, or of the manifest if there is none
	manifest ispec.Descriptor
	known    map[digest.Digest][]byte // indexes and manifests: registries keep them apart from blobs
}

// describe makes the descriptor of what stands under the tag or digest that was asked for.
func (r *registrySource) describe(b []byte, mediaType string) (ispec.Descriptor, error) {
	if len(b) > maxManifest {
		return ispec.Descriptor{}, fmt.Errorf("its manifest has %d bytes, more than %d", len(b), maxManifest)
	}
	d := digest.FromBytes(b)
	if asked, ok := r.endpoint.name.(dref.Digested); ok {
		if got := asked.Digest().Algorithm().FromBytes(b); got != asked.Digest() {
			return ispec.Descriptor{}, fmt.Errorf("the registry answered with a manifest of digest %s", got)
		}
		d = asked.Digest()
	}
	// The header and the content have to agree: bytes with two meanings have been used for attacks (CVE-2021-41190).
	var says struct {
		MediaType string           `json:"mediaType"`
		Manifests *json.RawMessage `json:"manifests"`
		Layers    *json.RawMessage `json:"layers"`
	}
	if err := json.Unmarshal(b, &says); err != nil {
		return ispec.Descriptor{}, fmt.Errorf("its manifest %s cannot be read: %w", d, err)
	}
	if !isIndex(mediaType) && !isManifest(mediaType) && says.MediaType != "" {
		mediaType = says.MediaType // some static servers know no better than application/json
	}
	if says.MediaType != "" && says.MediaType != mediaType || says.Manifests != nil && says.Layers != nil {
		return ispec.Descriptor{}, fmt.Errorf("its manifest %s has two meanings: it came as %q and says it is %q", d, mediaType, says.MediaType)
	}
	r.known[d] = b
	return ispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}, nil
}

// nested reads what an index names.
func (r *registrySource) nested(ctx context.Context, desc ispec.Descriptor) ([]byte, error) {
	if b := r.known[desc.Digest]; b != nil {
		return b, nil
	}
	b, _, err := r.GetManifest(ctx, &desc.Digest)
	if err != nil {
		return nil, err
	}
	if err := checkBytes(b, desc); err != nil {
		return nil, err
	}
	r.known[desc.Digest] = b
	return b, nil
}

func (r *registrySource) GetBlob(ctx context.Context, info types.BlobInfo) (io.ReadCloser, int64, error) {
	if b := r.known[info.Digest]; b != nil {
		return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
	}
	d := &download{ctx: ctx, from: r, info: info}
	size, err := d.begin()
	if err != nil {
		return nil, 0, err
	}
	return d, size, nil
}
