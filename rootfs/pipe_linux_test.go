package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPipeWriter writes whole buffers and parts of them while somebody reads, now more, now less: what comes out is what went
// in, however many pages the pipe has and whether it takes those of the buffers or copies them.
func TestPipeWriter(t *testing.T) {
	const total = 40 * chunkSize
	for _, capacity := range []int{4 << 10, 64 << 10, chunkSize, pipeSize} {
		for _, copies := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d KB, copies %v", capacity>>10, copies), func(t *testing.T) {
				before := opened(t)
				r, f, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, capacity); err != nil {
					t.Fatal(err)
				}
				w, err := newPipeWriter(f)
				if err != nil {
					t.Fatal(err)
				}
				w.copy = copies
				rnd := rand.New(rand.NewPCG(uint64(capacity), 1))
				want := make([]byte, total)
				for i := range want {
					want[i] = byte(i / 997 * 31)
				}
				written := make(chan error, 1)
				go func() {
					defer w.close()
					for left := want; len(left) > 0; {
						n := min(chunkSize, len(left))
						if rnd.IntN(4) == 0 {
							n = 1 + rnd.IntN(n)
						}
						copy(w.buffer(), left[:n])
						if err := w.write(n); err != nil {
							written <- err
							return
						}
						left = left[n:]
					}
					written <- nil
				}()
				var got bytes.Buffer
				read := rand.New(rand.NewPCG(uint64(capacity), 2))
				for {
					_, err := io.CopyN(&got, r, 1+read.Int64N(3*chunkSize))
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if err := <-written; err != nil {
					t.Error(err)
				}
				if !bytes.Equal(got.Bytes(), want) {
					t.Errorf("%d bytes came of %d, or others", got.Len(), total)
				}
				if !copies && w.copy {
					t.Error("this kernel has vmsplice, and it was not used")
				}
				r.Close()
				if after := opened(t); after != before {
					t.Errorf("%d descriptors are open, %d were", after, before)
				}
			})
		}
	}
}

// TestPipeWriterNobodyReads: the error is the one of a write.
func TestPipeWriterNobodyReads(t *testing.T) {
	r, f, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w, err := newPipeWriter(f)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	r.Close()
	for _, n := range []int{chunkSize, 10} {
		if err := w.write(n); !errors.Is(err, unix.EPIPE) {
			t.Errorf("%d bytes: %v, want EPIPE", n, err)
		}
	}
}
