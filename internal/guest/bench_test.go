package guest

import (
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
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
		compiled := compileRunner(b, python)
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
					p.warm(b)
					b.StartTimer()
					p.reader.Running()
					if err := p.writer.Run(Run{Code: script}); err != nil {
						b.Fatal(err)
					}
					for m := Message(nil); ; {
						var err error
						if m, err = p.reader.Read(); err != nil {
							b.Fatal(m, err)
						}
						if _, ok := m.(Done); ok {
							break
						}
					}
					b.StopTimer()
					p.in.Close()
					if err := p.cmd.Wait(); err != nil && script != "1/0" {
						b.Fatal(err)
					}
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

// callScripts print what calls cost, in microseconds: the median of one after the other, and the mean of many at once.
var callScripts = map[string]string{
	"sync":   "for i in range(2000):\n    t = clock()\n    call_tool_sync('s', 't', {'i': i})\n    times.append(clock() - t)\nprint(sorted(times)[1000] * 1e6)",
	"async":  "for i in range(2000):\n    t = clock()\n    await call_tool('s', 't', {'i': i})\n    times.append(clock() - t)\nprint(sorted(times)[1000] * 1e6)",
	"gather": "t = clock()\nawait asyncio.gather(*(call_tool('s', 't', {'i': i}) for i in range(5000)))\nprint((clock() - t) / 5000 * 1e6)",
	"threads": "def work(n):\n    for i in range(500): call_tool_sync('s', 't', {'i': i})\nts = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n" +
		"t = clock()\n[x.start() for x in ts]\n[x.join() for x in ts]\nprint((clock() - t) / 4000 * 1e6)",
}

// BenchmarkCall measures tool calls without a tool, by the script's own clock.
func BenchmarkCall(b *testing.B) {
	for version, python := range pythons() {
		for name, code := range callScripts {
			b.Run(version+"/"+name, func(b *testing.B) {
				total := 0.0
				for b.Loop() {
					p := launch(b, python, b.TempDir(), nil)
					p.ready(b)
					o := p.run(b, Run{Code: "import asyncio, threading\nfrom time import perf_counter as clock\nfrom mcp.runtime import *\ntimes = []\n" + code}, func(c Call) Return {
						return Return{Value: json.RawMessage(`{"content":[{"type":"text","text":"ok"}],"structuredContent":` + string(c.Arguments) + `}`)}
					})
					took, err := strconv.ParseFloat(strings.TrimSpace(o.stdout), 64)
					if o.code != 0 || err != nil {
						b.Fatal(o)
					}
					total += took
				}
				b.ReportMetric(total/float64(b.N), "µs/call")
			})
		}
	}
}

// BenchmarkLibrary measures what the library adds to the start of a script that uses it.
func BenchmarkLibrary(b *testing.B) {
	for version, python := range pythons() {
		compiled := compileRunner(b, python)
		for _, script := range []string{"pass", "mcp_servers", "from mcp import runtime"} {
			b.Run(version+"/"+script, func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					p := boot(b, python, compiled)
					p.ready(b)
					b.StartTimer()
					if o := p.run(b, Run{Code: script, Servers: []Server{{Name: "s", Alias: "s"}}}, nil); o.code != 0 {
						b.Fatal(o)
					}
				}
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
