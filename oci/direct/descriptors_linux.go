//go:build linux && cgo

package direct

import (
	"cmp"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// descriptors are those of stage0 that are not the guest's. They are plain numbers, because what os.File does for each of
// them to be waited for takes longer than all else with them; only status is waited for.
type descriptors struct {
	lifeline int      // ours
	status   *os.File // ours

	childLifeline, childStatus, plan, null int
}

func openDescriptors(plan []byte) (d *descriptors, err error) {
	d = &descriptors{lifeline: -1, childLifeline: -1, childStatus: -1, plan: -1, null: -1}
	defer func() {
		if err != nil {
			d.closeChild()
			d.close()
		}
	}()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return d, fmt.Errorf("cannot make a pipe: %w", err)
	}
	d.childLifeline, d.lifeline = p[0], p[1]
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return d, fmt.Errorf("cannot make a pipe: %w", err)
	}
	_ = unix.SetNonblock(p[0], true) // so that os.File waits for it without a thread
	d.status, d.childStatus = os.NewFile(uintptr(p[0]), "status"), p[1]
	d.plan, err = unix.MemfdCreate("mcp-bridge-plan", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL) // else vm.memfd_noexec=2 denies it
	if err == unix.EINVAL {                                                                  // before Linux 6.3
		d.plan, err = unix.MemfdCreate("mcp-bridge-plan", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return d, fmt.Errorf("cannot make a memfd: %w", err)
	}
	if n, err := unix.Write(d.plan, plan); err != nil || n < len(plan) {
		return d, fmt.Errorf("cannot write to a memfd: %d of %d bytes: %w", n, len(plan), cmp.Or(err, io.ErrShortWrite))
	}
	if d.null, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return d, fmt.Errorf("cannot open %s: %w", os.DevNull, err)
	}
	return d, nil
}

func closeFD(fd *int) {
	if *fd >= 0 {
		unix.Close(*fd)
		*fd = -1
	}
}

func (d *descriptors) closeChild() {
	for _, fd := range []*int{&d.childLifeline, &d.childStatus, &d.plan, &d.null} {
		closeFD(fd)
	}
}

// close is for when the container is gone: it ends the lifeline.
func (d *descriptors) close() {
	closeFD(&d.lifeline)
	if d.status != nil {
		d.status.Close()
	}
}
