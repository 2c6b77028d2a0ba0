package wire

import (
	"strings"
	"testing"
	"time"
)

// TestRetry: a server may ask for a pause, within bounds.
func TestRetry(t *testing.T) {
	for asked, want := range map[string]time.Duration{"0": minRetry, "1": minRetry, "1000": time.Second, "999999999999": time.Minute, "-1": 0, "soon": 0} {
		r := newEventReader(strings.NewReader("retry: " + asked + "\ndata: x\n\n"))
		if _, err := r.next(); err != nil || r.retry != want {
			t.Errorf("%s: %v, %v; want %v", asked, r.retry, err, want)
		}
	}
}
