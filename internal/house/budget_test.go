package house

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// initBudget is what the init functions of all packages may take: mcp-bridge run pays them, and so does each container of
// libcontainer's, whose init is this program; those of the direct launcher do not. Half of it are the regular expressions of
// the registry client. The runtime's own is not counted, for no program escapes it. It is a number of times what one of
// them takes, which compiles a dozen regular expressions: 0.38 ms where all may take 3, and more on a slower machine.
const (
	initBudget = 8
	yardstick  = "github.com/distribution/reference"
)

// TestInitBudget builds the program as it ships and lets the Go runtime say what its inits take. Of several runs the
// quickest counts, for each package by itself: other work on the machine can only make it slower.
func TestInitBudget(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the program that launches containers is for Linux")
	}
	if testing.Short() {
		t.Skip("builds the whole program")
	}
	program := filepath.Join(t.TempDir(), "mcp-bridge")
	// As the Makefile does it.
	build := exec.Command("hack/go", "build", "-buildvcs=false", "-ldflags", "-s -w -linkmode external -extldflags -static", "-o", program, "./cmd/mcp-bridge")
	build.Dir = root(t)
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, out)
	}
	quickest := make(map[string]time.Duration)
	// As many runs as it takes, because a machine can be slow for a while; a budget that is exceeded never gets there.
	for runs := range 100 {
		cmd := exec.Command(program, "version")
		// One P, as a container's init has.
		cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1", "GOMAXPROCS=1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
		}
		for _, i := range initTimes(t, stderr.String()) {
			if before, ok := quickest[i.pkg]; !ok || i.took < before {
				quickest[i.pkg] = i.took
			}
		}
		total := time.Duration(0)
		for _, took := range quickest {
			total += took
		}
		if total <= initBudget*quickest[yardstick] && runs >= 5 {
			break
		}
	}
	var best []initTime
	for name, took := range quickest {
		best = append(best, initTime{name, took})
	}
	if len(best) < 10 {
		t.Fatalf("the runtime tells of %d inits only: %v", len(best), best)
	}
	slices.SortFunc(best, func(a, b initTime) int { return int(b.took - a.took) })
	t.Logf("%d inits take %v; the longest: %v", len(best), sum(best), best[:8])
	if budget := initBudget * quickest[yardstick]; sum(best) > budget {
		t.Errorf("the inits take %v, the budget is %v: %v", sum(best), budget, best[:20])
	}
}

type initTime struct {
	pkg  string
	took time.Duration
}

func (i initTime) String() string { return i.pkg + " " + i.took.String() }

func sum(list []initTime) (total time.Duration) {
	for _, i := range list {
		total += i.took
	}
	return total
}

// initTimes reads lines such as "init net/http @0.52 ms, 0.013 ms clock, 3000 bytes, 30 allocs". The program starts
// itself again (Seal), and then says them all a second time: the last program is meant.
func initTimes(t *testing.T, trace string) (list []initTime) {
	t.Helper()
	for line := range strings.Lines(trace) {
		f := strings.Fields(line)
		if len(f) < 7 || f[0] != "init" || f[5] != "ms" || f[6] != "clock," {
			continue
		}
		took, err := strconv.ParseFloat(f[4], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if f[1] == "runtime" {
			list = nil // another program begins
			continue
		}
		list = append(list, initTime{f[1], time.Duration(took * float64(time.Millisecond))})
	}
	return list
}
