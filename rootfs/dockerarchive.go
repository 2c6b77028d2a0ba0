package rootfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	dref "github.com/containers/image/v5/docker/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A dockerImage is an image in the manifest.json of docker save.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

const dockerManifestFile = "manifest.json"

// ensureDockerArchive makes the tree of docker-archive:FILE[:REF].
func ensureDockerArchive(ctx context.Context, c *cache, ref reference) (entry, error) {
	cannot := func(err error) (entry, error) {
		return entry{}, fmt.Errorf("cannot use image %s: %w", ref.text, err)
	}
	a, err := openArchive(ctx, ref.path, func(string) bool { return true })
	if err != nil {
		return cannot(err)
	}
	defer a.file.Close()
	b, err := a.read(dockerManifestFile, maxManifest)
	if err != nil {
		return cannot(fmt.Errorf("it is no docker archive: %s: %w", dockerManifestFile, err))
	}
	var images []dockerImage
	if err := json.Unmarshal(b, &images); err != nil {
		return cannot(fmt.Errorf("cannot read its %s: %w", dockerManifestFile, err))
	}
	im, err := chooseDockerImage(images, ref.tag)
	if err != nil {
		return cannot(err)
	}
	desc, src, err := a.dockerSource(ctx, im)
	if err != nil {
		return cannot(err)
	}
	if e, ok := c.lookup(desc.Digest); ok {
		return e, nil
	}
	return ensureImage(ctx, c, image{ref: ref.text, manifest: desc, src: src})
}

// chooseDockerImage picks the image with this name; without one, there may be only one.
func chooseDockerImage(images []dockerImage, tag string) (dockerImage, error) {
	var names []string
	for _, im := range images {
		names = append(names, im.RepoTags...)
	}
	has := "it has no names"
	if len(names) > 0 {
		has = "it has " + oneLine(strings.Join(names[:min(len(names), 50)], ", "))
	}
	if tag == "" {
		switch len(images) {
		case 0:
			return dockerImage{}, errors.New("it holds no image")
		case 1:
			return images[0], nil
		}
		return dockerImage{}, fmt.Errorf("it holds several images, name one as docker-archive:FILE:NAME:TAG: %s", has)
	}
	want, err := parseName(tag)
	if err != nil {
		return dockerImage{}, fmt.Errorf("%q is no name of an image: %w", tag, err)
	}
	for _, im := range images {
		for _, t := range im.RepoTags {
			if name, err := dref.ParseNormalizedNamed(t); err == nil && name.String() == want.String() {
				return im, nil
			}
		}
	}
	return dockerImage{}, fmt.Errorf("no image has the name %q: %s", tag, has)
}

// dockerSource makes a manifest for an image that has none, and finds its blobs. The config names the layers by what
// they unpack to, which is what most archives hold.
func (a *imageArchive) dockerSource(ctx context.Context, im dockerImage) (ispec.Descriptor, blobSource, error) {
	fail := func(err error) (ispec.Descriptor, blobSource, error) { return ispec.Descriptor{}, blobSource{}, err }
	config, err := a.read(im.Config, maxConfig)
	if err != nil {
		return fail(fmt.Errorf("config %q: %w", im.Config, err))
	}
	var says ispec.Image
	if err := json.Unmarshal(config, &says); err != nil {
		return fail(fmt.Errorf("config %q: %w", im.Config, err))
	}
	if len(says.RootFS.DiffIDs) != len(im.Layers) || len(im.Layers) > maxLayers {
		return fail(fmt.Errorf("%s lists %d layers, the config %d, and no more than %d can be used",
			dockerManifestFile, len(im.Layers), len(says.RootFS.DiffIDs), maxLayers))
	}
	m := ispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageManifest, Config: ispec.Descriptor{
		MediaType: ispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config)),
	}}
	named := make(map[digest.Digest]string) // members
	for i, layer := range im.Layers {
		desc, err := a.dockerLayer(ctx, layer, says.RootFS.DiffIDs[i])
		if err != nil {
			return fail(fmt.Errorf("layer %q: %w", layer, err))
		}
		named[desc.Digest] = layer
		m.Layers = append(m.Layers, desc)
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return fail(fmt.Errorf("internal error: cannot make a manifest: %w", err))
	}
	desc := ispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
	made := map[digest.Digest][]byte{desc.Digest: manifest, m.Config.Digest: config}
	open := func(d digest.Digest) (io.ReadCloser, int64, error) {
		if b := made[d]; b != nil {
			return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
		}
		r, err := a.open(named[d])
		if err != nil {
			return nil, 0, err
		}
		return io.NopCloser(r), r.Size(), nil
	}
	return desc, blobSource{open: open}, nil
}

// dockerLayer describes a layer. Its name may be its digest; uncompressed, its digest is its diff ID; else it is hashed
// now, for there is nothing else that could tell this image from another one.
func (a *imageArchive) dockerLayer(ctx context.Context, name string, diffID digest.Digest) (ispec.Descriptor, error) {
	r, err := a.open(name)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	if err := diffID.Validate(); err != nil {
		return ispec.Descriptor{}, fmt.Errorf("its diff ID: %w", err)
	}
	desc := ispec.Descriptor{MediaType: ispec.MediaTypeImageLayer, Digest: diffID, Size: r.Size()}
	magic := make([]byte, 4)
	n, err := r.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return ispec.Descriptor{}, err
	}
	if compression(magic[:n]) == "" {
		return desc, nil
	}
	if parts := strings.Split(name, "/"); len(parts) == 3 && parts[0] == ispec.ImageBlobsDir {
		if d := digest.NewDigestFromEncoded(digest.Algorithm(parts[1]), parts[2]); d.Validate() == nil {
			desc.Digest = d
			return desc, nil
		}
	}
	hash := digest.Canonical.Digester()
	for buf := make([]byte, 256<<10); ; {
		if err := ctx.Err(); err != nil {
			return ispec.Descriptor{}, err
		}
		n, err := r.Read(buf)
		hash.Hash().Write(buf[:n])
		if errors.Is(err, io.EOF) {
			desc.Digest = hash.Digest()
			return desc, nil
		}
		if err != nil {
			return ispec.Descriptor{}, err
		}
	}
}
