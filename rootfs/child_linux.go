package rootfs

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const canReexec = true

// unpackerProgram is this program. A variable for tests only, which have one that lies.
var unpackerProgram = "/proc/self/exe"

// pipeSize holds some 50 ms of a fast network. It is the most that a user gets.
const pipeSize = 1 << 20

func growPipe(w *os.File) {
	// As much as the kernel gives: with less it is only slower.
	_, _ = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	_ = unix.SetNonblock(int(w.Fd()), true) // Fd has made it a blocking one, and a blocked write could not be cancelled
}

// limitChild takes from this process, the child, what it does not need.
func limitChild() error {
	// It decodes into buffers that it keeps, so that there is little to collect, and each collection costs it a millisecond;
	// but for decoders with the large windows that an image may ask for.
	debug.SetGCPercent(200)
	debug.SetMemoryLimit(softMemory)
	for what, n := range map[int]uint64{
		unix.RLIMIT_CORE:   0,
		unix.RLIMIT_FSIZE:  maxBytes,
		unix.RLIMIT_NOFILE: maxStreams*(batches*batchParts+maxOpen+16) + 2*maxLayers, // a layer that waits for its turn has two
		unix.RLIMIT_CPU:    uint64(maxCPU.Seconds()),
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(what, &now); err != nil {
			return err
		}
		n = min(n, now.Max)
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	unix.Umask(0) // modes are those of the image
	return nil
}

// startChild starts the unpacker as a process that may write below the job's directories only. It starts it from a
// thread of its own, which has given up everything that the child must not have, because that is inherited, and which
// then ends with the child, because a parent death signal means the death of the thread.
func startChild(ctx context.Context, j job, streams []*os.File, lock *os.File) (running, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, unpackerProgram)
	cmd.Args, cmd.Env, cmd.Dir = []string{unpackName}, []string{}, "/"
	cmd.ExtraFiles = append([]*os.File{lock}, streams...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // ctrl-C is for the bridge, which ends it in order
	}
	stdout, stderr := &bounded{max: maxAnswer}, &bounded{max: maxAnswer}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		cancel()
		return running{}, err
	}

	started, ended := make(chan error, 1), make(chan error, 1)
	onOwnThread(func() {
		err := confine(j.Root, j.Scratch)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	})
	if err := <-started; err != nil {
		cancel()
		return running{}, fmt.Errorf("cannot start the unpacker: %w", err)
	}
	closeAll(streams)
	begin := func(j job) {
		_ = json.NewEncoder(in).Encode(order{Job: j, Streams: len(streams)}) // a child that does not read it is one that dies
	}
	wait := func() (jobResult, error) {
		err := <-ended
		in.Close()
		defer cancel()
		if ctx.Err() != nil {
			return jobResult{}, context.Cause(ctx)
		}
		var a answer
		if err == nil {
			err = json.Unmarshal(stdout.buf.Bytes(), &a)
		}
		if err != nil {
			return jobResult{}, fmt.Errorf("internal error: the unpacker died: %w%s", err, tail(stderr))
		}
		return a.check(j)
	}
	return running{begin, wait}, nil
}

// onOwnThread runs f in a goroutine on a thread that ends with it. That is never the first one, which cannot end, and
// which stands for the whole process when another one asks what it may do to it.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return // without unlocking
		}
		taken := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(taken)
			f()
		}()
		<-taken
		runtime.UnlockOSThread()
	}()
}

// tail is the end of an error message: what the process said before it died.
func tail(stderr *bounded) string {
	s := strings.TrimSpace(stderr.buf.String())
	if s == "" {
		return ""
	}
	return ": " + s[:min(len(s), 4000)]
}
