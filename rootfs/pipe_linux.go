package rootfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// A pipeWriter writes to a pipe from buffers of its own. Whole ones are not copied: the pipe gets their pages
// (vmsplice(2)). A page that whoever reads the pipe keeps shows it what is written to that buffer later, which is more of
// what is in the pipe anyway.
type pipeWriter struct {
	f     *os.File
	pages []byte // all buffers
	now   int    // where the one begins that buffer returns
	copy  bool   // this system has no vmsplice, or does not let us
}

// newPipeWriter has as many buffers as the pipe can hold, and one more: when a buffer's turn comes again, the pipe is full of
// later ones, and all of it has been read.
func newPipeWriter(f *os.File) (*pipeWriter, error) {
	capacity, err := onPipe(f, func(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0) })
	if err != nil {
		return nil, err
	}
	buffers := (capacity+chunkSize-1)/chunkSize + 1
	pages, err := unix.Mmap(-1, 0, buffers*chunkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return &pipeWriter{f: f, pages: pages}, nil
}

// close closes the pipe. What is in it stays there.
func (w *pipeWriter) close() {
	w.f.Close()
	_ = unix.Munmap(w.pages)
}

// buffer is what the next write writes, until then.
func (w *pipeWriter) buffer() []byte { return w.pages[w.now : w.now+chunkSize] }

// write writes the first n bytes of the buffer.
func (w *pipeWriter) write(n int) error {
	b := w.buffer()[:n]
	if n < chunkSize || w.copy {
		_, err := w.f.Write(b)
		return err
	}
	w.now = (w.now + chunkSize) % len(w.pages)
	for len(b) > 0 {
		iov := []unix.Iovec{{Base: &b[0]}}
		iov[0].SetLen(len(b))
		m, err := onPipe(w.f, func(fd int) (int, error) { return unix.Vmsplice(fd, iov, unix.SPLICE_F_NONBLOCK) })
		if err != nil && !errors.Is(err, unix.EPIPE) {
			w.copy = true
			_, err = w.f.Write(b)
			return err
		}
		if err != nil {
			return os.NewSyscallError("vmsplice", err)
		}
		b = b[m:]
	}
	return nil
}

// onPipe calls f until it would not block.
func onPipe(pipe *os.File, f func(fd int) (int, error)) (n int, err error) {
	c, err := pipe.SyscallConn()
	if err != nil {
		return 0, err
	}
	werr := c.Write(func(fd uintptr) bool {
		for {
			n, err = f(int(fd))
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	return n, errors.Join(err, werr)
}
