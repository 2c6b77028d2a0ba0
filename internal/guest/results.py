# --- results: JSON from values ----------------------------------------------------------------------------------------
# An encoder of our own, because importing json takes longer than a whole small script, and because a result may be
# anything at all.


class TooLong(Exception):
    pass


# What a type of the standard library that JSON lacks is turned into, by name so that nothing is imported for it.
FORMS = {
    "datetime.date": lambda v: v.isoformat(),
    "datetime.time": lambda v: v.isoformat(),
    "datetime.timedelta": str,
    "decimal.Decimal": str,
    "fractions.Fraction": str,
    "pathlib.PurePath": str,
    "uuid.UUID": str,
    "enum.Enum": lambda v: v.value,
    "builtins.frozendict": dict,
    "collections.deque": list,
    "collections.UserDict": lambda v: v.data,
    "collections.UserList": lambda v: v.data,
    "sqlite3.Row": lambda v: dict(zip(v.keys(), tuple(v))),
    "numpy.generic": lambda v: v.item(),
    "numpy.ndarray": lambda v: v.tolist(),
}


shown = {}  # type -> function that may take a value of it, for what a result shows otherwise than as JSON


class Encoder:
    """Turns a value into JSON text. Strict (for arguments): what JSON cannot say is an error, else its repr."""

    def __init__(self, limit, depth, strict):
        self.limit, self.depth, self.strict = limit, depth, strict
        self.out, self.size, self.open, self.cut = [], 0, set(), False

    def emit(self, text):
        self.out.append(text)
        self.size += len(text)
        if self.size > self.limit:
            raise TooLong

    def text(self, value):
        if len(value) > self.limit:
            self.emit(quote(value[: self.limit]))
        self.emit(quote(value))

    def other(self, value, shown=None):
        if self.strict:
            raise TypeError("%s object cannot be sent as JSON" % type(value).__name__)
        self.text(shown or safe_repr(value, self.limit))

    def value(self, value):
        kind = type(value)
        if kind in shown and not self.strict and shown[kind](self, value):
            return
        if value is None:
            self.emit("null")
        elif kind is bool:
            self.emit("true" if value else "false")
        elif isinstance(value, str):
            self.text(str.__getitem__(value, slice(None)))  # the plain text of a subclass too, whatever its methods
        elif isinstance(value, int):
            try:
                self.emit(int.__repr__(value))
            except ValueError:  # more digits than sys.get_int_max_str_digits()
                self.other(value, "<int of %d bits>" % int.bit_length(value))
        elif isinstance(value, float):
            text = float.__repr__(value)
            if text.strip("-") in ("inf", "nan"):
                if self.strict:
                    raise ValueError("JSON has no %s" % text)
                text = quote(text)
            self.emit(text)
        else:
            self.container(value, kind)

    def container(self, value, kind):
        """Everything that may hold other values."""
        if id(value) in self.open:
            if self.strict:
                raise ValueError("a value that contains itself cannot be sent as JSON")
            return self.emit('"..."')
        if len(self.open) >= self.depth:
            if self.strict:
                raise ValueError("arguments are nested more than %d deep" % self.depth)
            self.cut = True
            return self.emit('"..."')
        self.open.add(id(value))
        done = len(self.out), self.size
        try:
            self.parts(value, kind)
        except TooLong:
            raise
        except Exception:  # of an attribute, property or iterator of the script's own: only this value is lost
            if self.strict:
                raise
            del self.out[done[0] :]
            self.size = done[1]
            self.text(safe_repr(value, self.limit))
        self.open.discard(id(value))

    def parts(self, value, kind):
        if isinstance(value, dict):
            self.object(dict.items(value))
        elif isinstance(value, tuple) and hasattr(kind, "_fields"):
            self.object(zip(kind._fields, tuple.__iter__(value)))
        elif isinstance(value, (list, tuple, set, frozenset, type({}.keys()), type({}.values()))):
            self.array(value)
        elif hasattr(kind, "__dataclass_fields__"):
            names = [n for n, f in kind.__dataclass_fields__.items() if f._field_type.name == "_FIELD"]
            self.object([(n, getattr(value, n)) for n in names if hasattr(value, n)])
        else:
            for base in kind.__mro__:
                form = FORMS.get("%s.%s" % (str(base.__module__).partition(".")[0].lstrip("_"), base.__name__))
                if form:
                    self.value(form(value))
                    break
            else:
                self.other(value)

    def array(self, values):
        comma = "["
        for v in values:
            self.emit(comma)
            self.value(v)
            comma = ","
        self.emit("]" if comma == "," else "[]")

    def object(self, items):
        comma, seen = "{", set()
        for k, v in items:
            name = self.name(k)
            while name in seen:  # {1: …, "1": …}: a JSON object must not have a name twice
                if self.strict:
                    raise TypeError("two keys become %s" % quote(name[:100]))
                name += "'"
            seen.add(name)
            self.emit(comma)
            self.text(name)
            self.emit(":")
            self.value(v)
            comma = ","
        self.emit("}" if comma == "," else "{}")

    def name(self, key):
        if isinstance(key, str):
            return str.__getitem__(key, slice(None))
        if key is None or type(key) is bool:
            return {None: "null", True: "true", False: "false"}[key]
        if type(key) in (int, float) or not self.strict:
            return safe_repr(key, self.limit)
        raise TypeError("a key must be a str, not %s" % type(key).__name__)


def encode_result(value):
    """The value of the script's last expression as JSON text, and whether it was cut."""
    encoder = Encoder(MAX_RESULT, MAX_DEPTH, False)
    try:
        encoder.value(value)
        return "".join(encoder.out), encoder.cut
    except TooLong:
        text = value if type(value) is str else "".join(encoder.out)
        cut = quote(text[: MAX_RESULT // 2])
        return (cut if len(cut.encode("utf-8", "replace")) <= MAX_RESULT else quote(text[: MAX_RESULT // 6])), True


def remind(value):
    """Say of a last value that is or holds a coroutine or a task what has most likely been forgotten, before that is a success.

    The interpreter would do so too, but of a line of the runner's.
    """
    kind, values = type(value), [value]
    if kind in (list, tuple, set, dict):
        values = list(value.values() if kind is dict else value)[:1000]
    told = set()
    for v in values:
        kind, text = type(v), None
        if kind.__name__ == "coroutine" and kind.__module__ == "builtins" and v.cr_frame and not v.cr_await:
            text = never_awaited(v)
            v.close()
        elif kind.__name__ in ("Task", "_GatheringFuture") and kind.__module__ in ("_asyncio", "asyncio.tasks"):
            text = "a task was never awaited, and ended with the script: await it" if id(v) in abandoned else None
        if text and text not in told:
            told.add(text)
            complain("RuntimeWarning: %s\n" % text)


def never_awaited(coroutine):
    name = name_of(coroutine)
    return "coroutine '%s' was never awaited, nothing of it has run: await %s(...)" % (name, name)


def name_of(coroutine):
    """What a script calls to have it."""
    name = safe_text(coroutine.__qualname__)[:100]
    return "runtime." + name if coroutine.cr_code.co_filename == "<runner>" and name[:4] != "mcp_" else name
