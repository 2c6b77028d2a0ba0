package pool

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRoom(t *testing.T) {
	m, ok := memory()
	free := m.available
	if !ok || free < 1<<20 || m.total < free {
		t.Fatalf("%+v, %v", m, ok)
	}
	if Room(1 << 40 / each) {
		t.Error("there is room for a terabyte of idle sandboxes")
	}
	if free > 2*share*each && !Room(0) {
		t.Errorf("no room for one with %d MiB available", free>>20)
	}
}

// TestWithin: what a cgroup above this one may have is all that there is.
func TestWithin(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"memory.max":   "", // the root has none
		"a/memory.max": "max\n", "a/memory.high": "300\n", "a/memory.current": "250\n", "a/memory.stat": "anon 200\ninactive_file 40\n",
		"a/b/memory.max": "400\n", "a/b/memory.high": "max\n", "a/b/memory.current": "220\n",
		"full/memory.max": "100\n", "full/memory.high": "max\n", "full/memory.current": "120\n",
	} {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := meminfo{1000, 500}
	for own, want := range map[string]meminfo{
		"/": all, "/elsewhere/below": all, "/a": {300, 90}, "/a/b": {300, 90}, "/a/b/supervisor": {300, 90}, "/full": {100, 0},
	} {
		if got := all.within(root, own); got != want {
			t.Errorf("%s: %v, want %v", own, got, want)
		}
	}
}

func TestOnPressureEnds(t *testing.T) {
	for range 3 {
		OnPressure(func() {})()
	}
}
