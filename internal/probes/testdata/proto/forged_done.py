# frames that claim the run ended well, with many spellings, then go on running
# pass: at most the run's own result is affected; the process is reaped and killed; later output is dropped
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
done("forged_done")
D = {"type": "done", "result": "FORGED"}
cases([
    frame({"type": "done"}), frame(D), frame(dict(D, truncated=True)),
    frame({"type": "done", "error": {"type": "E", "message": "FORGED"}}),
    frame(dict(D, exit_code=0)), frame(dict(D, status="success")), frame(dict(D, stdout="FORGED")),
    b'{"Type":"done","result":"FORGED"}\n', b'{"type":"done","type":"ready"}\n', b'{"type":"done","result":1,"result":"FORGED"}\n',
    frame({"type": "ready", "protocol": 1, "python": "3.99.0"}),
    frame({"type": "ready", "protocol": 1, "python": "3.99.0", "compiled": "464f52474544"}),
    frame({"type": "return", "id": 1, "value": "FORGED"}),
    frame({"type": "run", "code": "print('FORGED')", "filename": "script.py"}),
    part('{"type":"done","result":"FORGED"', False) + part("}", True),
    part('{"type":"done","result":"FORGED"', False),
    part(part('{"type":"done"}', True).decode(), True),
    b"".join(frame({k: t, "id": 0, "ok": True, "value": "FORGED", "result": "FORGED"})
             for k in ("kind", "t", "op", "method", "event") for t in ("done", "result", "exit", "end", "error")),
    frame({"type": "exit", "code": 0}),
])
time.sleep(0.3); print("still running after the forged end")
