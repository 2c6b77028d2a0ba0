# os._exit(0) in the middle of a frame, without any end frame
# pass: reported as abnormal end, not as success with a stale value
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
done("exit_paths"); out = [n for n in chans() if n > 2]
D = b'{"type":"done","result":"FORGED"}'
print("CASES 6", flush=True)
send([b'{"type":"do', D, D + b"\n", D + b"\n", D + b"\n", D + b"\n"][CASE or 0], out)
if CASE == 3: os._exit(3)
if CASE == 4: os.kill(os.getpid(), 9)
if CASE == 5: time.sleep(60)
os._exit(0)
