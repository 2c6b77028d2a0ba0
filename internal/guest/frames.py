"""The Python end of the pipe: runs one script inside the sandbox. See the comment of the Go package for the frames.

Started by bootstrap.py in a namespace of its own, with a private copy of the builtins, so that neither its names nor a
patched builtin of the script get in the way. Every import costs milliseconds in an image without .pyc files, so at the
top stand only modules that are built into every CPython; the rest is imported where it is needed.

Nothing here is a security boundary: script and runner share one process, and the host believes neither.
"""
import _thread
import gc
import io
import posix
import sys
from marshal import loads as unmarshal  # as it is before a script can change it

# The script's own file names and descriptors should never meet these two. High, but below 256: the kernel's first
# size of a descriptor table.
FRAMES_IN, FRAMES_OUT = 240, 241

PART = 8 << 20  # longer messages are sent in parts of about this many characters
MAX_MESSAGE = 64 << 20  # the host's cap on one message
MAX_RESULT = 1 << 20  # of JSON text
MAX_ERROR = 16 << 10  # of an error's text
MAX_DEPTH = 50  # of a result; the host allows 100 in a frame

PID = posix.getpid()
main = sys.modules["__main__"]
source, script = "", ""  # of the run frame: the script, and its file name
servers_text = "[]"  # JSON, likewise
# The code of this, what not every script needs: each compiled, or as str if nobody has done that yet; and after a boot from source
# both, for those that come after us.
first, more, *compiled = globals().pop("loaded")
more = list(more)
frozen = 0  # modules that no collection looks at
pending = {}  # calls by id: a function that takes the text of the answer, or None when the host is gone
kept, given = {}, set()  # modules by name that were imported ahead, and the names of those that the script has by now


# --- output -----------------------------------------------------------------------------------------------------------


class Output(io.FileIO):
    """An unbuffered binary stream that writes everything it is given.

    Text is written through, so what was printed is in the pipe when print returns: a killed or crashed script loses
    nothing, a fork duplicates nothing. It costs what line buffering costs (1e6 short prints take 2.7 s against 2.9 s:
    waking the reader is what is dear, not the second write of the line end).
    """

    def write(self, data, write=io.FileIO.write):
        n = write(self, data)
        if n == len(data):
            return n
        # A signal cut a long write short, a child made the pipe non-blocking, or the items are no bytes.
        rest = memoryview(data).cast("B")
        size, n = len(rest), n or 0
        while n < size:
            k = write(self, rest[n:])
            if k is None:
                import select

                poll = select.poll()
                poll.register(self.fileno(), select.POLLOUT)
                poll.poll()
            n += k or 0
        return size

    raw = property(lambda self: self)


def stream(fd, name):
    binary = Output(fd, "wb", closefd=False)
    binary.name = name
    text = io.TextIOWrapper(binary, "utf-8", "backslashreplace", write_through=True)
    text.mode = "w"
    return text


# --- frames -----------------------------------------------------------------------------------------------------------

chunks = []  # of a line that has not come to its end
parts = []  # of a message that has not
# For the next read. While one that waits for a script has a buffer, so little is better; and a large one is mapped and
# unmapped, which takes 0.1 ms.
room = 1 << 12


def receive():
    """Read once, and return the messages that are complete now; None when the host is gone."""
    global room
    try:
        data = posix.read(FRAMES_IN, room)
    except BlockingIOError:
        return []
    except OSError:
        data = b""
    if not data:
        return None
    messages = []
    *lines, rest = data.split(b"\n")
    for line in lines:
        if chunks:
            chunks.append(line)
            line = b"".join(chunks)
            chunks.clear()
        text = line.decode()
        if text.startswith('{"type":"part"'):
            part = loads(text)
            parts.append(part["data"])
            if not part["last"]:
                continue
            text = "".join(parts)
            parts.clear()
        messages.append(text)
    if rest:
        chunks.append(rest)
    room = min(room << 4, 1 << 18) if len(data) == room else 1 << 16 if rest else 1 << 12
    return messages


lock = _thread.allocate_lock()  # guards the frames written, and every variable of the calls below


def send(text):
    """Write one message; the caller holds the lock, so that parts are never interleaved."""
    if len(text) <= PART:
        write_line(text)
        return
    for i in range(0, len(text), PART):
        last = "true" if i + PART >= len(text) else "false"
        write_line('{"type":"part","data":%s,"last":%s}' % (quote(text[i : i + PART]), last))


def write_line(text):
    # A lone surrogate becomes \udXXX, which in a JSON string is an escape: the line is always valid UTF-8.
    write(text.encode("utf-8", "backslashreplace") + b"\n")


def write(data):
    data = memoryview(data)
    while data:
        try:
            data = data[posix.write(FRAMES_OUT, data) :]
        except BlockingIOError:  # only the library makes the descriptor so
            wait_to_write()


def scanner(hook):
    """What json.loads does, without importing json, and with it re, which would take longer than most scripts."""
    scan = scanners.get(hook)
    if not scan:

        class Context:
            strict, object_hook, object_pairs_hook, array_hook = False, hook, None, None  # the last since 3.15
            parse_float, parse_int, parse_constant = float, integer, float

        try:
            from _json import make_scanner

            scan = make_scanner(Context)
        except (ImportError, AttributeError, TypeError):  # there is none, or one of a Python that asks for more
            from json import JSONDecoder

            scan = JSONDecoder(object_hook=hook, parse_int=integer, parse_constant=float, strict=False).scan_once
        scanners[hook] = scan
    return scan


def loads(text, hook=None):
    """json.loads for what the host has checked."""
    return scanner(hook)(text, 0)[0]


scanners = {}


def integer(digits):
    """int(), also of more digits than sys.get_int_max_str_digits(); of too many to be worth it the text."""
    if len(digits) < 600:
        return int(digits)
    if len(digits) > 100000:
        return digits
    value, sign = 0, digits[:1] == "-"
    for i in range(sign, len(digits), 500):
        piece = digits[i : i + 500]
        value = value * 10 ** len(piece) + int(piece)
    return -value if sign else value


# --- text -------------------------------------------------------------------------------------------------------------

ESCAPES = {i: "\\u%04x" % i for i in range(32)}
ESCAPES.update({10: "\\n", 13: "\\r", 9: "\\t", 34: '\\"', 92: "\\\\"})


def quote(text):
    return '"' + text.translate(ESCAPES) + '"'


def safe_repr(value, limit):
    try:
        return repr(value)[:limit]
    except BaseException:  # a repr may raise anything, KeyboardInterrupt too, and the script has ended well
        return "<%s object, whose repr fails>" % type(value).__name__


def safe_text(value):
    try:
        return str(value)
    except BaseException:
        return ""
