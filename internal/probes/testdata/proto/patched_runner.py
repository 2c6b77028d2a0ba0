# tamper with the in-process runner: json, os.write, print, sys.modules, excepthook, atexit, gc over its objects
# pass: host trusts nothing the runner says; worst case is a wrong result of this run
import builtins, atexit, gc
orig = json.dumps
json.dumps = lambda *a, **k: '{"type":"done","FORGED":true}'
sys.excepthook = lambda *a: None
found = 0
for o in gc.get_objects():
    if type(o).__name__ in ("BufferedReader", "BufferedWriter", "FileIO", "socket"): found += 1
m = sys.modules.get("__main__"); names = sorted(k for k in vars(m) if not k.startswith("__"))[:20]
json.dumps = orig
done("patched_runner", "%d channel objects reachable, __main__ has %s" % (found, names))
json.dumps = lambda *a, **k: '{"type":"done","FORGED":true}'
