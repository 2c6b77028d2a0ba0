package bench

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The plot's measures, in px.
const (
	plotWidth  = 860
	labelWidth = 330
	barHeight  = 16
	barStep    = 22
	headStep   = 44
	valueWidth = 70 // right of the longest bar
)

// Plot is the report's medians of time and throughput as a bar chart in SVG, each section on a scale of its own. Where
// the largest is many times the smallest, the scale is logarithmic, and the chart says so. Its colours are readable on
// white and on black.
func (r Report) Plot() string {
	var b strings.Builder
	y := 12
	for _, s := range r.Sections {
		if s.Unit == "" || len(s.Rows) == 0 {
			continue
		}
		y = s.bars(&b, y)
	}
	y += 24
	fmt.Fprintf(&b, `<text class="s" x="8" y="%d">%s</text>`+"\n", y-6, html.EscapeString(fmt.Sprintf("%s, %d CPUs, Linux %s, %s", r.Machine.CPU, r.Machine.CPUs, r.Machine.Kernel, r.Date.UTC().Format("2006-01-02"))))
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="mcp-bridge bench">
<style>text{font:12px system-ui,sans-serif;fill:#77808c}.h{font-weight:600;font-size:14px}.l{text-anchor:end}.s{font-size:11px}.o{fill:#2f81f7}.p{fill:#8b949e}</style>
%[3]s</svg>
`, plotWidth, y, b.String())
}

// bars draws one section from y on, and returns where it ends.
func (s Section) bars(b *strings.Builder, y int) int {
	least, most := math.Inf(1), 0.0
	for _, r := range s.Rows {
		if m := median(r.Samples); m > 0 {
			least, most = min(least, m), max(most, m)
		}
	}
	if most == 0 {
		return y
	}
	better := "less is better"
	if s.Unit == throughput.unit {
		better = "more is better"
	}
	const room = plotWidth - labelWidth - valueWidth
	length := func(v float64) float64 { return v / most * room }
	if most/least > 40 {
		better += ", logarithmic scale"
		floor := math.Log(least / 2) // so that the shortest bar is one
		length = func(v float64) float64 { return (math.Log(v) - floor) / (math.Log(most) - floor) * room }
	}
	y += headStep
	fmt.Fprintf(b, `<text class="h" x="8" y="%d">%s</text>`+"\n", y-20, html.EscapeString(s.Title))
	fmt.Fprintf(b, `<text class="s" x="8" y="%d">median %s, %s</text>`+"\n", y-6, html.EscapeString(s.Unit), better)
	for _, r := range s.Rows {
		m := median(r.Samples)
		if m <= 0 {
			continue
		}
		class := "p"
		if strings.HasPrefix(r.Name, ours) {
			class = "o"
		}
		fmt.Fprintf(b, `<text class="l" x="%d" y="%d">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/><text x="%.1f" y="%d">%s</text>`+"\n",
			labelWidth-8, y+barHeight-4, html.EscapeString(r.Name), class, labelWidth, y, length(m), barHeight, labelWidth+length(m)+6, y+barHeight-4, number(m))
		y += barStep
	}
	return y
}
