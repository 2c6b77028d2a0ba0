package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/oci/host"
)

// TestCandidates: which runtimes auto would try, by system and by what is there.
func TestCandidates(t *testing.T) {
	for name, tt := range map[string]struct {
		goos  string
		there string
		want  []string
	}{
		"Linux":                 {"linux", "", []string{"direct"}},
		"Linux with all":        {"linux", "podman docker", []string{"direct", "podman", "docker"}},
		"macOS with all":        {"darwin", "podman docker", []string{"podman", "docker"}},
		"macOS with docker":     {"darwin", "docker", []string{"docker"}},
		"macOS without, to say": {"darwin", "", []string{"podman"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range candidates(config.Config{}, host.Options{}, tt.goos, func(name string) (string, error) {
				if slices.Contains(strings.Fields(tt.there), name) {
					return "/usr/bin/" + name, nil
				}
				return "", exec.ErrNotFound
			}) {
				got = append(got, c.name)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A stub is a launcher whose Run returns an error.
type stub struct {
	err    error
	runs   int
	closed bool
}

func (s *stub) Run(context.Context, oci.Container, oci.Streams) (oci.Exit, error) {
	s.runs++
	return oci.Exit{}, s.err
}
func (s *stub) Close() error { s.closed = true; return nil }

// TestAuto: a host that cannot use a runtime gets the next one, which stays; a container that fails for another reason, or
// after one has run, gets no other.
func TestAuto(t *testing.T) {
	cannot := &oci.HostError{Missing: "no user namespaces", Fix: "mend it"}
	newStubs := func(errs ...error) (*auto, []*stub) {
		var all []candidate
		var stubs []*stub
		for i, err := range errs {
			s := &stub{err: err}
			stubs = append(stubs, s)
			all = append(all, candidate{[]string{"direct", "podman", "docker"}[i], func() host.Launcher { return s }})
		}
		return &auto{log: slog.New(slog.DiscardHandler), candidates: all[:1:1], rest: func() []candidate { return all[1:] }}, stubs
	}
	run := func(a *auto) error {
		_, err := a.Run(t.Context(), oci.Container{}, oci.Streams{})
		return err
	}
	t.Run("the first", func(t *testing.T) {
		a, stubs := newStubs(nil, nil)
		if err := run(a); err != nil || stubs[1].runs > 0 || a.other() != "" {
			t.Errorf("%v, %v, %q", err, stubs, a.other())
		}
	})
	t.Run("the second", func(t *testing.T) {
		a, stubs := newStubs(cannot, nil)
		if err := errors.Join(run(a), run(a)); err != nil || stubs[0].runs != 1 || stubs[1].runs != 2 || a.other() != "podman" {
			t.Errorf("%v, %d and %d runs, %q", err, stubs[0].runs, stubs[1].runs, a.other())
		}
		if err := a.Close(); err != nil || !stubs[0].closed || !stubs[1].closed {
			t.Errorf("%v, closed: %t, %t", err, stubs[0].closed, stubs[1].closed)
		}
	})
	t.Run("none", func(t *testing.T) {
		a, _ := newStubs(cannot, &oci.HostError{Missing: "no podman"}, &oci.HostError{Missing: "no docker"})
		for range 2 { // a call, and the next
			if err := run(a); !errors.Is(err, cannot) {
				t.Errorf("%v, want what is wrong with the first", err)
			}
		}
	})
	t.Run("the second fails in its own way", func(t *testing.T) {
		a, _ := newStubs(cannot, errors.New("its database is gone"))
		for range 2 {
			if err := run(a); !errors.Is(err, cannot) || !strings.HasSuffix(err.Error(), "; and with podman: its database is gone") {
				t.Errorf("%v, want what is wrong with both", err)
			}
		}
	})
	t.Run("one that does not know why", func(t *testing.T) {
		start := &oci.StartError{Step: host.StepStart, Err: errors.New("mount proc: Operation not permitted")}
		a, stubs := newStubs(cannot, start, nil)
		if err := run(a); err != nil || stubs[2].runs != 1 {
			t.Errorf("%v, %d runs of the third", err, stubs[2].runs)
		}
		a, stubs = newStubs(start, nil)
		if err := run(a); !errors.Is(err, start) || stubs[1].runs != 0 {
			t.Errorf("%v, %d runs of the second", err, stubs[1].runs)
		}
	})
	t.Run("one that is short of something for a moment", func(t *testing.T) {
		short := &oci.StartError{Step: host.StepStart, Err: fmt.Errorf("clone: %w", unix.EMFILE)}
		a, stubs := newStubs(cannot, short, nil)
		if err := run(a); !errors.Is(err, short) && !strings.Contains(fmt.Sprint(err), short.Error()) || stubs[2].runs != 0 {
			t.Errorf("%v, %d runs of the third", err, stubs[2].runs)
		}
		stubs[1].err = nil
		if err := run(a); err != nil || stubs[2].runs != 0 || a.other() != "podman" {
			t.Errorf("afterwards: %v, %d runs of the third", err, stubs[2].runs)
		}
	})
	t.Run("another reason", func(t *testing.T) {
		reason := errors.New("the script is at fault")
		a, stubs := newStubs(reason, nil)
		if err := run(a); !errors.Is(err, reason) || stubs[1].runs > 0 {
			t.Errorf("%v, %d runs", err, stubs[1].runs)
		}
	})
	t.Run("a run that is cancelled", func(t *testing.T) {
		a, stubs := newStubs(cannot, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.Run(ctx, oci.Container{}, oci.Streams{}); err == nil || stubs[1].runs > 0 || a.other() != "" {
			t.Errorf("%v, %d runs of the second, %q", err, stubs[1].runs, a.other())
		}
	})
	t.Run("after a run", func(t *testing.T) {
		a, stubs := newStubs(nil, nil)
		first := run(a)
		stubs[0].err = cannot
		if err := run(a); first != nil || !errors.Is(err, cannot) || stubs[1].runs > 0 {
			t.Errorf("%v, %v, %d runs", first, err, stubs[1].runs)
		}
	})
}
