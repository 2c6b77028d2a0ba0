# invalid UTF-8, overlong forms, UTF-16 BOM, lone surrogates, NUL, U+2028 in text and frames
# pass: replaced or escaped; the MCP reply is valid UTF-8 JSON
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
done("invalid_utf8")
sys.stdout.buffer.write(b"\xff\xfe lone \xed\xa0\x80\n"); sys.stdout.flush()
try: print("\ud800")
except UnicodeError as e: print("surrogate refused")
cases([b"\xff\xfe\xfd\n", b"\xc0\xaf\n", b"\xed\xa0\x80\n", b'\xef\xbb\xbf{"type":"done"}\n', b'{"a":"\\ud800"}\n', b"a\x00b\n",
       "\u2028\u2029\u0085\n".encode(), b'{"type":"done","result":"\xff\xc0\xaf"}\n', b'{"type":"done","result":"\xed\xa0\x80"}\n',
       b'{"type":"call","id":1,"server":"allowed\xff","tool":"t","arguments":{}}\n', b""])
"\ud800 \u2028 \x00"
