package bench

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestStatistics(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64((i*37)%100 + 1) // 1 to 100, in no order
	}
	for _, tt := range []struct {
		name             string
		samples          []float64
		median, p90, p99 float64
	}{
		{"none", nil, 0, 0, 0},
		{"one", []float64{7}, 7, 7, 7},
		{"two", []float64{9, 1}, 5, 9, 9},
		{"three", []float64{9, 1, 2}, 2, 9, 9},
		{"ten", []float64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, 5.5, 9, 10},
		{"a hundred", hundred, 50.5, 90, 99},
	} {
		before := append([]float64(nil), tt.samples...)
		if got := [3]float64{median(tt.samples), quantile(tt.samples, 0.9), quantile(tt.samples, 0.99)}; got != [3]float64{tt.median, tt.p90, tt.p99} {
			t.Errorf("%s: median, p90, p99 are %v", tt.name, got)
		}
		if !cmp.Equal(before, tt.samples) {
			t.Errorf("%s: the samples were changed", tt.name)
		}
	}
	if x, ok := ratio([]float64{3, 1, 2}, []float64{4}); !ok || x != 0.5 {
		t.Errorf("ratio %v, %v", x, ok)
	}
	for _, b := range [][]float64{nil, {0}} {
		if _, ok := ratio([]float64{1}, b); ok {
			t.Errorf("there is a ratio to %v", b)
		}
	}
}

// sample is a report with something of everything.
func sample() Report {
	s := cold.empty("From here to there.", bareName, crunName)
	s.Rows = []Row{
		{Name: bareName, Samples: []float64{12, 11, 13}, CPU: 11.5},
		{Name: ours + ", <direct>", Samples: []float64{15, 14, 16}, CPU: 13, Note: `has | a "pipe" & more`},
		{Name: crunName, Samples: []float64{40, 30, 50}, CPU: 31},
	}
	s.LeftOut = []Left{{"runc run", "there is none"}, {"bwrap", "nor this"}}
	calls := call.empty("Line to line.", originalName)
	calls.Rows = []Row{{Name: ours, Samples: []float64{0.8, 1.2}}, {Name: originalName, Samples: []float64{300}}}
	load := burst.empty("At once.")
	load.Rows = []Row{{Name: ours, Samples: []float64{1000, 1500, 1234}, Errors: 2}}
	rest := idle.empty("Quiet.")
	rest.Rows = []Row{{Name: "RSS", Unit: "MB", Samples: []float64{20.123}}}
	return Report{
		Machine: Machine{CPU: "A CPU", CPUs: 2, Memory: 25, Kernel: "6.18", Arch: "amd64", Cgroups: "v2", User: "root"},
		Date:    time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Commit: "c0ffee", Image: "host", Load: 0.25,
		Versions: []Version{{"crun", "1.8.1"}, {"runc", "1.1.5"}},
		Sections: []Section{s, calls, load, rest},
	}
}

func golden(t *testing.T, file, have string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), have); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", file, diff)
	}
}

func TestMarkdown(t *testing.T) { golden(t, "testdata/report.md", sample().Markdown()) }

func TestCompare(t *testing.T) {
	older, newer := sample(), sample()
	newer.Sections[0].Rows[1].Samples = []float64{30}
	newer.Sections[1].Rows[0].Name = "somebody else"
	text, err := Compare(older, newer)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/compare.md", text)

	for name, change := range map[string]func(*Machine){
		"CPU":     func(m *Machine) { m.CPU = "Another" },
		"CPUs":    func(m *Machine) { m.CPUs++ },
		"memory":  func(m *Machine) { m.Memory++ },
		"kernel":  func(m *Machine) { m.Kernel += "-rc1" },
		"arch":    func(m *Machine) { m.Arch = "arm64" },
		"cgroups": func(m *Machine) { m.Cgroups = "v1" },
		"user":    func(m *Machine) { m.User = "a user" },
	} {
		other := sample()
		change(&other.Machine)
		var refused *MachineError
		if text, err := Compare(other, newer); !errors.As(err, &refused) || text != "" {
			t.Errorf("another %s: compared: %v", name, err)
		}
	}
}

// TestRoundTrip: what JSON keeps is the whole report.
func TestRoundTrip(t *testing.T) {
	b, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	back, err := Read(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), back); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "[]", "{", strings.Repeat(" ", 64<<20+1)} {
		if _, err := Read(strings.NewReader(bad)); err == nil {
			t.Errorf("a report is read from %.10q", bad)
		}
	}
}

func TestInsert(t *testing.T) {
	const document = "before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n"
	got, err := Insert(document, "new\n")
	if want := strings.Replace(document, "old", "new", 1); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", "<!-- bench -->\n", "<!-- /bench --> <!-- bench -->\n"} {
		if _, err := Insert(bad, "new"); err == nil {
			t.Errorf("inserted into %q", bad)
		}
	}
}

// TestPlot: well-formed, with a bar for each row that has a time or a rate, within the picture.
func TestPlot(t *testing.T) {
	r := sample()
	d := xml.NewDecoder(strings.NewReader(r.Plot()))
	d.Strict = true
	bars, words := 0, ""
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, r.Plot())
		}
		switch e := token.(type) {
		case xml.StartElement:
			if e.Name.Local != "rect" {
				continue
			}
			bars++
			var width float64
			for _, a := range e.Attr {
				if a.Name.Local == "width" {
					if err := json.Unmarshal([]byte(a.Value), &width); err != nil {
						t.Error(err)
					}
				}
			}
			if width <= 0 || width > plotWidth-labelWidth-valueWidth {
				t.Errorf("a bar is %v wide", width)
			}
		case xml.CharData:
			words += string(e)
		}
	}
	if bars != 6 {
		t.Errorf("%d bars", bars)
	}
	for _, want := range []string{"<direct>", "logarithmic", "Cold start", "A CPU"} {
		if !strings.Contains(words, want) {
			t.Errorf("the plot does not say %q", want)
		}
	}
	if empty := (Report{}).Plot(); xml.Unmarshal([]byte(empty), new(struct{})) != nil {
		t.Errorf("a plot of nothing: %s", empty)
	}
}
