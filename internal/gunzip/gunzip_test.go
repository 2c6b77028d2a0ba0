package gunzip

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// pack makes a member of a gzip stream.
func pack(t testing.TB, level int, content []byte, header gzip.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Header = header
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// contents are such that every kind of block, code and match comes up.
func contents(t testing.TB) map[string][]byte {
	t.Helper()
	random := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{1}).Read(random) // never fails
	skewed := make([]byte, 400_000)           // few common symbols and many rare ones: codes of up to 15 bits
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range skewed {
		for n := 0; n < 250 && rng.IntN(2) == 0; n++ {
			skewed[i]++
		}
		if rng.IntN(1000) == 0 {
			skewed[i] = byte(rng.IntN(256))
		}
	}
	far := append(append(bytes.Clone(random[:32<<10]), random[:32<<10]...), random[:40]...) // distances of 32 KiB
	files, err := filepath.Glob("../../rootfs/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, b...)
	}
	return map[string][]byte{
		"nothing": nil, "a byte": {7}, "zeros": make([]byte, 1<<20), "a period of 3": bytes.Repeat([]byte("abc"), 100_000),
		"a period of 17": bytes.Repeat([]byte("0123456789abcdefg"), 9999), "random": random, "skewed": skewed, "far": far, "text": text,
	}
}

func TestRoundTrip(t *testing.T) {
	for name, want := range contents(t) {
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, 6, flate.BestCompression} {
			packed := pack(t, level, want, gzip.Header{})
			for how, r := range map[string]io.Reader{
				"at once": bytes.NewReader(packed), "byte by byte": iotest.OneByteReader(bytes.NewReader(packed)),
				"with the end": iotest.DataErrReader(bytes.NewReader(packed)),
			} {
				got, err := io.ReadAll(NewReader(r))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, level %d, %s: %d bytes of %d, %v", name, level, how, len(got), len(want), err)
				}
			}
		}
	}
}

func TestMembersAndHeaders(t *testing.T) {
	stream := pack(t, 6, []byte("one "), gzip.Header{Name: "a name", Comment: "a comment", Extra: bytes.Repeat([]byte("x"), 3000)})
	stream = append(stream, pack(t, 6, nil, gzip.Header{})...)
	stream = append(stream, pack(t, 0, bytes.Repeat([]byte("two "), 50_000), gzip.Header{Name: "b"})...)
	got, err := io.ReadAll(NewReader(bytes.NewReader(stream)))
	if want := "one " + strings.Repeat("two ", 50_000); err != nil || string(got) != want {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

// TestMembersShareNothing: a distance may not reach back into the member before.
func TestMembersShareNothing(t *testing.T) {
	first := pack(t, 6, bytes.Repeat([]byte("x"), 1000), gzip.Header{})
	// A member whose first block, with the fixed code, begins with a match: the length 3 is 0000001, the distance 1 00000.
	second := append(bytes.Clone(first[:10]), 0b0000_0011, 0b0000_0010, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	_, err := io.ReadAll(NewReader(bytes.NewReader(append(first, second...))))
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "distance") {
		t.Errorf("got %v", err)
	}
}

// TestCutShort: wherever a stream ends, what came before is given out, and the end is no end.
func TestCutShort(t *testing.T) {
	want := contents(t)["text"][:3000]
	packed := pack(t, 6, want, gzip.Header{Name: "x"})
	for n := range packed {
		got, err := io.ReadAll(NewReader(bytes.NewReader(packed[:n])))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes of %d: %v", n, len(packed), err)
		}
		if len(got) > len(want)+1<<10 { // bits behind the end are zeros until they are found out, and may be a match or two
			t.Errorf("%d bytes of %d give %d", n, len(packed), len(got))
		}
	}
}

// TestReaderFails: the reader's own error is what is said, not that the stream is damaged.
func TestReaderFails(t *testing.T) {
	packed := pack(t, 6, contents(t)["text"], gzip.Header{})
	broken := errors.New("the network is down")
	for _, n := range []int{0, 5, 10, 11, 100, 70_000, len(packed) - 3} {
		_, err := io.ReadAll(NewReader(io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(broken))))
		if !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// TestFlippedBits: no damage goes unnoticed.
func TestFlippedBits(t *testing.T) {
	want := contents(t)["text"][:2000]
	packed := pack(t, 6, want, gzip.Header{})
	for bit := 10 * 8; bit < 8*len(packed); bit++ { // a header's time and system mean nothing
		b := bytes.Clone(packed)
		b[bit/8] ^= 1 << (bit % 8)
		if got, err := io.ReadAll(NewReader(bytes.NewReader(b))); err == nil && !bytes.Equal(got, want) {
			t.Fatalf("bit %d: %d other bytes and no error", bit, len(got))
		}
	}
}

// compare reads a stream as compress/gzip does.
func compare(t *testing.T, stream []byte) {
	t.Helper()
	var want []byte
	oracle, wantErr := gzip.NewReader(bytes.NewReader(stream))
	const most = 16 << 20
	if wantErr == nil {
		want, wantErr = io.ReadAll(io.LimitReader(oracle, most))
	}
	got, err := io.ReadAll(io.LimitReader(NewReader(bytes.NewReader(stream)), most))
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("error %v, compress/gzip says %v (%d and %d bytes)", err, wantErr, len(got), len(want))
	}
	if err == nil && !bytes.Equal(got, want) {
		t.Fatalf("%d bytes are not the %d of compress/gzip", len(got), len(want))
	}
}

func FuzzReader(f *testing.F) {
	for _, c := range contents(f) {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 6} {
			f.Add(pack(f, level, c[:min(len(c), 5000)], gzip.Header{Name: "n"}))
		}
	}
	// Blocks with their own codes, degenerate ones too.
	for _, body := range []string{"\x05\xe0\x81\x00\x00\x00\x00\x00\x80\xfc\xff\x01\x00", "\x04\xc0\x81\x08\x00\x00\x00\x00\x20\x7f\xeb\x0b\x00\x00"} {
		f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + body))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		compare(t, stream)
		// Checksums keep a fuzzer from the rest: the same with the right one, if the blocks are right.
		if len(stream) > 18 && stream[3] == 0 {
			compareBlocks(t, stream[10:])
		}
	})
}

// compareBlocks reads blocks without a header and a trailer around them.
func compareBlocks(t *testing.T, blocks []byte) {
	t.Helper()
	const most = 16 << 20
	want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(blocks)), most))
	r := NewReader(bytes.NewReader(blocks))
	r.out.member, r.state = 0, (*Reader).block
	got, err := io.ReadAll(io.LimitReader(r, most))
	if wantErr == nil && !bytes.Equal(got[:min(len(got), len(want))], want) {
		t.Fatalf("%d bytes (%v) are not the %d of compress/flate", len(got), err, len(want))
	}
	if wantErr != nil && err == nil {
		t.Fatalf("%d bytes, compress/flate says %v", len(got), wantErr)
	}
}

func BenchmarkReader(b *testing.B) {
	text := contents(b)["text"]
	packed := pack(b, 6, text, gzip.Header{})
	for name, open := range map[string]func(r io.Reader) (io.Reader, error){
		"gunzip":        func(r io.Reader) (io.Reader, error) { return NewReader(r), nil },
		"compress/gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				r, err := open(bytes.NewReader(packed))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n != int64(len(text)) {
					b.Fatal(fmt.Sprint(n, err))
				}
			}
		})
	}
}
