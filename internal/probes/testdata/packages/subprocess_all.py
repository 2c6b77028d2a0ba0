import subprocess, sys, os, signal
py = lambda code: [sys.executable, "-c", code]
assert subprocess.run(["sh", "-c", "echo a | { read x; echo $x$x; }"], capture_output=True, text=True).stdout == "aa\n"
assert subprocess.run(py("import os; os._exit(4)")).returncode == 4
p = subprocess.Popen(py("import time; time.sleep(60)"), start_new_session=True); os.killpg(p.pid, signal.SIGTERM); assert p.wait() == -15
try: subprocess.run(py("import time; time.sleep(60)"), timeout=0.2); raise SystemExit("no timeout")
except subprocess.TimeoutExpired: pass
assert os.waitstatus_to_exitcode(os.system("exit 5")) == 5
os.posix_spawn("/bin/sh", ["sh", "-c", "exit 6"], os.environ); assert os.waitstatus_to_exitcode(os.wait()[1]) == 6
"ok"
