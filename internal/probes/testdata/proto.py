# What the scripts of proto/ have in common; the test puts it in front of each.
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
