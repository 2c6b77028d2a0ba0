package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcp-bridge/mcp-bridge/internal/guest"
	"github.com/mcp-bridge/mcp-bridge/oci"
)

// TestHostileFrames: a guest that breaks the protocol ends its own run, at once, and nobody else's. A guest that is
// never ready is not among these: the 30 s it is given cannot be changed from outside.
func TestHostileFrames(t *testing.T) {
	ready := func(g *guestEnd) { g.start() }
	for _, tt := range []struct {
		name  string
		begin func(*guestEnd)
		bytes string
		want  string // in the error
	}{
		{"garbage", nil, "\x00\xff garbage\n", "protocol error"},
		{"garbage instead of a frame", ready, "hello\n", "protocol error"},
		{"an empty line", ready, "\n", "protocol error"},
		{"an array", ready, "[1]\n", "protocol error"},
		{"call before ready", nil, `{"type":"call","id":1,"server":"s","tool":"t","arguments":{}}` + "\n", "before run"},
		{"done before ready", nil, `{"type":"done"}` + "\n", "before run"},
		{"ready twice", ready, `{"type":"ready","protocol":1,"python":"3"}` + "\n", "second ready"},
		{"another protocol", nil, `{"type":"ready","protocol":2,"python":"3"}` + "\n", "protocol 2"},
		{"done twice", ready, `{"type":"done"}` + "\n" + `{"type":"done"}` + "\n", "after done"},
		{"call after done", ready, `{"type":"done"}` + "\n" + `{"type":"call","id":1,"server":"s","tool":"t","arguments":{}}` + "\n", "after done"},
		{"the host's own frames", ready, `{"type":"return","id":1,"value":1}` + "\n", "unknown type"},
		{"unknown field", ready, `{"type":"done","exitCode":0}` + "\n", "unknown field"},
		{"a field twice", ready, `{"type":"done","type":"done"}` + "\n", "protocol error"},
		{"ids that do not grow", ready, strings.Repeat(`{"type":"call","id":7,"server":"s","tool":"t","arguments":{}}`+"\n", 2), "id 7 after 7"},
		{"arguments that are no object", ready, `{"type":"call","id":1,"server":"s","tool":"t","arguments":[]}` + "\n", "arguments"},
		{"deep", ready, `{"type":"done","result":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}\n", "protocol error"},
		{"a giant line", ready, `{"type":"done","result":"` + strings.Repeat("x", guest.MaxLine) + `"}` + "\n", "longer than"},
		{"a line without an end", ready, strings.Repeat("x", guest.MaxLine+128<<10), "longer than"},
		{"a call in the middle of nothing", ready, `{"type":"part","data":"{\"type\":\"done\"}","last":true}` + "\n" + `{"type":"done"}` + "\n", "after done"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var called atomic.Bool
			b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
				if tt.begin != nil {
					tt.begin(g)
				}
				_, _ = io.WriteString(g.stdout, "partial\n")
				go func() { _, _ = io.WriteString(g.out, tt.bytes) }() // blocks when the bridge has read enough
				return killed(g)
			}, func(o *Options) {
				o.Servers = fakeCall("s", func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
					called.Store(true)
					return json.RawMessage("1"), nil
				})
			})
			r, err := b.Run(t.Context(), Request{Code: "pass"}, Output{})
			if err != nil || r.Status != StatusError || !strings.Contains(r.Error, "broke the protocol") || !strings.Contains(r.Error, tt.want) {
				t.Errorf("%+v, %v; want an error with %q", r, err, tt.want)
			}
			if len(r.Stdout) != 1 || r.Stdout[0] != "partial" {
				t.Errorf("what was printed before is %q", r.Stdout)
			}
			if len(r.Error) > 1000 {
				t.Errorf("the error has %d bytes of the guest's", len(r.Error))
			}
			if called.Load() && strings.Contains(tt.name, "ready") {
				t.Error("a tool was called before the script ran")
			}
		})
	}
}

// TestHostileLastWords: whether the frames made sense must not depend on who is faster, the reader or the exit.
func TestHostileLastWords(t *testing.T) {
	seen := make(map[Status]int)
	for range 50 {
		b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
			g.start()
			g.say(`{"type":"done","result":1}`)
			g.say(`{"type":"done","result":2}`)
			return oci.Exit{}, nil
		}, nil)
		seen[runCode(t, b, "pass").Status]++
	}
	if len(seen) != 1 || seen[StatusError] == 0 {
		t.Errorf("a guest that says done twice and exits with 0 has the statuses %v; want always an error", seen)
	}
}

// TestHostileFlood: calls without end are bounded in number, and in how many are answered at once.
func TestHostileFlood(t *testing.T) {
	t.Run("of calls that are answered", func(t *testing.T) {
		var calls atomic.Int64
		b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
			g.start()
			go func() { _, _ = io.Copy(io.Discard, g.in) }() // ends with the pipe
			go g.flood(20_000)
			return killed(g)
		}, func(o *Options) {
			o.Servers = fakeCall("s", func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
				calls.Add(1)
				return json.RawMessage("1"), nil
			})
		})
		r, err := b.Run(t.Context(), Request{Code: "pass"}, Output{})
		if err != nil || r.Status != StatusError || !strings.Contains(r.Error, "calls in one run") || calls.Load() > guest.MaxCalls {
			t.Errorf("%+v, %v after %d calls", r, err, calls.Load())
		}
	})
	t.Run("of calls whose answers nobody reads", func(t *testing.T) {
		var calls, most atomic.Int64
		b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
			g.start()
			go g.flood(1000)
			return killed(g)
		}, func(o *Options) {
			o.Servers = fakeCall("s", func(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
				most.Store(max(most.Load(), calls.Add(1)))
				return json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`), nil
			})
		})
		r, err := b.Run(t.Context(), Request{Code: "pass", Timeout: time.Second}, Output{})
		if err != nil || r.Status != StatusTimeout {
			t.Errorf("%+v, %v", r, err)
		}
		if most.Load() > maxInFlight+1 {
			t.Errorf("%d calls were answered for a guest that reads none", most.Load())
		}
	})
	t.Run("of calls that take long", func(t *testing.T) {
		var inFlight, most atomic.Int64
		b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
			g.start()
			go g.flood(1000)
			return killed(g)
		}, func(o *Options) {
			o.Servers = fakeCall("s", func(ctx context.Context, _, _ string, _ json.RawMessage) (json.RawMessage, error) {
				n := inFlight.Add(1)
				defer inFlight.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				<-ctx.Done()
				return nil, ctx.Err()
			})
		})
		r, err := b.Run(t.Context(), Request{Code: "pass", Timeout: time.Second}, Output{})
		if err != nil || r.Status != StatusTimeout || inFlight.Load() != 0 || most.Load() != maxInFlight {
			t.Errorf("%+v, %v; %d calls at once, %d left", r, err, most.Load(), inFlight.Load())
		}
	})
}

// flood sends n calls. It blocks when the bridge does not read on, and ends when the bridge closes the pipe.
func (g *guestEnd) flood(n int) {
	for id := 1; id <= n; id++ {
		if _, err := fmt.Fprintf(g.out, `{"type":"call","id":%d,"server":"s","tool":"t","arguments":{}}`+"\n", id); err != nil {
			return
		}
	}
}

// TestGuestThatDoesNotRead: a script larger than a pipe, for a guest that never takes it.
func TestGuestThatDoesNotRead(t *testing.T) {
	b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
		g.say(`{"type":"ready","protocol":1,"python":"3"}`)
		return killed(g)
	}, nil)
	r, err := b.Run(t.Context(), Request{Code: "#" + strings.Repeat("x", 4<<20), Timeout: time.Second}, Output{})
	if err != nil || r.Status != StatusTimeout {
		t.Errorf("%v, %v", r.Status, err)
	}
}

// TestGuestThatDoesNotReadItsRunner: the launcher fails while the bridge still writes.
func TestGuestThatDoesNotReadItsRunner(t *testing.T) {
	o := options(t)
	o.Image = func(context.Context) (Image, error) {
		return Image{Root: "/image", Python: "/p", Runner: bytes.Repeat([]byte("x"), guest.MaxCompiled)}, nil
	}
	o.Launcher = failing{&oci.StartError{Step: "create", Err: io.ErrNoProgress}}
	if r, err := New(o).Run(t.Context(), Request{Code: "pass"}, Output{}); err == nil || r.Status != StatusError {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestHostileScript does by Python what a malicious script would.
func TestHostileScript(t *testing.T) {
	b := newBridge(t, nil)
	find := "import os\ndef frames():\n  return [n for n in range(3, 256) if os.path.exists('/dev/fd/%d' % n)]\n"
	t.Run("a forged end", func(t *testing.T) {
		r := runCode(t, b, find+"for n in frames():\n  try: os.write(n, b'{\"type\":\"done\",\"result\":\"forged\"}\\n')\n  except OSError: pass\nos._exit(3)")
		if r.Status != StatusError || r.ExitCode == nil || *r.ExitCode != 3 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("frames closed", func(t *testing.T) {
		r := runCode(t, b, find+"os.closerange(3, 256)\nprint('still here')")
		if len(r.Stdout) != 1 || r.Stdout[0] != "still here" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("everything closed", func(t *testing.T) {
		if r := runCode(t, b, "import os\nos.closerange(0, 256)\nos._exit(4)"); r.ExitCode == nil || *r.ExitCode != 4 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("frames on stdout", func(t *testing.T) {
		text := `{"type":"done","result":1}`
		r := runCode(t, b, fmt.Sprintf("print(%q)", text))
		if len(r.Stdout) != 1 || r.Stdout[0] != text || r.Result != nil {
			t.Errorf("%+v", r)
		}
	})
}

// TestHostileResult: how much a script has to say of itself is bounded by the host, whatever the runner would have cut.
func TestHostileResult(t *testing.T) {
	for name, frame := range map[string]string{
		"a long result": `{"type":"done","result":[1` + strings.Repeat(",1", guest.MaxResult/2) + `]}`,
		"a long error":  `{"type":"done","error":{"type":"E","message":"` + strings.Repeat("x", guest.MaxError) + `"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
				g.start()
				g.say(frame)
				return oci.Exit{}, nil
			}, nil)
			if r := runCode(t, b, "pass"); r.Status != StatusError || len(r.Result) > 0 || len(r.Error) > 1000 {
				t.Errorf("status %s, %d bytes of result, %d of error", r.Status, len(r.Result), len(r.Error))
			}
		})
	}
}
