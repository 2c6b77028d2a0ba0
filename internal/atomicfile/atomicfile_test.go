package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestPlace: the file is there as a whole or is what it was, and nothing else is there.
func TestPlace(t *testing.T) {
	broken := errors.New("broken")
	half := func(w io.Writer) error {
		_, err := w.Write(make([]byte, 1<<20))
		return errors.Join(err, broken)
	}
	for _, tt := range []struct {
		name, before string
		place        func(name string, write func(io.Writer) error) error
		write        func(io.Writer) error
		want         string
		err          error
	}{
		{"new", "", Replace, Bytes([]byte("new")), "new", nil},
		{"replaced", "old", Replace, Bytes([]byte("new")), "new", nil},
		{"replaced durably", "old", ReplaceDurably, Bytes([]byte("new")), "new", nil},
		{"half", "old", Replace, half, "old", broken},
		{"half, durably", "old", ReplaceDurably, half, "old", broken},
		{"the first", "", Create, Bytes([]byte("new")), "new", nil},
		{"the second", "old", Create, Bytes([]byte("new")), "old", os.ErrExist},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, "file")
			if tt.before != "" {
				if err := os.WriteFile(name, []byte(tt.before), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := tt.place(name, tt.write); !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if got, err := os.ReadFile(name); err != nil || string(got) != tt.want {
				t.Errorf("it is %.20q, %v; want %q", got, err, tt.want)
			}
			if st, err := os.Stat(name); tt.want == "new" && (err != nil || st.Mode() != 0o600) {
				t.Errorf("its mode is %v, %v", st.Mode(), err)
			}
			if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
				t.Errorf("there are %v, %v", all, err)
			}
		})
	}
}
