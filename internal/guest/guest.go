// Package guest is both ends of the pipe between the host and one sandbox: the Python runner that executes the user's
// script inside, and the codec of the frames that the two exchange. It knows nothing of containers, and not how a tool
// is called; it turns bytes that nobody trusts into checked messages.
//
// # Descriptors
//
// The sandboxed process gets 0 = /dev/null, 1 and 2 = pipes that carry the script's stdout and stderr raw, so that
// child processes, C code and crashes lose nothing, 3 = frames from the host, 4 = frames to the host. The runner moves
// 3 and 4 to private numbers that no child inherits.
//
// # Start
//
// The process is Python with a tiny bootstrap on its command line ([Args]). [Boot] sends it the runner, in parts, each
// behind its length as a big-endian uint32: compiled code, or else an empty part, a loader, and the source. Compiled code is
// what an earlier [Ready.Compiled] of the same image and [RunnerID] has said; the interpreter's magic number stands in front
// of it, and a bootstrap that cannot use it says so ([Stale]), and is sent the source. Compiling takes longer than all else
// in the start of a runner, so it is done in two steps: a boot from source compiles what every script needs and says that,
// with the rest as source; a boot from that compiles the rest and says all of it.
//
// # Frames
//
// One JSON object a line, UTF-8, at most [MaxLine] bytes. A longer message is sent as the pieces of its JSON text, in
// part frames; whole frames may stand between the parts of one message, but no part of another.
//
//	direction      type    fields
//	guest -> host  stale   -                                                     before ready, at most once
//	guest -> host  ready   protocol: 1, python: "3.11.2", compiled?: n           first, exactly once; n bytes of code follow
//	host -> guest  warm    modules: ["json"], preload: ["numpy"]                 after ready and before run, at most once
//	guest -> host  warm    failed?: ["numpy"]                                    the answer
//	host -> guest  run     code, filename, servers?: [Server]                    once, after ready
//	guest -> host  running -                                                     the answer, before anything of it is done
//	guest -> host  call    id, server, tool, arguments: {…}                      after running; ids are ints >= 1 and grow
//	host -> guest  return  id, value                                             one for each call
//	               return  id, error: {type?, message, code?, data?}
//	guest -> host  done    result?, error?: {type, message, line?},              at most once, the last
//	                       truncated?, waits?
//	both           part    data: "<piece of JSON text>", last: bool
//
// On warm the runner imports modules, of which "mcp" is what it has for that itself, and does once what a run does, while
// nobody waits; failed are those of preload that could not be imported. The script sees nothing of that but preload. A script
// whose running never came has not begun, and may be given to another guest once this one is dead.
//
// The host writes the fields of a frame in this order; the runner relies on it. The [Reader] relies on nothing.
//
// A call's server and tool are the exact names; its value is the CallToolResult as the server sent it. An error's type
// is "LookupError" if there is no such server, tool or method. A server without a name is the bridge itself, and tool is
// then one of these methods:
//
//	tool        arguments                   value
//	tools       server, again?              {tools: [Tool]}                      starts the server if it must, or to ask it again
//	search      query, limit, aside?        [{server, tool: Tool, score}]        over all servers, starts none
//	request     server, method, params      the result, as the server sent it    resources/…, prompts/…
//	stubs       server                      "text of a .pyi"
//	display     content: {…}                true, or an error if it is too much  a content block for the run's result
//	cancel      id                          true                                 ends an open call, which then has no use
//	save_tool   name, source                true
//	user_tools  -                           {name: source}
//
// What a done frame says is the script's word about itself. Exit status, timeout and out of memory are for the host to
// observe. A runner that says that it waits has nothing left to write, and exits with 0 as soon as the host closes its end: so
// the host can be there to see it.
package guest

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"io"
	"sync"
)

// Limits of the protocol. A message that exceeds one ends its run.
const (
	MaxLine      = 16 << 20  // bytes of one frame without its line end
	MaxFromGuest = 64 << 20  // bytes of one message put together from parts
	MaxFromHost  = 256 << 20 // the same, to the guest
	MaxDepth     = 100       // nested arrays and objects
	MaxCalls     = 10_000    // calls of one run
	MaxRunBytes  = 256 << 20 // bytes of all frames of one run
	MaxCompiled  = 1 << 20   // bytes of Ready.Compiled
	MaxResult    = 4 << 20   // bytes of Done.Result; the runner cuts at a quarter of it, or less
	MaxError     = 256 << 10 // bytes of Done.Error, likewise
)

// Protocol is the version that a ready frame must name.
const Protocol = 1

// Script is the file name a script has in its tracebacks unless Run.Filename says otherwise.
const Script = "script.py"

// bootstrap is short because Python keeps the syntax tree of its command line to the end: 1 KB of text would take 100 KB.
//
//go:embed bootstrap.py
var bootstrap string

//go:embed loader.py
var loader string

//go:embed frames.py
var framesSource string

//go:embed runner.py
var runnerSource string

//go:embed results.py
var resultsSource string

//go:embed calls.py
var callsSource string

//go:embed alone.py
var aloneSource string

//go:embed values.py
var valuesSource string

//go:embed tools.py
var toolsSource string

//go:embed runtime.py
var runtimeSource string

//go:embed warm.py
var warmSource string

//go:embed forgotten.py
var forgottenSource string

//go:embed hints.py
var hintsSource string

// source is the whole runner: what every script needs, and behind a form feed each what those need that have a result, those
// that await, those that use MCP, a runner that is warmed, and a script that ends in an error. They are one namespace; that there are more files is for the
// reader of the code. Like RunnerID it waits until it is asked for, because each start of a container pays for what packages do
// at theirs.
var source = sync.OnceValue(func() string {
	library := callsSource + "\n" + valuesSource + "\n" + toolsSource + "\n" + forgottenSource + "\n" + runtimeSource
	return framesSource + "\n" + runnerSource + "\f\n" + resultsSource + "\f\n" + aloneSource + "\f\n" + library + "\f\n" + warmSource + "\f\n" + hintsSource
})

// RunnerID names this version of the runner: two equal ids can share compiled code for the same image.
var RunnerID = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(bootstrap + loader + source()))
	return hex.EncodeToString(sum[:8])
})

// Args returns the argument vector of the sandboxed process. python is the interpreter, 3.9 or later.
//
// -I and -S keep environment and site out of the start (the runner adds the installed packages itself), -B leaves no
// .pyc files behind, and utf8 mode makes files and child processes use UTF-8 whatever the locale.
func Args(python string) []string {
	return []string{python, "-I", "-S", "-B", "-X", "utf8", "-c", bootstrap}
}

// Boot sends the runner to a process started with [Args]. compiled is what an earlier [Ready.Compiled] has said, or
// nil for the source. Code that another Python has compiled, or that is damaged, is answered with a [Stale] frame, to
// which Boot(w, nil) is the answer.
//
// Compiled code comes from inside a sandbox, if before any script ran there: keep it per image, never across images.
// A pipe may be smaller than the runner, so Boot may block until the process reads.
func Boot(w io.Writer, compiled []byte) error {
	if len(compiled) > MaxCompiled {
		compiled = nil
	}
	parts := []string{string(compiled)}
	if len(compiled) == 0 { // sending all would take longer than all else in a start from compiled code
		parts = append(parts, loader, source())
	}
	var b []byte
	for _, part := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	_, err := w.Write(b)
	return err
}
