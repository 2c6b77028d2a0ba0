# Tries operations inside a container and says what came of each: the value of r, or the name of the errno.
#
# Standard input is a JSON list of [name, code]. Each code runs in a child of its own, so that what one changes (its
# root, its limits, its user) is nothing to the next, and a crash is an answer.
import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)


def call(function, *args):
    """A function of the C library that sets errno."""
    n = getattr(libc, function)(*(a.encode() if isinstance(a, str) else a for a in args))
    if n == -1:
        raise OSError(ctypes.get_errno(), function)
    return n


def status(field, pid="self"):
    for line in open("/proc/%s/status" % pid):
        if line.startswith(field + ":"):
            return line.split(":", 1)[1].split()


def write(path, text="x"):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    return "written"


def create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700))
    return "made"


def program(directory):
    """Copies a program to directory and runs it."""
    path = directory + "/program"
    with open("/proc/self/exe", "rb") as source, open(path, "wb") as target:
        target.write(source.read())
    os.chmod(path, 0o700)
    os.execv(path, [path, "-c", "print(1)"])


def read(path):
    with open(path, "rb") as f:
        return f.read(1 << 16)


def answer(code):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        names = dict(globals())
        try:
            exec(compile(code, "<operation>", "exec"), names)
            text = str(names["r"])
        except OSError as e:
            text = errno.errorcode.get(e.errno, repr(e))
        except BaseException as e:
            text = "%s: %s" % (type(e).__name__, e)
        os.write(w, text.encode("utf-8", "replace")[:60000])
        os._exit(0)
    os.close(w)
    text = b""
    while True:
        b = os.read(r, 65536)
        if not b:
            break
        text += b
    os.close(r)
    end = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(end):
        return "signal %d" % os.WTERMSIG(end)
    return text.decode()


json.dump({name: answer(code) for name, code in json.load(sys.stdin)}, sys.stdout)
