# terminal escapes in stdout, stderr, exception text and result: colours, title, OSC 52 clipboard, OSC 8 links, cursor moves, bidi overrides, DCS
# pass: returned only as JSON-escaped text; host logs never print it raw
# Frames are those of internal/guest/guest.go, one JSON object a line; they go to the private descriptors first (240 and
# 241, where runner.py keeps the channel) and then to every other pipe or socket. CASE = n sends the n-th frame only:
# the host ends a run at the first frame that is wrong, so each needs a run of its own.
import os as _o
if _o.path.exists("/proc/self/ns/pid") and _o.readlink("/proc/self/ns/pid") == "pid:[4026531836]": raise SystemExit("refusing to run: not in a sandbox")
import json, os, stat, sys, time
def chans():
    out = []
    for n in sorted(int(x) for x in os.listdir("/proc/self/fd")):
        try:
            m = os.fstat(n).st_mode
            if stat.S_ISFIFO(m) or stat.S_ISSOCK(m): out.append(n)
        except OSError: pass
    return sorted(out, key=lambda n: n < 200)
def send(b, fds=None):
    for fd in (chans() if fds is None else fds):
        c = memoryview(b)
        try:
            while c: c = c[os.write(fd, c[:65536]):]
        except OSError: pass
def frame(o): return (json.dumps(o) + "\n").encode()
def call(id, server="allowed", tool="t", **arguments): return frame({"type": "call", "id": id, "server": server, "tool": tool, "arguments": arguments})
def part(data, last): return frame({"type": "part", "data": data, "last": last})
CASE = globals().get("CASE")
def cases(frames):
    print("CASES %d" % len(frames), flush=True)
    for b in frames if CASE is None else frames[CASE:CASE + 1]: send(b)
def done(name, d=""): print("PROBE proto.%s SENT %s" % (name, d), flush=True)
s = "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b]52;c;cHduZWQ=\x07\x1b]8;;http://example.invalid\x07link\x1b]8;;\x07\x1b[2J\x1b[1;1H\x1bP+q544e\x1b\\\u202eevil\u202c\r\nfake line\b\b\x9b31m"
print(s); sys.stderr.write(s + "\n"); done("ansi"); result = s
raise RuntimeError(s)
