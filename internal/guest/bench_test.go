package guest

import (
	"os"
	"os/exec"
	"testing"
)

// BenchmarkBoot measures from fork to ready, and on to the end of a script, next to a bare Python.
func BenchmarkBoot(b *testing.B) {
	for version, python := range pythons() {
		b.Run(version+"/bare", func(b *testing.B) {
			for b.Loop() {
				if err := exec.Command(python, "-I", "-S", "-c", "pass").Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
		p := launch(b, python, b.TempDir(), nil)
		compiled := p.ready(b).Compiled
		p.run(b, Run{}, nil)
		for _, kind := range []struct {
			name     string
			compiled []byte
		}{{"source", nil}, {"compiled", compiled}} {
			for _, script := range []string{"", "pass", "print(1)"} {
				name := script
				if script == "" {
					name = "ready"
				}
				b.Run(version+"/"+kind.name+"/"+name, func(b *testing.B) {
					for b.Loop() {
						p := boot(b, python, kind.compiled)
						p.ready(b)
						if script != "" {
							p.run(b, Run{Code: script}, nil)
							continue
						}
						b.StopTimer()
						p.run(b, Run{}, nil)
						b.StartTimer()
					}
				})
			}
		}
		// What a warm sandbox still has to do.
		for _, script := range []string{"pass", "print(1)", "x = 1\nx", "1/0", "import asyncio\nawait asyncio.sleep(0)"} {
			b.Run(version+"/warm/"+script, func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					p := boot(b, python, compiled)
					p.ready(b)
					b.StartTimer()
					p.reader.Running()
					if err := p.writer.Run(Run{Code: script}); err != nil {
						b.Fatal(err)
					}
					if m, err := p.reader.Read(); err != nil {
						b.Fatal(m, err)
					}
					b.StopTimer()
					if err := p.cmd.Wait(); err != nil && script != "1/0" {
						b.Fatal(err)
					}
					p.in.Close()
					p.out.Close()
					b.StartTimer()
				}
			})
		}
	}
}

// boot is launch without what costs time and is cleaned up only at the end of a test.
func boot(b *testing.B, python string, compiled []byte) *process {
	inR, inW, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	p := &process{in: inW, out: outR, reader: NewReader(outR), writer: NewWriter(inW), ended: make(chan struct{})}
	args := Args(python)
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.ExtraFiles = []*os.File{inR, outW}
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	inR.Close()
	outW.Close()
	if err := Boot(inW, compiled); err != nil {
		b.Fatal(err)
	}
	return p
}

// BenchmarkCall measures one tool call after another, without a tool.
func BenchmarkCall(b *testing.B) {
	for version, python := range pythons() {
		for name, how := range map[string]string{"sync": "runtime.call_tool_sync", "async": "await runtime.call_tool"} {
			b.Run(version+"/"+name, func(b *testing.B) {
				for b.Loop() {
					p := launch(b, python, b.TempDir(), nil)
					p.ready(b)
					o := p.run(b, Run{Code: "from mcp import runtime\nfor i in range(1000): " + how + "('s', 't', {'i': i})"}, func(c Call) Return {
						return Return{Value: c.Arguments}
					})
					if o.code != 0 {
						b.Fatal(o)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/call")
			})
		}
	}
}

// BenchmarkReader measures the strict decoder.
func BenchmarkReader(b *testing.B) {
	line := `{"type":"call","id":1,"server":"s","tool":"t","arguments":{"path":"/tmp/x","content":"some text \u20ac","n":[1,2,3],"o":{"a":null}}}`
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := scanObject([]byte(line)); err != nil {
			b.Fatal(err)
		}
	}
}
