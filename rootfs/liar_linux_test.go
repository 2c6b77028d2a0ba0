package rootfs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestUnpackerLies: an unpacker that strangers have taken over may say that all is well, and end, before it has read what it is
// given. What was never verified is no image.
func TestUnpackerLies(t *testing.T) {
	layer := archive(t, file("usr/bin/python3", strings.Repeat("good", 2<<20)))
	for name, tt := range map[string]struct{ script, compress string }{
		"reads nothing, plain": {script: "printf '{\"result\":{\"diffIDs\":[\"\"],\"bytes\":7}}'"},
		"reads nothing":        {script: "printf '{\"result\":{\"diffIDs\":[\"DIGEST\"],\"bytes\":7}}'", compress: "zstd"},
		"reads a part, plain":  {script: "head -c 100000 <&4 >/dev/null; printf '{\"result\":{\"diffIDs\":[\"\"],\"bytes\":7}}'"},
		"reads all":            {script: "cat <&4 >/dev/null; printf '{\"result\":{\"diffIDs\":[\"DIGEST\"],\"bytes\":7}}'"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			d := l.image(testImage{layers: [][]byte{layer}, compress: tt.compress})
			blob := l.blobPath(l.manifest(t, d).Layers[0].Digest)
			b, err := os.ReadFile(blob)
			if err == nil {
				b = bytes.Clone(b)
				b[len(b)-600] ^= 1
				err = os.WriteFile(blob, b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			liar := filepath.Join(t.TempDir(), "liar")
			script := strings.ReplaceAll(tt.script, "DIGEST", digest.FromBytes(layer).String())
			if err := os.WriteFile(liar, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
				t.Fatal(err)
			}
			defer func(was string) { unpackerProgram = was }(unpackerProgram)
			unpackerProgram = liar
			s := newStore(t)
			if _, err := s.Ensure(t.Context(), l.index(d)); err == nil || !strings.Contains(err.Error(), "has the digest") && !strings.Contains(err.Error(), "were verified") {
				t.Errorf("got %v", err)
			}
			checkClean(t, s, 0)
		})
	}
}
