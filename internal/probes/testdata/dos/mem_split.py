# the memory limit in pieces: 20 children hold 60 MiB each at the same time; pass: a limit on their sum
import os as _o
if _o.path.exists("/proc/self/ns/pid") and _o.readlink("/proc/self/ns/pid") == "pid:[4026531836]": raise SystemExit("refusing to run: not in a sandbox")
import os, signal
print("PROBE dos.mem_split STARTED", flush=True)
kids = []
r, w = os.pipe()
for i in range(20):
    try:
        p = os.fork()
    except OSError:
        break
    if p == 0:
        try:
            b = b"y" * (60 << 20); os.write(w, b"x"); signal.pause()
        except MemoryError:
            pass
        os._exit(3)
    kids.append(p)
os.close(w)
held = 0
import select
# a child that was killed writes nothing: ask again until nobody has for a while
while select.select([r], [], [], 2)[0]:
    b = os.read(r, 1)
    if not b: break
    held += 1
alive = 0
for p in kids:
    if os.waitpid(p, os.WNOHANG) == (0, 0): alive += 1; os.kill(p, 9)
print("PROBE dos.mem_split %s %d of %d children hold 60 MiB" % ("ESCAPED" if alive >= 10 and held >= 10 else "BLOCKED", alive, len(kids)), flush=True)
