package rootfs

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types that are not in image-spec, or not any more.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1" // or …v1+prettyjws
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	foreignLayer   = "application/vnd.oci.image.layer.nondistributable.v1.tar"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
)

func isIndex(mediaType string) bool {
	return mediaType == ispec.MediaTypeImageIndex || mediaType == dockerIndex
}

func isManifest(mediaType string) bool {
	return mediaType == ispec.MediaTypeImageManifest || mediaType == dockerManifest
}

// plainVariants are the variants that every machine of an architecture runs, best first.
var plainVariants = map[string][]string{
	"amd64": {"", "v1"},
	"arm64": {"", "v8"},
	"arm":   {"v7", "v6", "v5", ""},
}

// choosePlatform picks the manifest for containers on this machine: Linux on the architecture we were built for.
// Build attestations are in the index too, with an unknown platform.
func choosePlatform(manifests []ispec.Descriptor) (ispec.Descriptor, error) {
	if len(manifests) == 1 && manifests[0].Platform == nil {
		return manifests[0], nil // its config has the last word
	}
	variants := plainVariants[runtime.GOARCH]
	best, rank := -1, 0
	var offered []string
	for i, m := range manifests {
		if m.Platform == nil || m.Platform.OS == "unknown" {
			continue
		}
		name := strings.Trim(m.Platform.OS+"/"+m.Platform.Architecture+"/"+m.Platform.Variant, "/")
		offered = append(offered, name)
		if m.Platform.OS != "linux" || m.Platform.Architecture != runtime.GOARCH {
			continue
		}
		r := slices.Index(variants, m.Platform.Variant)
		if r < 0 {
			r = len(variants) // a special one, such as amd64/v3: only if there is nothing else
		}
		if best < 0 || r < rank {
			best, rank = i, r
		}
	}
	if best < 0 && len(offered) == 0 {
		return ispec.Descriptor{}, fmt.Errorf("no image for linux/%s: of %d in the index, none says what it is for", runtime.GOARCH, len(manifests))
	}
	if best < 0 {
		return ispec.Descriptor{}, fmt.Errorf("no image for linux/%s among %d: %s",
			runtime.GOARCH, len(manifests), strings.Join(offered[:min(len(offered), 20)], ", "))
	}
	return manifests[best], nil
}
