# Who and where am I, and what can I reach?
import os, platform, socket

print("Python", platform.python_version(), "as uid", os.getuid(), "on", platform.node())
print("processes:", sorted(int(p) for p in os.listdir("/proc") if p.isdigit()))
try:
    socket.create_connection(("1.1.1.1", 53), timeout=1)
except OSError as e:
    print("network:", e)
try:
    open("/etc/passwd", "a")
except OSError as e:
    print("root file system:", e)
open("note.txt", "w").write("files in /workspace last as long as the run\n")
print("workspace:", os.listdir("."))
