package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/cli"
	"github.com/mcp-bridge/mcp-bridge/oci/direct"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
	"github.com/mcp-bridge/mcp-bridge/oci/libct"
)

// launcherFor makes launchers of the kind that MCP_BRIDGE_RUNTIME asks for.
func launcherFor(cfg config.Config) (func(host.Options) host.Launcher, error) {
	switch name := cfg.Runtime; name {
	case "", "auto": // "" if the settings could not be read
		return func(o host.Options) host.Launcher { return newAuto(cfg, o) }, nil
	case "direct":
		return func(o host.Options) host.Launcher { return direct.New(o) }, nil
	case "libcontainer":
		return func(o host.Options) host.Launcher { return libct.New(o) }, nil
	case "crun", "runc", "youki", "runsc":
		return func(o host.Options) host.Launcher { return cli.NewRuntime(name, o) }, nil
	case "podman", "docker":
		return func(o host.Options) host.Launcher { return newEngine(cfg, o, name) }, nil
	default:
		if filepath.IsAbs(name) {
			return func(o host.Options) host.Launcher { return cli.NewRuntime(name, o) }, nil
		}
		return nil, usage("%s=%s is no runtime that is known; allowed are those of mcp-bridge --help", config.EnvRuntime, name)
	}
}

func newEngine(cfg config.Config, o host.Options, name string) *cli.Engine {
	return cli.NewEngine(cli.EngineOptions{Options: o, Kind: cli.EngineKind(name), IdleTimeout: cfg.IdleTimeout})
}

// seal starts the program again from a sealed copy, where a launcher needs one: libcontainer would make one for each
// container (see [libct.Seal]), and a file that others may not execute cannot be a container's first process.
func seal(runtime string) error {
	if runtime != "libcontainer" && host.Shareable() {
		return nil
	}
	return libct.Seal()
}

// newLauncher is the one that cfg asks for.
func newLauncher(cfg config.Config, log *slog.Logger) (host.Launcher, error) {
	launcher, err := launcherFor(cfg)
	if err != nil {
		return nil, err
	}
	return launcher(host.Options{StateDir: cfg.StateDir, AllowWeakLimits: cfg.AllowWeakLimits, Logger: log}), nil
}

// engineOf is the engine that keeps the images of a launcher's containers, if there is one.
func engineOf(l host.Launcher) *cli.Engine {
	if a, ok := l.(*auto); ok {
		l = a.first()
	}
	if e, ok := l.(*cli.Engine); ok && e.KeepsImages() {
		return e
	}
	return nil
}

// engineFor is the engine that keeps the images for the runtime that cfg asks for; nil if it is none that does.
func engineFor(cfg config.Config, log *slog.Logger) (*cli.Engine, error) {
	l, err := newLauncher(cfg, log)
	if err != nil {
		return nil, err
	}
	return engineOf(l), nil
}

// diagnoseRuntime is what the host offers to the runtime that cfg asks for; of auto, to the first that it would try.
func diagnoseRuntime(ctx context.Context, cfg config.Config, engine *cli.Engine, tree string) []host.Check {
	silent := slog.New(slog.DiscardHandler)
	if engine == nil && cfg.Runtime == "podman" {
		engine = newEngine(cfg, host.Options{StateDir: cfg.StateDir, Logger: silent}, "podman")
	}
	if engine != nil {
		return engine.Diagnose(ctx)
	}
	if cfg.Runtime == "auto" || cfg.Runtime == "" { // "" if the settings could not be read
		cfg.Runtime = "direct"
	}
	launcher, err := launcherFor(cfg)
	if err != nil {
		return []host.Check{{Step: "runtime", Status: host.Failed, Detail: err.Error()}}
	}
	return host.Diagnose(ctx, launcher, tree, oci.Limits{Memory: cfg.Memory, Pids: int64(cfg.Pids), CPUs: cfg.CPUs})
}

// runtimeOf names what runs the containers of a launcher, if it is not what is expected here.
func runtimeOf(cfg config.Config, l host.Launcher) string {
	if a, ok := l.(*auto); ok {
		return a.other()
	}
	if cfg.Runtime == "direct" {
		return ""
	}
	return filepath.Base(cfg.Runtime)
}

// A candidate is a runtime that auto may choose.
type candidate struct {
	name string
	make func() host.Launcher
}

// An auto is the first runtime that this host can use. What it can use shows when the first container is to run, so that
// nothing is tried before, and never again after one has run.
type auto struct {
	log *slog.Logger

	mu         sync.Mutex
	candidates []candidate        // those that are left; the first is in use
	rest       func() []candidate // finds those behind them, once the first has failed: a look at all of PATH; nil when it has
	launcher   host.Launcher
	given      []host.Launcher // up, which Close closes: others may be about to fail with them too
	used       bool            // a container has run
	why        error           // the first of all could not be used; what would be best to mend
}

func newAuto(cfg config.Config, o host.Options) *auto {
	all := func() []candidate { return candidates(cfg, o, runtime.GOOS, exec.LookPath) }
	if runtime.GOOS != "linux" {
		return &auto{log: o.Logger, candidates: all()}
	}
	return &auto{log: o.Logger, candidates: []candidate{directly(o)}, rest: func() []candidate { return all()[1:] }}
}

// directly is the first candidate on Linux.
func directly(o host.Options) candidate {
	return candidate{"direct", func() host.Launcher { return direct.New(o) }}
}

// candidates are the runtimes for a system, best first.
func candidates(cfg config.Config, o host.Options, goos string, look func(string) (string, error)) []candidate {
	var list []candidate
	if goos == "linux" {
		list = append(list, directly(o))
		for _, name := range []string{"crun", "runc"} {
			if _, err := look(name); err == nil {
				list = append(list, candidate{name, func() host.Launcher { return cli.NewRuntime(name, o) }})
			}
		}
	}
	for _, name := range []string{"podman", "docker"} {
		if _, err := look(name); err == nil {
			list = append(list, candidate{name, func() host.Launcher {
				e := newEngine(cfg, o, name)
				if goos == "linux" && e.KeepsImages() {
					return &imported{e, cfg.Image}
				}
				return e
			}})
		}
	}
	if len(list) == 0 {
		list = append(list, candidate{"podman", func() host.Launcher { return newEngine(cfg, o, "podman") }}) // to say that it is missing
	}
	return list
}

// first is the launcher in use.
func (a *auto) first() host.Launcher {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current()
}

func (a *auto) current() host.Launcher {
	if a.launcher == nil {
		a.launcher = a.candidates[0].make()
	}
	return a.launcher
}

// other names the runtime in use, if it is not the one that this system is meant for.
func (a *auto) other() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.why == nil && a.candidates[0].name == "direct" {
		return ""
	}
	return a.candidates[0].name
}

// Run implements [oci.Launcher].
func (a *auto) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	for {
		a.mu.Lock()
		l, why := a.current(), a.why
		if a.used {
			why = nil // it does not matter any more
		}
		a.mu.Unlock()
		exit, err := l.Run(ctx, c, s)
		if ctx.Err() != nil || !unusable(err, why != nil) { // a run that is ended says nothing of the host
			if err == nil {
				a.mu.Lock()
				a.used = true
				a.mu.Unlock()
			} else if why != nil && ctx.Err() == nil {
				err = fmt.Errorf("%w; and with %s: %v", why, a.other(), err)
			}
			return exit, err
		}
		if !a.next(l, err) {
			return exit, cmp.Or(why, err)
		}
	}
}

// unusable says that a launcher cannot be used on this host, by its error. Behind another one that could not, a container that
// does not start is most likely not at fault either: runtimes that are programs do not always know that it is the host.
func unusable(err error, another bool) bool {
	var missing *oci.HostError
	var start *oci.StartError
	return errors.As(err, &missing) || another && errors.As(err, &start) && start.Step == host.StepStart && !host.Passing(err)
}

// next gives up a launcher that this host cannot use, if there is another one.
func (a *auto) next(l host.Launcher, err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.launcher != l:
		return true // somebody else has gone on meanwhile
	case a.used:
		return false
	}
	if a.rest != nil {
		a.candidates, a.rest = append(a.candidates, a.rest()...), nil
	}
	if len(a.candidates) == 1 {
		return false
	}
	a.log.Warn("this host cannot run containers with "+a.candidates[0].name+", so "+a.candidates[1].name+" is tried; \"mcp-bridge doctor\" says what to mend", "error", err)
	a.given = append(a.given, l)
	a.candidates, a.launcher, a.why = a.candidates[1:], nil, cmp.Or(a.why, err)
	return true
}

// Close implements [host.Launcher].
func (a *auto) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, l := range a.given {
		errs = append(errs, l.Close())
	}
	if a.launcher != nil {
		errs = append(errs, a.launcher.Close())
	}
	return errors.Join(errs...)
}

// An imported runs containers of docker on Linux, in place of those of a tree of ours, which docker cannot use: of the image
// of the same name that docker keeps.
type imported struct {
	*cli.Engine
	ref string
}

func (i *imported) Run(ctx context.Context, c oci.Container, s oci.Streams) (oci.Exit, error) {
	image, err := i.Image(ctx, i.ref, false, nil)
	if err != nil {
		return oci.Exit{}, err
	}
	c.Rootfs, c.Image = "", image.ID
	c.Args = append([]string{image.Python}, c.Args[1:]...)
	return i.Engine.Run(ctx, c, s)
}

// runtimesHere are the programs on this machine that could run containers.
func runtimesHere() string {
	var found []string
	for _, name := range []string{"crun", "runc", "podman", "docker"} {
		if _, err := exec.LookPath(name); err == nil {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return "none"
	}
	return strings.Join(found, ", ")
}

// compiledIn are the runtimes that need no program.
func compiledIn() string {
	if runtime.GOOS != "linux" {
		return "none for " + runtime.GOOS
	}
	return fmt.Sprintf("direct, libcontainer (runc %s)", moduleVersion("github.com/opencontainers/runc"))
}
