package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mcp-bridge/mcp-bridge/bridge"
	"github.com/mcp-bridge/mcp-bridge/internal/atomicfile"
	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/oci/cli"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// images makes of the image that is configured what a bridge needs of it.
type images struct {
	store    *rootfs.Store
	ref      string
	fallback string // what stands in when ref cannot be had; empty if nothing may
	log      *slog.Logger
	bar      *bar // where run shows a pull; nil if nobody looks

	engine func() *cli.Engine // the engine that keeps the images instead of store; nil, or it returns nil, if none does

	// compile compiles an image's modules, in the background; nil where nobody would wait for it.
	compile func(rootfs.Tree)
	jobs    sync.WaitGroup

	mu      sync.Mutex
	said    bool
	failed  error             // why ref could not be had
	again   time.Time         // until then it is not tried again, if something stands in for it
	warmed  map[string]bool   // trees that have been seen to, by digest
	runners map[string][]byte // compiled runners, by digest of the tree
}

func newImages(cfg config.Config, log *slog.Logger) *images {
	i := &images{
		store: &rootfs.Store{Dir: cfg.CacheDir, Logger: log}, ref: cfg.Image, log: log, runners: make(map[string][]byte), warmed: make(map[string]bool),
	}
	if !cfg.ImageSet {
		i.fallback = "host"
	}
	return i
}

func (i *images) image(ctx context.Context) (bridge.Image, error) {
	if e := i.keeper(); e != nil {
		return i.kept(ctx, e)
	}
	note := ""
	tree, err := rootfs.Tree{}, i.lately()
	if err == nil {
		tree, err = i.ensure(ctx)
	}
	if err != nil && i.fallback != "" && ctx.Err() == nil {
		cause := err
		if tree, err = i.store.Ensure(ctx, i.fallback); err != nil {
			return bridge.Image{}, errors.Join(cause, err)
		}
		note = fmt.Sprintf("a copy of this host's Python, because %s cannot be had yet", i.ref)
		i.sayOnce(cause)
	}
	if err != nil {
		return bridge.Image{}, err
	}
	i.warm(tree)
	return i.of(tree, note), nil
}

// cached is the image if it is in the cache. What stands in for it is only used by a run, which says so.
func (i *images) cached() (bridge.Image, bool) {
	if i.keeper() != nil {
		return bridge.Image{}, false // asking costs as much as a run
	}
	tree, ok := i.store.Cached(i.ref)
	if !ok {
		return bridge.Image{}, false
	}
	return i.of(tree, ""), true
}

func (i *images) keeper() *cli.Engine {
	if i.engine == nil {
		return nil
	}
	return i.engine()
}

// kept is the image as the engine has it. What is remembered of it is beside the images of ours.
func (i *images) kept(ctx context.Context, e *cli.Engine) (bridge.Image, error) {
	image, err := e.Image(ctx, i.ref, false, func(phase string) {
		bridge.Phase(ctx, phase)
		i.bar.show(phase, 0, 0)
	})
	i.bar.clear()
	if err != nil {
		return bridge.Image{}, err
	}
	aux := filepath.Join(i.store.Dir, "engine", image.ID)
	if err := os.MkdirAll(aux, 0o700); err != nil {
		i.log.Debug("cannot keep the compiled runner", "error", err)
	}
	out := i.of(rootfs.Tree{Digest: image.ID, Python: image.Python, Env: image.Env, Aux: aux}, "")
	out.Ref = image.ID
	return out, nil
}

func (i *images) of(tree rootfs.Tree, note string) bridge.Image {
	return bridge.Image{
		Root: tree.Path, Python: tree.Python, Env: tree.Env, Note: note,
		Runner:     i.runner(tree),
		SaveRunner: func(code []byte) { i.saveRunner(tree, code) },
	}
}

// registryPatience is how long a registry may take to say what a reference stands for, if something stands in for the
// image: a firewall that drops packets is no reason to let a first run wait for minutes.
const registryPatience = 5 * time.Second

// ensure makes the tree, and tells the client of a run about a pull.
func (i *images) ensure(ctx context.Context) (rootfs.Tree, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resolved := func() bool { return true }
	if i.fallback != "" {
		resolved = time.AfterFunc(registryPatience, func() {
			cancel(fmt.Errorf("the registry did not answer within %v", registryPatience))
		}).Stop
	}
	defer resolved()
	tree, err := i.store.Ensure(rootfs.WithProgress(ctx, func(p rootfs.Progress) {
		if p.Phase != rootfs.Resolving {
			resolved()
		}
		bridge.Phase(ctx, describe(i.ref, p))
		i.bar.image(i.ref, p)
	}), i.ref)
	i.bar.clear() // before the script, or an error, writes there
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("cannot pull image %s: %w", i.ref, context.Cause(ctx))
	}
	return tree, err
}

// describe says how far an image is.
func describe(ref string, p rootfs.Progress) string {
	if p.Total <= 0 {
		return fmt.Sprintf("%s %s", p.Phase, ref)
	}
	return fmt.Sprintf("%s %s: %.1f of %.1f MB", p.Phase, ref, float64(p.Done)/1e6, float64(p.Total)/1e6)
}

// warm has an image's modules compiled, behind the first run that uses it. A snapshot of the host has the host's.
func (i *images) warm(tree rootfs.Tree) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.compile == nil || tree.Ref == "host" || i.warmed[tree.Digest] {
		return
	}
	i.warmed[tree.Digest] = true
	i.jobs.Go(func() { i.compile(tree) })
}

// askAgain is how long a registry that could not be reached is left alone: no call should wait for the same timeout
// as the one before it.
const askAgain = time.Minute

// lately returns why the image could not be had, if that was a short while ago and something stands in for it.
func (i *images) lately() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.fallback == "" || time.Now().After(i.again) {
		return nil
	}
	return i.failed
}

func (i *images) sayOnce(cause error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Now().After(i.again) {
		i.failed, i.again = cause, time.Now().Add(askAgain)
	}
	if !i.said {
		i.said = true
		i.log.Warn("scripts run with a copy of this host's Python, because "+i.ref+" cannot be had; set "+config.EnvImage+" to choose an image (host: this one, without a warning)", "cause", cause)
	}
}

// runnerFile is where the compiled runner of a tree is kept for the next process.
func runnerFile(tree rootfs.Tree) string { return filepath.Join(tree.Aux, "runner-"+guest.RunnerID()) }

func (i *images) runner(tree rootfs.Tree) []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	if code, ok := i.runners[tree.Digest]; ok {
		return code
	}
	if st, err := os.Lstat(runnerFile(tree)); err != nil || !st.Mode().IsRegular() || st.Size() > guest.MaxCompiled {
		return nil
	}
	code, err := os.ReadFile(runnerFile(tree))
	if err != nil {
		return nil
	}
	i.runners[tree.Digest] = code
	return code
}

// saveRunner keeps what a sandbox compiled before it had seen any script. That it fails to be kept costs the next
// process some milliseconds and nothing else.
func (i *images) saveRunner(tree rootfs.Tree, code []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(code) > guest.MaxCompiled {
		return
	}
	i.runners[tree.Digest] = code
	if err := atomicfile.Replace(runnerFile(tree), atomicfile.Bytes(code)); err != nil {
		i.log.Debug("cannot keep the compiled runner", "error", err)
	}
}
