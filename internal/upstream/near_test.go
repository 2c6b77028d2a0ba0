package upstream

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNear(t *testing.T) {
	known := []string{"github", "gitlab", "files", "file-system", "web_search", "Slack", "x"}
	for _, tt := range []struct {
		name string
		want []string
	}{
		{"github", []string{"github", "gitlab"}},
		{"GitHub", []string{"github", "gitlab"}},
		{"git-hub", []string{"github", "gitlab"}},
		{"guthib", []string{"github"}},
		{"git", []string{"github", "gitlab"}},
		{"websearch", []string{"web_search"}},
		{"slack", []string{"Slack"}},
		{"filesystem", []string{"file-system", "files"}},
		{"nothing-like-it", nil},
		{"", []string{"x"}},
		{strings.Repeat("a", 1000), nil},
	} {
		t.Run(tt.name[:min(len(tt.name), 20)], func(t *testing.T) {
			got := near(tt.name, known)
			if len(got) > 3 {
				t.Errorf("%d suggestions", len(got))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
