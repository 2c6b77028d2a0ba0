package cli

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

func muxFrame(kind, channel byte, size int, data ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind, channel}, uint32(size)), data...)
}

func muxDataFrame(channel byte, text string) []byte {
	return muxFrame(muxData, channel, len(text), []byte(text)...)
}

// A muxPeer is what a container's side of the frames is given, and what came of it.
type muxPeer struct {
	stdout, stderr, frames string
	status                 uint32
	settled, greeted       int
	answers                []byte
}

// hear lets a muxHost with all five streams hear input.
func hear(t testing.TB, input []byte) (p muxPeer, err error) {
	t.Helper()
	pipes := make([][2]*os.File, 5)
	for i := range pipes {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		pipes[i] = [2]*os.File{r, w}
		defer r.Close()
		defer w.Close()
	}
	m, err := newMuxHost(oci.Streams{Stdin: pipes[0][0], Stdout: pipes[1][1], Stderr: pipes[2][1], Extra: []*os.File{pipes[3][0], pipes[4][1]}})
	if err != nil {
		t.Fatal(err)
	}
	if m.ways != "iooio" {
		t.Fatalf("the ways are %s", m.ways)
	}
	m.hello = func() error { p.greeted++; return nil }
	m.settled = func(status uint32) { p.settled++; p.status = status }
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m.to = w
	var readers sync.WaitGroup
	read := func(f *os.File, into *string) {
		readers.Go(func() {
			b, _ := io.ReadAll(f)
			*into = string(b)
		})
	}
	read(pipes[1][0], &p.stdout)
	read(pipes[2][0], &p.stderr)
	read(pipes[4][0], &p.frames)
	readers.Go(func() { p.answers, _ = io.ReadAll(r) })
	err = m.run(w, bytes.NewReader(input))
	for _, c := range m.channels {
		if len(c.pending) > muxWindow {
			t.Errorf("%d bytes of a channel were kept", len(c.pending))
		}
	}
	for _, i := range []int{1, 2, 4} {
		pipes[i][1].Close()
	}
	readers.Wait()
	return p, err
}

func TestMuxHost(t *testing.T) {
	hello, exit := muxFrame(muxHello, 0, 0), muxFrame(muxExit, 0, 4, 0, 0, 7, 0)
	full := strings.Repeat("x", muxChunk)
	window := slices.Concat(muxDataFrame(1, full), muxDataFrame(1, full), muxDataFrame(1, full), muxDataFrame(1, full))
	for name, tt := range map[string]struct {
		input  []byte
		want   muxPeer
		reason string // of the error, if there is to be one
	}{
		"nothing": {},
		"all channels": {
			slices.Concat(hello, muxDataFrame(1, "out"), muxDataFrame(4, "frame"), muxDataFrame(2, "err"), muxDataFrame(1, "put"), muxFrame(muxEnd, 1, 0), exit),
			muxPeer{stdout: "output", stderr: "err", frames: "frame", greeted: 1, settled: 1, status: 7 << 8},
			"",
		},
		"a window in full":          {slices.Concat(hello, window, exit), muxPeer{stdout: strings.Repeat("x", muxWindow), greeted: 1, settled: 1, status: 7 << 8}, ""},
		"killed":                    {slices.Concat(hello, muxDataFrame(1, "last words")), muxPeer{stdout: "last words", greeted: 1}, ""},
		"killed within a frame":     {slices.Concat(hello, muxDataFrame(1, "last words")[:9]), muxPeer{greeted: 1}, ""},
		"data before hello":         {muxDataFrame(1, "x"), muxPeer{}, "wrong place"},
		"ends before hello":         {slices.Concat(muxFrame(muxEnd, 1, 0), muxFrame(muxEnd, 2, 0), exit), muxPeer{}, "before it began"},
		"exit before hello":         {exit, muxPeer{}, "before it began"},
		"hello twice":               {slices.Concat(hello, hello), muxPeer{greeted: 1}, "wrong place"},
		"a channel that is not":     {slices.Concat(hello, muxDataFrame(5, "x")), muxPeer{greeted: 1}, "channel 5"},
		"data for an input":         {slices.Concat(hello, muxDataFrame(3, "x")), muxPeer{greeted: 1}, "wrong place"},
		"empty data":                {slices.Concat(hello, muxDataFrame(1, "")), muxPeer{greeted: 1}, "wrong place"},
		"data behind the end":       {slices.Concat(hello, muxFrame(muxEnd, 1, 0), muxDataFrame(1, "x")), muxPeer{greeted: 1}, "wrong place"},
		"a frame too large":         {slices.Concat(hello, muxFrame(muxData, 1, muxChunk+1)), muxPeer{greeted: 1}, "65537 bytes"},
		"a frame of 4 GiB":          {slices.Concat(hello, muxFrame(muxData, 1, 1<<32-1)), muxPeer{greeted: 1}, "4294967295 bytes"},
		"credit out of nothing":     {slices.Concat(hello, muxFrame(muxCredit, 0, 1)), muxPeer{greeted: 1}, "wrong place"},
		"credit for an output":      {slices.Concat(hello, muxFrame(muxCredit, 1, 1)), muxPeer{greeted: 1}, "wrong place"},
		"an unknown kind":           {slices.Concat(hello, muxFrame('?', 1, 0)), muxPeer{greeted: 1}, "wrong place"},
		"a status that is too long": {slices.Concat(hello, muxFrame(muxExit, 0, 5, 0, 0, 0, 0, 0)), muxPeer{greeted: 1}, "wait status"},
		"a frame behind the last":   {slices.Concat(hello, exit, muxDataFrame(1, "x")), muxPeer{greeted: 1, settled: 1, status: 7 << 8}, "behind the last"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := hear(t, tt.input)
			got.answers = nil
			if got.stdout != tt.want.stdout || got.stderr != tt.want.stderr || got.frames != tt.want.frames || got.status != tt.want.status ||
				got.greeted != tt.want.greeted || got.settled != tt.want.settled {
				t.Errorf("got %.200v\nwant %.200v", got, tt.want)
			}
			if (err == nil) != (tt.reason == "") || err != nil && !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("error %v, want %q", err, tt.reason)
			}
		})
	}
}

// TestMuxHostWithoutDescriptors: a stream that cannot be used is an error.
func TestMuxHostWithoutDescriptors(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
	if _, err := newMuxHost(oci.Streams{Stdout: w}); err == nil {
		t.Error("no error")
	}
}

// TestMuxArgs: what runs in the interpreter of the multiplexer has its flags.
func TestMuxArgs(t *testing.T) {
	for want, args := range map[string][]string{
		"python -I -S -X utf8 -c | code|print(1)|a":  {"python", "-I", "-S", "-X", "utf8", "-c", "print(1)", "a"},
		"python -c | code|":                          {"python", "-c", ""},
		"python -I -S -c | exec|python|file.py|-c|x": {"python", "file.py", "-c", "x"},
		"python -I -S -c | exec|python|-Ic|x":        {"python", "-Ic", "x"},
		"python -I -S -c | exec|python|-m|x|-c|y":    {"python", "-m", "x", "-c", "y"},
		"python -I -S -c | exec|python":              {"python"},
		"python -I -S -c | exec|python|-c":           {"python", "-c"},
	} {
		got := muxArgs(oci.Container{Args: args, Env: []string{"A=1", "B=="}}, "ioo")
		i := slices.Index(got, muxStart)
		if i < 0 || got[i+1] != muxForward || got[i+2] != "ioo" || got[i+3] != "A=B" {
			t.Fatalf("%.50q", got)
		}
		if s := strings.Join(got[:i], " ") + " | " + strings.Join(got[i+4:], "|"); s != want {
			t.Errorf("got  %q\nwant %q", s, want)
		}
	}
}

// FuzzMuxHost: whatever a container says, its host stays within its bounds and comes to an end.
func FuzzMuxHost(f *testing.F) {
	hello := muxFrame(muxHello, 0, 0)
	f.Add(slices.Concat(hello, muxDataFrame(1, "out"), muxFrame(muxEnd, 0, 0), muxFrame(muxExit, 0, 4, 0, 0, 7, 0)))
	f.Add(slices.Concat(hello, muxFrame(muxCredit, 3, 1<<31), muxDataFrame(4, "x")))
	f.Add(bytes.Repeat(muxDataFrame(1, "x"), 3))
	f.Fuzz(func(t *testing.T, input []byte) {
		p, err := hear(t, input)
		if n := len(p.stdout) + len(p.stderr) + len(p.frames); n > len(input) {
			t.Errorf("%d bytes came out of %d", n, len(input))
		}
		if p.settled > 1 || p.greeted > 1 || p.settled > p.greeted {
			t.Errorf("%+v, %v", p, err)
		}
	})
}
