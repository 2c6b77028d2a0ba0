package bridge

import (
	"context"
	"slices"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/internal/pool"
	"github.com/mcp-bridge/mcp-bridge/internal/sandbox"
	"github.com/mcp-bridge/mcp-bridge/oci"
)

// sandboxes are those that wait for runs.
type sandboxes = pool.Pool[sandbox.Recipe, *sandbox.Sandbox]

func (b *Bridge) poolOptions() pool.Options[sandbox.Recipe, *sandbox.Sandbox] {
	return pool.Options[sandbox.Recipe, *sandbox.Sandbox]{
		Start: func(ctx context.Context, r sandbox.Recipe) (*sandbox.Sandbox, error) {
			r.Warming = guest.Warming{Modules: b.ahead(), Preload: b.opts.Preload}
			return sandbox.Start(ctx, r, true)
		},
		Same: sandbox.Recipe.Same,
		Size: b.opts.Pool, Max: b.opts.MaxConcurrency, Idle: b.opts.IdleTimeout,
		Wanted: func() int { return int(b.wanted.Load()) },
		Busy:   func() bool { return b.waiting.Load() > 0 }, Room: pool.Room, Pressure: pool.OnPressure,
		Logger: b.opts.Logger,
	}
}

// keepWarm keeps the pool filled until ctx ends; for the first time once the client has had its first answer.
func (b *Bridge) keepWarm(ctx context.Context, s *session) {
	if b.opts.Pool <= 0 {
		return
	}
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		select {
		case <-ctx.Done():
			return
		case <-s.spoken:
		}
		if b.opts.CachedImage == nil {
			return
		}
		if image, ok := b.opts.CachedImage(); ok {
			b.pool.Fill(b.recipe(image))
		}
	}()
	b.pool.Run(ctx)
	<-filled
}

// noModules says once that modules which are to be there cannot be imported. It is told so by the image, of which it believes
// nothing but names that it knows.
func (b *Bridge) noModules(names []string) {
	names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(b.opts.Preload, name) })
	if len(names) == 0 {
		return
	}
	b.absent.Do(func() {
		b.opts.Logger.Warn("modules of MCP_BRIDGE_PRELOAD cannot be imported in this image; mcp-bridge run -c 'import ...' shows why", "modules", names)
	})
}

// recipe is what a sandbox of an image is made of.
func (b *Bridge) recipe(image Image) sandbox.Recipe {
	r := sandbox.Recipe{
		Launcher: b.opts.Launcher, Python: image.Python, Runner: image.Runner, SaveRunner: image.SaveRunner,
		Absent:    b.noModules,
		Container: oci.Container{Rootfs: image.Root, Image: image.Ref, Env: environment(image.Env), User: b.opts.User, Limits: b.opts.Limits},
	}
	if b.opts.Pool > 0 {
		r.Pin()
	}
	return r
}
