package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The marks between which a document has the tables.
const (
	beginMark = "<!-- bench -->\n"
	endMark   = "<!-- /bench -->"
)

// Insert puts tables into a document, in place of those that are there.
func Insert(document, tables string) (string, error) {
	before, rest, ok := strings.Cut(document, beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return "", fmt.Errorf("cannot insert the tables: the document has no %s ... %s", strings.TrimSpace(beginMark), endMark)
	}
	return before + beginMark + tables + endMark + after, nil
}

// Read reads a report as Run makes it and JSON keeps it.
func Read(r io.Reader) (Report, error) {
	var report Report
	const most = 64 << 20
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("it has more than %d MB", most>>20)
	}
	if err == nil {
		err = json.Unmarshal(b, &report)
	}
	if err != nil {
		return Report{}, fmt.Errorf("cannot read a report: %v", err)
	}
	return report, nil
}

// Markdown is the report for people.
func (r Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v.\n\n%s, image %s", r.Machine, r.Date.UTC().Format("2006-01-02"), r.Image)
	if r.Commit != "" {
		fmt.Fprintf(&b, ", commit %s", r.Commit)
	}
	fmt.Fprintf(&b, ", load %.1f when it began.", r.Load)
	for _, v := range r.Versions {
		fmt.Fprintf(&b, " %s: %s.", v.Name, v.Version)
	}
	b.WriteString("\n")
	for _, s := range r.Sections {
		fmt.Fprintf(&b, "\n### %s\n%s\n\n", s.Title, s.How)
		s.table(&b)
		if len(s.LeftOut) > 0 {
			b.WriteString("\nLeft out:\n")
		}
		for _, l := range s.LeftOut {
			fmt.Fprintf(&b, "- %s: %s\n", cell(l.Name), cell(l.Reason))
		}
	}
	return b.String()
}

// table leaves out the columns that would be empty.
func (s Section) table(w io.Writer) {
	if len(s.Rows) == 0 {
		return
	}
	type column struct {
		head string
		cell func(Row) string
	}
	columns := []column{
		{"", func(r Row) string { return cell(r.Name) }},
		{strings.TrimSpace("median " + s.Unit), func(r Row) string { return strings.TrimSpace(number(median(r.Samples)) + " " + r.Unit) }},
	}
	if s.Unit == "ms" {
		columns = append(columns, column{"p99 ms", func(r Row) string { return number(quantile(r.Samples, 0.99)) }})
	}
	for _, name := range s.Against {
		i := slices.IndexFunc(s.Rows, func(r Row) bool { return r.Name == name })
		if i < 0 {
			continue
		}
		columns = append(columns, column{"x " + cell(name), func(r Row) string {
			x, ok := ratio(r.Samples, s.Rows[i].Samples)
			if !ok {
				return ""
			}
			return share(x)
		}})
	}
	if slices.ContainsFunc(s.Rows, func(r Row) bool { return r.CPU > 0 }) {
		columns = append(columns, column{"CPU ms a run", func(r Row) string {
			if r.CPU == 0 {
				return ""
			}
			return number(r.CPU)
		}})
	}
	if s.Name == burst.name {
		columns = append(columns, column{"errors", func(r Row) string { return fmt.Sprint(r.Errors) }})
	}
	if slices.ContainsFunc(s.Rows, func(r Row) bool { return r.Note != "" }) {
		columns = append(columns, column{"", func(r Row) string { return cell(r.Note) }})
	}
	line := func(cells func(column) string) {
		for _, c := range columns {
			fmt.Fprintf(w, "| %s ", cells(c))
		}
		fmt.Fprintln(w, "|")
	}
	line(func(c column) string { return c.head })
	fmt.Fprintln(w, strings.Repeat("|---", len(columns))+"|")
	for _, r := range s.Rows {
		line(func(c column) string { return c.cell(r) })
	}
}

func cell(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s) }

// share is a ratio, of which two digits should mean something.
func share(x float64) string {
	if x < 0.1 {
		return fmt.Sprintf("%.3f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// number has three digits that mean something.
func number(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	default:
		return fmt.Sprintf("%.2f", f)
	}
}

// Compare says what has become of what an older report measured, new over old. The error is a [*MachineError] if that
// was another machine.
func Compare(older, newer Report) (string, error) {
	if older.Machine.Fingerprint() != newer.Machine.Fingerprint() {
		return "", &MachineError{older.Machine, newer.Machine}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "### Compared with %s", older.Date.UTC().Format("2006-01-02 15:04"))
	if older.Commit != "" {
		fmt.Fprintf(&b, ", commit %s", older.Commit)
	}
	b.WriteString("\n| | | then | now | now / then |\n|---|---|---|---|---|\n")
	for _, s := range newer.Sections {
		for _, r := range s.Rows {
			old, ok := older.row(s.Name, r.Name)
			if !ok {
				continue
			}
			x, ok := ratio(r.Samples, old.Samples)
			if !ok {
				continue
			}
			unit := s.Unit + r.Unit
			fmt.Fprintf(&b, "| %s | %s | %s %s | %s %s | %s |\n", s.Name, cell(r.Name), number(median(old.Samples)), unit, number(median(r.Samples)), unit, share(x))
		}
	}
	return b.String(), nil
}

func (r Report) row(section, name string) (Row, bool) {
	for _, s := range r.Sections {
		for _, row := range s.Rows {
			if s.Name == section && row.Name == name {
				return row, true
			}
		}
	}
	return Row{}, false
}
