package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mcp-bridge/mcp-bridge/oci"
	"github.com/mcp-bridge/mcp-bridge/rootfs"
)

// maxWarm bounds the compiling of an image: a standard library takes 2 s, with scientific packages some 20.
const maxWarm = 10 * time.Minute

// warm compiles an image's modules, once per image and one process at a time, in a sandbox that has seen nothing but the
// image. That it fails costs later runs some time and nothing else.
func warm(ctx context.Context, l oci.Launcher, store *rootfs.Store, tree rootfs.Tree, user oci.User, log *slog.Logger) (files int, err error) {
	if tree.Warmed() {
		return 0, nil
	}
	lock, ok := tree.LockWarm()
	if !ok {
		return 0, nil // another does it, or nobody may write there
	}
	defer lock.Close()
	ctx, cancel := context.WithTimeout(ctx, maxWarm)
	defer cancel()
	stdout, stdoutW, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer stdout.Close()
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		exit, err := l.Run(ctx, oci.Container{
			ID: "warm-" + strings.ToLower(rand.Text()), Rootfs: tree.Path, User: user,
			Args:   []string{tree.Python, "-I", "-B", "-X", "utf8", "-c", rootfs.WarmScript},
			Env:    slices.Concat(tree.Env, []string{"PYTHONHASHSEED=0", "HOME=" + oci.Workspace}),
			Limits: oci.Limits{Memory: 1 << 30, Pids: 32},
		}, oci.Streams{Stdout: stdoutW})
		stdoutW.Close()
		if err == nil && exit.Code != 0 {
			err = fmt.Errorf("compiling the image's modules ended with exit code %d", exit.Code)
		}
		done <- err
	}()
	files, err = store.Warm(ctx, tree, stdout)
	stdout.Close()
	if err != nil {
		cancel() // nobody reads what it makes, which it would find out only by writing
	}
	if rerr := <-done; err == nil || errors.Is(err, context.Canceled) {
		err = errors.Join(err, rerr)
	}
	log.Debug("compiled the image's modules", "files", files, "took", time.Since(began), "error", err)
	return files, err
}
