# Compiles the standard library and the installed packages of the image that this runs in, and writes to standard output
# what a Python that may write would have kept in __pycache__. The format is read by warm.go. Nothing but the image's own
# content goes in, in one order and with one hash seed, so that the same image gives the same bytes.
import os
import struct
import sys

os.nice(19)  # runs go first
out = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what an odd package prints is no part of the format

import importlib.util
import marshal

SKIP = {"__pycache__", "test", "tests", "idlelib", "turtledemo", "ensurepip", "lib2to3", "node_modules"}


def send(data):
    out.write(struct.pack(">I", len(data)))
    out.write(data)


def pyc(path, data):
    code = compile(data, path, "exec", dont_inherit=True, optimize=0)
    # By hash, and not looked at again (PEP 552): the tree does not change, and a time would be one more thing to keep.
    return importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + importlib.util.source_hash(data) + marshal.dumps(code)


def sources():
    seen = set()
    for base in sys.path:
        base = os.path.realpath(base)
        if base in seen or not os.path.isdir(base):
            continue
        for folder, folders, files in os.walk(base):
            if folder in seen:
                folders[:] = []
                continue
            seen.add(folder)
            folders[:] = sorted(f for f in folders if f not in SKIP)
            for name in sorted(files):
                if name.endswith(".py"):
                    yield os.path.join(folder, name)


send(sys.implementation.cache_tag.encode())
for path in sources():
    try:
        if os.path.exists(importlib.util.cache_from_source(path)) or os.path.getsize(path) > 4 << 20:
            continue
        with open(path, "rb") as f:
            data = pyc(path, f.read())
        name = os.fsencode(path)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        continue  # templates, Python 2, broken links
    send(name)
    send(data)
send(b"")
out.flush()
