package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestRecall: what was found is not looked for again, and whatever says something else is heeded.
func TestRecall(t *testing.T) {
	l := newLayout(t)
	one := l.image(testImage{layers: [][]byte{python(t)}})
	two := l.image(testImage{layers: [][]byte{python(t)}, env: []string{"A=2"}})
	index := filepath.Join(l.dir, ispec.ImageIndexFile)
	ref := l.index(one)
	old := time.Now().Add(-time.Minute)
	age := func() {
		t.Helper()
		old = old.Add(time.Second)
		if err := os.Chtimes(index, old, old); err != nil {
			t.Fatal(err)
		}
	}
	age()
	s := newStore(t)
	s.etc = t.TempDir()
	t.Setenv("HOME", t.TempDir())
	ensure := func() Tree {
		t.Helper()
		tree, err := s.Ensure(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	recalled := func() bool {
		_, ok := s.findings.recall(ref)
		return ok
	}

	first := ensure()
	if !recalled() || ensure().Digest != first.Digest {
		t.Error("what was found is not remembered")
	}
	l.index(two) // of the same size, so that only its time tells
	if recalled() {
		t.Error("another index.json is not seen")
	}
	second := ensure()
	if second.Digest == first.Digest {
		t.Error("the old image is used")
	}
	if recalled() {
		t.Error("an index.json is relied upon that may change within the same tick of the clock")
	}
	age()
	ensure()
	if !recalled() {
		t.Error("one that is old is not remembered")
	}

	if err := os.RemoveAll(filepath.Dir(second.Path)); err != nil {
		t.Fatal(err)
	}
	if recalled() {
		t.Error("an image that is gone is remembered")
	}
	if _, err := os.Stat(ensure().Path); err != nil {
		t.Error(err)
	}

	ensure()
	policy := filepath.Join(s.etc, "containers", "policy.json")
	if err := os.Mkdir(filepath.Dir(policy), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(policy, []byte(`{"default": [{"type": "reject"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ensure(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "policy") {
		t.Errorf("a policy that forbids it has no effect: %v", err)
	}
}
