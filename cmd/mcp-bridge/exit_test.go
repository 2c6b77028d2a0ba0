package main

import (
	"slices"
	"testing"
)

// TestExitCodes: every command that ends by itself says what its exit codes mean.
func TestExitCodes(t *testing.T) {
	for _, c := range command().Commands() {
		without := slices.Contains([]string{"serve", "version", "bench-server"}, c.Name())
		if got := exitCodes(c.Name()); without != (got == "") {
			t.Errorf("%s: %q", c.Name(), got)
		}
	}
}
