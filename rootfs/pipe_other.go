//go:build !linux

package rootfs

import "os"

// A pipeWriter writes to a pipe from a buffer of its own.
type pipeWriter struct {
	f *os.File
	b []byte
}

func newPipeWriter(f *os.File) (*pipeWriter, error) {
	return &pipeWriter{f: f, b: make([]byte, chunkSize)}, nil
}

func (w *pipeWriter) close()         { w.f.Close() }
func (w *pipeWriter) buffer() []byte { return w.b }

func (w *pipeWriter) write(n int) error {
	_, err := w.f.Write(w.b[:n])
	return err
}
