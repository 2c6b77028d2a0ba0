package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// The unpacker runs in a process of its own (child_linux.go): this program again, which can write to the directories of
// the tree that is being made and nowhere else. What it reads comes from strangers, through three parsers. It gets
//
//	0   the job as JSON; its end of file says that the bridge is gone
//	1   takes the answer as JSON
//	2   takes what Go's runtime says when it dies
//	3   the lock of the entry: as long as anybody can write to it, nobody else takes the staging directory for a dead one's
//	4.. the streams of layers
//
// and no environment. Elsewhere, and in programs that do not call Init, the same code runs in goroutines.

// unpackName is argv[0] of the child, and all of its arguments.
const unpackName = "mcp-bridge: unpacks an image"

// firstStream is the descriptor of the child's first stream.
const firstStream = 4

// reexec says that this program calls Init, and may be started as the child.
var reexec atomic.Bool

// Init does not return in a process that the unpacker was started as. A program that calls it at the beginning of main
// gets its images unpacked in such a process.
func Init(ctx context.Context) {
	if len(os.Args) != 1 || os.Args[0] != unpackName {
		reexec.Store(canReexec)
		return
	}
	os.Exit(childMain(ctx))
}

// childMain is main in the child.
func childMain(ctx context.Context) int {
	if err := limitChild(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot set limits:", err)
		return 1
	}
	var o order
	stdin := json.NewDecoder(os.Stdin)
	if err := stdin.Decode(&o); err != nil {
		return 1 // the bridge went away
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	streams := make([]io.ReadCloser, o.Streams)
	for i := range streams {
		fd := firstStream + i
		if err := unix.SetNonblock(fd, true); err != nil { // so that Close ends a Read
			fmt.Fprintln(os.Stderr, "cannot use a stream:", err)
			return 1
		}
		streams[i] = os.NewFile(uintptr(fd), "stream")
	}
	result, err := o.Job.run(ctx, streams, true)
	if json.NewEncoder(os.Stdout).Encode(newAnswer(result, err)) != nil {
		return 1
	}
	return 0
}

// An order is what the child reads, an answer what it says.
type order struct {
	Job     job `json:"job"`
	Streams int `json:"streams"`
}

type answer struct {
	Result jobResult    `json:"result"`
	Error  *answerError `json:"error,omitempty"`
}

// maxAnswer is far above 500 digests.
const maxAnswer = 1 << 20

// An answerError is an error that has passed a pipe.
type answerError struct {
	Layer   int           `json:"layer"` // -1: none
	Message string        `json:"message"`
	Damaged bool          `json:"damaged,omitempty"`
	Bound   bool          `json:"bound,omitempty"`
	Errno   syscall.Errno `json:"errno,omitempty"`
}

func (e *answerError) Error() string { return e.Message }
func (e *answerError) Is(target error) bool {
	return target == errDamaged && e.Damaged || target == errBound && e.Bound || e.Errno != 0 && e.Errno.Is(target) || e.Errno != 0 && target == e.Errno
}

func newAnswer(result jobResult, err error) answer {
	if err == nil {
		return answer{Result: result}
	}
	a := &answerError{Layer: -1, Damaged: errors.Is(err, errDamaged), Bound: errors.Is(err, errBound)}
	if l := (*layerError)(nil); errors.As(err, &l) {
		a.Layer, err = l.layer, l.err
	}
	errors.As(err, &a.Errno)
	a.Message = err.Error()
	return answer{Error: a}
}

// check says if an answer is one to this job. It comes from a process that strangers may have taken over.
func (a answer) check(j job) (jobResult, error) {
	switch {
	case a.Error != nil:
		if a.Error.Layer >= len(j.Layers) {
			a.Error.Layer = -1
		}
		return jobResult{}, a.Error
	case len(a.Result.DiffIDs) != len(j.Layers):
		return jobResult{}, fmt.Errorf("internal error: the unpacker knows of %d layers, not %d", len(a.Result.DiffIDs), len(j.Layers))
	}
	return a.Result, nil
}

// A running unpacker has been started, and does not know yet what a config says.
type running struct {
	begin func(j job) // to be called at most once
	// wait returns when the unpacker and its process are gone.
	wait func() (jobResult, error)
}

// startUnpacker starts an unpacker; layers go into the streams, each of which is to be closed when none comes any more.
// Of the job, the algorithms may still be missing. Cancelling ctx kills it.
func startUnpacker(ctx context.Context, j job, streams int, lock *os.File) (to []*os.File, u running, err error) {
	var from []*os.File
	defer func() {
		if err != nil {
			closeAll(append(from, to...))
		}
	}()
	for range streams {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, running{}, err
		}
		from, to = append(from, r), append(to, w)
		growPipe(w)
	}
	if !reexec.Load() {
		return to, runHere(ctx, j, from), nil
	}
	u, err = startChild(ctx, j, from, lock)
	return to, u, err
}

// runHere is the unpacker without a process.
func runHere(ctx context.Context, j job, from []*os.File) running {
	streams := make([]io.ReadCloser, len(from))
	for i, f := range from {
		streams[i] = f
	}
	begun, done := make(chan job, 1), make(chan answer, 1)
	go func() {
		var result jobResult
		var err error
		select {
		case j := <-begun:
			result, err = j.run(ctx, streams, false)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		closeAll(from)
		done <- newAnswer(result, err)
	}()
	return running{
		begin: func(j job) { begun <- j },
		wait:  func() (jobResult, error) { return (<-done).check(j) },
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
