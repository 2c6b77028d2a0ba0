package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCached: what is cached is found as Ensure finds it, and looking makes nothing.
func TestCached(t *testing.T) {
	l := newLayout(t)
	ref := l.index(l.image(testImage{layers: [][]byte{python(t)}}))
	s := newStore(t)
	for _, ref := range []string{ref, "host", "python:3.12-slim", "oci:/nowhere", "oci-archive:/nowhere", "not a reference"} {
		if tree, ok := s.Cached(ref); ok {
			t.Errorf("%s is found in an empty cache: %+v", ref, tree)
		}
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cache was made: %v", err)
	}
	want, err := s.Ensure(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := s.Cached(ref)
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("%v (-want +got):\n%s", ok, diff)
	}
}
