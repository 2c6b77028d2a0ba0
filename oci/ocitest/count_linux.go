//go:build linux

package ocitest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Eventually waits until wrong says that nothing is. What it polls are other processes and the kernel, which have no event
// to wait for.
func Eventually(t testing.TB, within time.Duration, wrong func() string) {
	t.Helper()
	start := time.Now()
	deadline := time.After(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for {
		what := wrong()
		if what == "" {
			if waited := time.Since(start); waited > time.Second {
				t.Logf("waited %v: %s", waited.Round(time.Millisecond), last) // or nobody knows where the time goes
			}
			return
		}
		last = what
		select {
		case <-deadline:
			t.Fatalf("after %v: %s", within, what)
		case <-tick.C:
		}
	}
}

// Entries counts what is in a directory.
func Entries(t testing.TB, dir string) int {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Goroutines counts the goroutines when no more of them end by themselves.
func Goroutines(t testing.TB) int {
	n, same := runtime.NumGoroutine(), 0
	Eventually(t, patience, func() string {
		if now := runtime.NumGoroutine(); now != n {
			n, same = now, 0
		}
		if same++; same > 20 {
			return ""
		}
		return fmt.Sprintf("the number of goroutines changes, now it is %d", n)
	})
	return n
}

// Children counts the child processes, zombies included.
func Children(t testing.TB) int {
	t.Helper()
	n := 0
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, _ := os.ReadFile(f) // a thread may have ended
		n += len(strings.Fields(string(b)))
	}
	return n
}
