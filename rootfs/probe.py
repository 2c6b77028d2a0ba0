# What the interpreter knows about itself, as one line of JSON. Run as `python3 -I -S -c`: no site, no environment,
# no current directory. Every extension module is imported, so that the loader shows which libraries it takes.
import sys


def main():
    import importlib
    import json
    import os
    import sysconfig

    paths = sysconfig.get_paths()
    dynload = [p for p in sys.path if os.path.basename(p) == "lib-dynload" and os.path.isdir(p)]
    for d in dynload:
        for f in sorted(os.listdir(d)):
            name = f.split(".")[0]
            if f.endswith(".so") and not name.startswith(("_test", "_tkinter", "_xx", "xx", "readline", "_ctypes_test")):
                try:
                    importlib.import_module(name)
                except BaseException:
                    pass
    maps = set()
    try:
        with open("/proc/self/maps") as f:
            for line in f:
                part = line.rstrip("\n").split(None, 5)
                if len(part) == 6 and part[5].startswith("/") and ".so" in part[5]:
                    maps.add(part[5])
    except OSError:
        pass
    base = sys.base_prefix
    exe = getattr(sys, "_base_executable", None) or sys.executable
    if sys.prefix != base or not exe:
        exe = os.path.join(base, "bin", "python%d.%d" % sys.version_info[:2])
    return json.dumps({
        "executable": exe,
        "version": list(sys.version_info[:3]),
        "prefix": base,
        "stdlib": sorted({paths["stdlib"], paths["platstdlib"]}),
        "dynload": dynload,
        "zip": [p for p in sys.path if p.endswith(".zip")],
        "cacheTag": sys.implementation.cache_tag or "",
        "libs": sorted(maps),
    })


print("mcp-bridge-probe:" + main())
