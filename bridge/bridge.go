// Package bridge is the MCP server of mcp-bridge: its one tool run_python, one run of a script from the request to the
// result, and how that result is rendered. It knows a sandbox only as an [oci.Launcher], and the image only as what
// [Options.Image] hands it, so it builds and tests on every OS.
package bridge

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/mcp-bridge/mcp-bridge/internal/pool"
	"github.com/mcp-bridge/mcp-bridge/oci"
)

// Options of a [Bridge]. Launcher and Image are required.
type Options struct {
	Version  string
	Launcher oci.Launcher
	// Image gives the tree that a run starts from. It is called for each run and may block, for instance on a pull;
	// the first call happens with the first run, never before.
	Image func(context.Context) (Image, error)

	Limits oci.Limits
	User   oci.User
	// Timeout is for runs that name none, MaxTimeout for those that name too much.
	Timeout, MaxTimeout time.Duration
	// MaxConcurrency is how many runs go on at once; more wait their turn, first come first served.
	MaxConcurrency int
	// Pool is how many sandboxes are kept warm while Serve runs, more while more are wanted at once, and none after
	// IdleTimeout without a run.
	Pool        int
	IdleTimeout time.Duration
	// Preload are the modules of the image that those import ahead, beside what the last scripts used of Python's own library.
	Preload []string
	// CachedImage is Image without anything that takes time or leaves traces, so that a sandbox can be warm before the
	// first run; it may be nil.
	CachedImage func() (Image, bool)
	// Runtime names what runs the sandboxes when it is not what is expected of this system; it may be nil.
	Runtime    func() string
	OutputMode Mode

	Servers Servers     // MCP servers that scripts may use; may be nil
	Tools   *SavedTools // functions that scripts have saved; may be nil

	Logger *slog.Logger // nil discards
}

// Image is a directory tree with a Python in it.
type Image struct {
	Root   string   // absolute path on the host
	Ref    string   // what the launcher's engine calls it, if that keeps it; Root is empty then
	Python string   // absolute path in the tree
	Env    []string // the image's own environment
	// Note is shown in every result when the image is not the one to be expected.
	Note string
	// Runner is the runner of package guest compiled for this Python, if it is known, and SaveRunner keeps it when a
	// sandbox has compiled it. SaveRunner may be nil.
	Runner     []byte
	SaveRunner func([]byte)
}

// A Bridge runs scripts. It is safe for concurrent use.
type Bridge struct {
	opts   Options
	slots  *semaphore.Weighted
	runs   sync.WaitGroup
	front  *front
	pool   *sandboxes
	habits habits
	absent sync.Once // to say which of Preload cannot be imported

	waiting      atomic.Int64 // runs that wait for their turn
	wanted       atomic.Int64 // those, and runs that have no result yet
	descriptions descriptions // of the servers' tools
}

// New makes a Bridge. It starts nothing.
func New(opts Options) *Bridge {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.MaxConcurrency < 1 {
		opts.MaxConcurrency = 1
	}
	b := &Bridge{opts: opts, slots: semaphore.NewWeighted(int64(opts.MaxConcurrency)), front: newFront()}
	b.pool = pool.New(b.poolOptions())
	return b
}

// Wait returns when no run is going on any more.
func (b *Bridge) Wait() { b.runs.Wait() }
