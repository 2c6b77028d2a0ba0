package guest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

type vector struct {
	Name, Direction, After, Frame, Hex, Error string
	OK                                        map[string]json.RawMessage
}

func (v vector) bytes(t testing.TB) []byte {
	b, err := hex.DecodeString(v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, v.Frame...)
}

func vectors(t testing.TB) []vector {
	text, err := os.ReadFile("testdata/frames.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for line := range strings.Lines(string(text)) {
		var v vector
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, v)
	}
	return all
}

const readyLine = `{"type":"ready","protocol":1,"python":"3.11.2"}` + "\n"

const runningLine = `{"type":"running"}` + "\n"

// readyReader returns a Reader that has had its ready and may have warm or running.
func readyReader(t testing.TB, r io.Reader) *Reader {
	t.Helper()
	reader := NewReader(io.MultiReader(strings.NewReader(readyLine), r))
	if _, err := reader.Read(); err != nil {
		t.Fatal(err)
	}
	reader.Warming()
	reader.Running()
	return reader
}

// runningReader returns a Reader that has had its running too and may have calls.
func runningReader(t testing.TB, r io.Reader) *Reader {
	t.Helper()
	reader := readyReader(t, io.MultiReader(strings.NewReader(runningLine), r))
	if _, err := reader.Read(); err != nil {
		t.Fatal(err)
	}
	return reader
}

// TestReaderCompiled: the code follows ready as it is, whatever bytes it has.
func TestReaderCompiled(t *testing.T) {
	code := strings.Repeat("\x00\n\xff{", 50_000)
	line := fmt.Sprintf(`{"type":"ready","protocol":1,"python":"3.11.2","compiled":%d}`+"\n", len(code))
	r := NewReader(strings.NewReader(line + code + runningLine))
	if m, err := r.Read(); err != nil || !reflect.DeepEqual(m, Ready{"3.11.2", []byte(code)}) {
		t.Errorf("%.200v, %v", m, err)
	}
	r.Running()
	if m, err := r.Read(); err != nil || m != (Running{}) {
		t.Errorf("then %v, %v", m, err)
	}
	for _, n := range []int{0, 1, len(code) - 1} {
		if m, err := NewReader(strings.NewReader(line + code[:n])).Read(); err != io.ErrUnexpectedEOF {
			t.Errorf("cut after %d bytes: %.200v, %v", n, m, err)
		}
	}
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			if v.Direction == "host" {
				testHostVector(t, v)
				return
			}
			line := append(v.bytes(t), '\n')
			var r *Reader
			if strings.Contains(v.Frame, "protocol") || strings.Contains(v.Frame, "stale") && v.Error == "" {
				r = NewReader(bytes.NewReader(line))
			} else if v.After == "ready" {
				r = readyReader(t, bytes.NewReader(line))
			} else {
				r = runningReader(t, bytes.NewReader(line))
			}
			m, err := r.Read()
			if v.Error != "" {
				if err == nil || !strings.Contains(err.Error(), v.Error) {
					t.Errorf("got %v, %v, want an error with %q", m, err, v.Error)
				}
				if _, again := r.Read(); again != err {
					t.Errorf("then %v", again)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text := func(field string) (s string) { json.Unmarshal(v.OK[field], &s); return s }
			var want Message
			switch m.(type) {
			case Stale:
				want = Stale{}
			case Warm:
				var w Warm
				json.Unmarshal(v.OK["Failed"], &w.Failed)
				want = w
			case Running:
				want = Running{}
			case Ready:
				want = Ready{Python: text("python")}
			case Call:
				c := Call{Server: text("server"), Tool: text("tool"), Arguments: json.RawMessage(text("arguments"))}
				json.Unmarshal(v.OK["id"], &c.ID)
				want = c
			case Done:
				d := Done{Truncated: string(v.OK["truncated"]) == "true"}
				if r := text("result"); r != "" {
					d.Result = json.RawMessage(r)
				}
				if e := v.OK["error"]; e != nil {
					json.Unmarshal(e, &d.Error)
				}
				want = d
			}
			if !reflect.DeepEqual(m, want) {
				t.Errorf("got %#v, want %#v", m, want)
			}
			if _, err := r.Read(); err != io.EOF {
				t.Errorf("then %v", err)
			}
		})
	}
}

// testHostVector writes what the vector says and compares the meaning of the frames, and the order of their fields.
func testHostVector(t *testing.T, v vector) {
	all, err := json.Marshal(v.OK)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := NewWriter(&out)
	if strings.HasPrefix(v.Frame, `{"type":"run"`) {
		var r Run
		if err := json.Unmarshal(all, &r); err != nil {
			t.Fatal(err)
		}
		err = w.Run(r)
	} else if strings.HasPrefix(v.Frame, `{"type":"warm"`) {
		err = w.Warm(Warming{Modules: []string{"json"}, Preload: []string{"numpy"}})
	} else {
		var r Return
		if err := json.Unmarshal(all, &r); err != nil {
			t.Fatal(err)
		}
		err = w.Return(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(v.Frame), &want); err != nil {
		t.Fatal(err)
	}
	start, _, _ := strings.Cut(v.Frame, ":")
	if !reflect.DeepEqual(got, want) || !strings.HasPrefix(out.String(), start) || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("wrote %s, want %s", out.String(), v.Frame)
	}
}

func TestVectorsInPython(t *testing.T) {
	file := filepath.Join(t.TempDir(), "runner.py")
	if err := os.WriteFile(file, []byte(source()), 0o600); err != nil {
		t.Fatal(err)
	}
	eachPython(t, func(t *testing.T, python string) {
		for _, missing := range [][]string{nil, {"_json"}} {
			args := append([]string{"-I", "-B", "-X", "utf8", "testdata/vectors.py", file, "testdata/frames.jsonl"}, missing...)
			out, err := exec.Command(python, args...).CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) == "0" {
				t.Errorf("without %q: %v\n%s", missing, err, out)
			}
		}
	})
}

func call(id int) string {
	return fmt.Sprintf(`{"type":"call","id":%d,"server":"s","tool":"t","arguments":{}}`+"\n", id)
}

// endless repeats a text for ever, and counts what was taken.
type endless struct {
	text string
	n    int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.text[e.n%len(e.text):])
	e.n += n
	return n, nil
}

func TestStates(t *testing.T) {
	const staleLine = `{"type":"stale"}` + "\n"
	const begun = readyLine + runningLine
	const warmLine = `{"type":"warm"}` + "\n"
	const done = `{"type":"done"}` + "\n"
	part := func(data string, last bool) string {
		b, _ := json.Marshal(map[string]any{"type": "part", "data": data, "last": last})
		return string(b) + "\n"
	}
	for _, c := range []struct {
		name, in, err string
		messages      int
		idle          bool // neither warm nor run was sent
	}{
		{name: "nothing", err: "EOF"},
		{name: "whole run", in: begun + call(1) + call(2) + call(9) + done, messages: 6, err: "EOF"},
		{name: "no ready", in: call(1), err: `a "call" frame before running`},
		{name: "done first", in: done, err: `a "done" frame before running`},
		{name: "call before run", in: readyLine + call(1), messages: 1, err: `a "call" frame before running`, idle: true},
		{name: "done before run", in: readyLine + done, messages: 1, err: `a "done" frame before running`, idle: true},
		{name: "ready twice", in: readyLine + readyLine, messages: 1, err: "a second ready"},
		{name: "stale first", in: staleLine + begun + done, messages: 4, err: "EOF"},
		{name: "stale twice", in: staleLine + staleLine, messages: 1, err: "stale at the wrong time"},
		{name: "stale after ready", in: readyLine + staleLine, messages: 1, err: "stale at the wrong time"},
		{name: "call before running", in: readyLine + call(1), messages: 1, err: `a "call" frame before running`},
		{name: "done before running", in: readyLine + done, messages: 1, err: `a "done" frame before running`},
		{name: "running first", in: runningLine, err: "running at the wrong time"},
		{name: "running before run", in: readyLine + runningLine, messages: 1, err: "running at the wrong time", idle: true},
		{name: "running twice", in: begun + runningLine, messages: 2, err: "running at the wrong time"},
		{name: "running after done", in: begun + done + runningLine, messages: 3, err: `a "running" frame after done`},
		{name: "warm", in: readyLine + warmLine + runningLine + done, messages: 4, err: "EOF"},
		{name: "warm first", in: warmLine, err: "warm at the wrong time"},
		{name: "warm twice", in: readyLine + warmLine + warmLine, messages: 2, err: "warm at the wrong time"},
		{name: "warm not asked for", in: readyLine + warmLine, messages: 1, err: "warm at the wrong time", idle: true},
		{name: "warm after running", in: begun + warmLine, messages: 2, err: "warm at the wrong time"},
		{name: "stale after running", in: begun + staleLine, messages: 2, err: "stale at the wrong time"},
		{name: "done twice", in: begun + done + done, messages: 3, err: `a "done" frame after done`},
		{name: "call after done", in: begun + done + call(1), messages: 3, err: `a "call" frame after done`},
		{name: "ready after done", in: begun + done + readyLine, messages: 3, err: `a "ready" frame after done`},
		{name: "id again", in: begun + call(1) + call(1), messages: 3, err: "call id 1 after 1"},
		{name: "id smaller", in: begun + call(5) + call(4), messages: 3, err: "call id 4 after 5"},
		{name: "half a frame", in: begun + `{"type":"resu`, messages: 2, err: "unexpected EOF"},
		{name: "end in parts", in: begun + part(`{"type":`, false), messages: 2, err: "unexpected EOF"},
		{name: "call between parts", in: begun + part(call(2)[:9], false) + call(1) + part(call(2)[9:], true), messages: 4, err: "EOF"},
		{name: "done between parts", in: begun + part(call(2)[:9], false) + done, messages: 2, err: "done in the middle"},
		{name: "line of NUL", in: begun + strings.Repeat("\x00", 4096) + "\n", messages: 2, err: "not a JSON object"},
		{name: "braces", in: begun + "{\n{\n}\n[[[[\n\"\n", messages: 2, err: "invalid JSON"},
		{name: "LSP header", in: begun + "Content-Length: 2\r\n\r\n{}", messages: 2, err: "not a JSON object"},
		{name: "depth 100", in: begun + `{"type":"done","result":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + "}\n", messages: 3, err: "EOF"},
		{name: "depth 101", in: begun + `{"type":"done","result":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}\n", messages: 2, err: "nested more than 100 deep"},
		{name: "depth 1000000", in: begun + strings.Repeat(`{"a":`, 1000000) + "\n", messages: 2, err: "nested more than 100 deep"},
		{name: "huge number", in: begun + `{"id":` + strings.Repeat("9", 200000) + "}\n", messages: 2, err: "without type"},
		{name: "huge id", in: begun + strings.Replace(call(1), `"id":1`, `"id":`+strings.Repeat("9", 200000), 1), messages: 2, err: "id is not"},
		{name: "huge type", in: begun + `{"type":"` + strings.Repeat("\\u001b", 200000) + `"}` + "\n", messages: 2, err: "unknown type"},
		{name: "many fields", in: begun + `{"a":1` + func() (s string) {
			for i := range 100 {
				s += fmt.Sprintf(`,"%d":1`, i)
			}
			return s
		}() + "}\n", messages: 2, err: "too many fields"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReader(strings.NewReader(c.in))
			if !c.idle {
				r.Warming()
				r.Running()
			}
			n := 0
			var err error
			for {
				if _, err = r.Read(); err != nil {
					break
				}
				n++
			}
			if n != c.messages || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%d messages, then %q; want %d and %q", n, err, c.messages, c.err)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			protocol := new(ProtocolError)
			if isEOF := err == io.EOF || err == io.ErrUnexpectedEOF; errors.As(err, &protocol) == isEOF {
				t.Errorf("%T", err)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	expect := func(t *testing.T, r *Reader, want string) {
		t.Helper()
		for {
			_, err := r.Read()
			if err == nil {
				continue
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if r.pieces != nil {
				t.Error("still holds the pieces of a message")
			}
			return
		}
	}
	t.Run("line", func(t *testing.T) {
		e := &endless{text: "A"}
		expect(t, runningReader(t, io.MultiReader(strings.NewReader(`{"type":"done","result":"`), e)), "a frame longer than 16777216 bytes")
		if e.n > MaxLine+1<<20 {
			t.Errorf("read %d bytes", e.n)
		}
	})
	t.Run("line exactly", func(t *testing.T) {
		line := `{"type":"call","id":1,"server":"s","tool":"t","arguments":{"a":"` + strings.Repeat("A", MaxLine)
		line = line[:MaxLine-3] + `"}}`
		if _, err := runningReader(t, strings.NewReader(line+"\n")).Read(); err != nil {
			t.Error(err)
		}
		expect(t, runningReader(t, strings.NewReader(line+" \n")), "a frame longer")
	})
	t.Run("message", func(t *testing.T) {
		e := &endless{text: `{"type":"part","last":false,"data":"` + strings.Repeat("A", 65536) + "\"}\n"}
		r := runningReader(t, e)
		r.maxPieces = 1 << 20
		expect(t, r, "a message longer than 1048576 bytes")
	})
	t.Run("run", func(t *testing.T) {
		r := runningReader(t, &endless{text: `{"type":"part","last":false,"data":""}` + "\n"})
		r.maxBytes = 1 << 20
		expect(t, r, "more than 1048576 bytes in one run")
	})
	t.Run("calls", func(t *testing.T) {
		var b strings.Builder
		for i := range MaxCalls + 1 {
			b.WriteString(call(i + 1))
		}
		expect(t, runningReader(t, strings.NewReader(b.String())), "more than 10000 calls")
	})
	t.Run("names", func(t *testing.T) {
		var b strings.Builder
		b.WriteString(`{"type":"done","result":{"a":1`)
		for i := range maxNames {
			fmt.Fprintf(&b, `,"%d":0`, i)
		}
		b.WriteString("}}\n")
		expect(t, runningReader(t, strings.NewReader(b.String())), "more than 262144 fields")
	})
	t.Run("error of the pipe", func(t *testing.T) {
		broken := errors.New("broken")
		r := runningReader(t, io.MultiReader(strings.NewReader("{"), errorReader{broken}))
		if _, err := r.Read(); err != broken {
			t.Error(err)
		}
	})
}

type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }

// TestWriter writes big and small answers at once: parts of one message follow each other, others get between.
func TestWriter(t *testing.T) {
	r, pipe := io.Pipe()
	w := NewWriter(pipe)
	var writers sync.WaitGroup
	for id := range 8 {
		writers.Go(func() {
			value := json.RawMessage("1")
			if id%2 == 0 {
				value = json.RawMessage(fmt.Sprintf("[%d,\n\"%s\"]", id, strings.Repeat("\u20ac\\\"", 200_000)))
			}
			if err := w.Return(Return{ID: int64(id), Value: value}); err != nil {
				t.Error(err)
			}
		})
	}
	go func() { writers.Wait(); pipe.Close() }()
	seen := map[int64]bool{}
	text := ""
	d := json.NewDecoder(r)
	for {
		var f struct {
			Type, Data string
			Last       bool
			ID         int64
			Value      any
		}
		if err := d.Decode(&f); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if f.Type == "part" {
			text += f.Data
			if !f.Last {
				continue
			}
			if err := json.Unmarshal([]byte(text), &f); err != nil {
				t.Fatal(err)
			}
			if v, ok := f.Value.([]any); !ok || v[0] != float64(f.ID) || v[1] != strings.Repeat("\u20ac\"", 200_000) {
				t.Errorf("answer %d is damaged", f.ID)
			}
			text = ""
		}
		seen[f.ID] = true
	}
	if len(seen) != 8 {
		t.Errorf("got %v", seen)
	}
}

func TestWriterRefuses(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out)
	for _, value := range []string{"", "{", "NaN", "1 2", "\"\xff\"", "\"\n\"", strings.Repeat("[", 100) + strings.Repeat("]", 100)} {
		if err := w.Return(Return{ID: 1, Value: json.RawMessage(value)}); err == nil {
			t.Errorf("sent %q", value)
		}
	}
	if out.Len() > 0 {
		t.Errorf("wrote %q", out.String())
	}
	for _, value := range []string{"{", "NaN", "1 2", "\"\xff\"", strings.Repeat("[", 100) + strings.Repeat("]", 100)} {
		raw := json.RawMessage(value)
		tool := Tool{Name: "t", InputSchema: raw, OutputSchema: raw, Annotations: raw, Params: []Param{{Default: raw}}}
		out.Reset()
		if err := w.Run(Run{Servers: []Server{{Tools: []Tool{tool.Check()}}}}); err != nil || !json.Valid(out.Bytes()) || strings.Contains(out.String(), "chema") {
			t.Errorf("a tool with the schema %q: %v, %s", value, err, out.String())
		}
		if string(tool.Params[0].Default) != value {
			t.Error("the caller's tool was changed")
		}
	}
	out.Reset()
	if err := w.Return(Return{ID: 1, Value: json.RawMessage(`{"a":1,"a":2}`)}); err != nil {
		t.Errorf("an answer with a name twice: %v", err)
	}
}

func TestBoot(t *testing.T) {
	var b bytes.Buffer
	if err := Boot(&b, make([]byte, MaxCompiled+1)); err != nil {
		t.Fatal(err)
	}
	if want := 3*4 + len(loader) + len(source()); b.Len() != want {
		t.Errorf("%d bytes, want %d: compiled code that is too long must be left out", b.Len(), want)
	}
	b.Reset()
	if err := Boot(&b, []byte("compiled")); err != nil || b.String() != "\x00\x00\x00\x08compiled" {
		t.Errorf("%q, %v", b.String(), err)
	}
	if err := Boot(failing{}, nil); err == nil {
		t.Error("no error of the pipe")
	}
	if len(RunnerID()) != 16 {
		t.Errorf("RunnerID is %q", RunnerID())
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
