package seccomp

import (
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BenchmarkLoad is what a start waits for the filter, with the thread that loads it here: nobody can take one off again.
func BenchmarkLoad(b *testing.B) {
	filter, err := Filter(runtime.GOARCH)
	if err != nil {
		b.Fatal(err)
	}
	program := unix.SockFprog{Len: uint16(len(filter) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))}
	for b.Loop() {
		loaded := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with this
			err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
			loaded <- errors.Join(err, unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0))
		}()
		if err := <-loaded; err != nil {
			b.Fatal(err)
		}
	}
}
