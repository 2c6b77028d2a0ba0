# --- values: what tools return -----------------------------------------------------------------------------------------
# A result is the data, as an instance of a subclass of str, list, dict, int or float that knows the protocol's message
# besides. It compares, slices, iterates and is encoded as the data. Where a key or attribute could mean either, the
# data wins; runtime.raw(result) is the message in any case. Pickles and deep copies are plain data.


class Record(dict):
    """An object of JSON: a dict, whose keys are attributes as well unless dict has an attribute of that name."""

    __slots__ = ()

    def __getattr__(self, name):
        if name in self:
            return self[name]
        if name[:2] == "__":
            raise AttributeError(name)
        return self._absent(name)

    def _absent(self, name):
        raise AttributeError("there is no %r; there is %s" % (name, some(self)))

    def __missing__(self, key):
        raise noted(KeyError(key), "there is %s" % some(self))

    def __setattr__(self, name, value):
        self[name] = value

    def __delattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        del self[name]

    def __dir__(self):
        return sorted({*dict.__dir__(self), *(k for k in self if isinstance(k, str) and k.isidentifier())})

    def copy(self):
        return Record(self)

    __copy__ = copy

    def __deepcopy__(self, memo):
        import copy

        return Record((k, copy.deepcopy(v, memo)) for k, v in dict.items(self))

    def __reduce__(self):
        return dict, (dict(self),)


def some(names, most=20):
    """A bounded list of names for a message."""
    shown = [repr(n) for n, _ in zip(names, range(most))]
    if len(names) > most:
        shown.append("%d more" % (len(names) - most))
    return ", ".join(shown) or "nothing"


PROTOCOL = ("content", "structuredContent", "isError", "_meta")
MISSING = object()


def envelope(value):
    """The protocol's message that a result was made of, or None."""
    try:
        return object.__getattribute__(value, "__mcp__")
    except AttributeError:
        return None


def protocol_item(value, key):
    """What result["content"] and its like mean where the data has no such key."""
    message = envelope(value)
    if message is None or not isinstance(key, str):
        return MISSING
    if key == "content":
        return Blocks(dict.get(message, "content") or ())
    if key in PROTOCOL:
        return dict.get(message, key, False if key == "isError" else None)
    return MISSING


def extra(value, name):
    """The attributes that every result has where the data has none of that name."""
    message = envelope(value)
    if message is not None:
        if name == "raw":
            return message
        if name == "content":
            return Blocks(dict.get(message, "content") or ())
        if name == "text":
            return text_of(message)
        if name in ("structured", "structuredContent"):  # the latter as an SDK has it
            return dict.get(message, "structuredContent")
        if name == "media":
            return [b for b in dict.get(message, "content") or () if isinstance(b, Media)]
        if name in ("is_error", "isError"):
            return bool(dict.get(message, "isError"))
    return MISSING


EXTRAS = ["content", "is_error", "media", "raw", "structured", "text"]


def text_of(message):
    blocks = dict.get(message, "content") or ()
    return "\n".join(b["text"] for b in blocks if b.get("type") == "text" and isinstance(b.get("text"), str))


class Result:
    """A result that is no dict: what is no attribute of the data is the protocol's."""

    def __getattr__(self, name):
        found = extra(self, name)
        if found is MISSING:
            found = self._structured(name)
        if found is MISSING:
            base = type(self).__mro__[2].__name__
            raise AttributeError("this result is a %s and has no %r; besides a %s's it has %s" % (base, name, base, ", ".join(EXTRAS)))
        return found

    def _structured(self, name):
        message = envelope(self)
        data = dict.get(message, "structuredContent") if message is not None else None
        return dict.get(data, name, MISSING) if isinstance(data, dict) and name[:2] != "__" else MISSING

    def _item(self, key):
        found = self._structured(key)
        if found is MISSING:
            found = protocol_item(self, key)
        elif found == self and type(found) is str and key == "content":
            return wrap(found, envelope(self), Opened)
        if found is MISSING and key == "text":
            found = extra(self, key)
        if found is MISSING:
            raise noted(KeyError(key), "this result is a %s" % type(self).__mro__[2].__name__)
        return found

    def __dir__(self):
        return sorted({*object.__dir__(self), *EXTRAS})

    def __reduce__(self):
        base = type(self).__mro__[2]
        return base, (base(self),)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        import copy

        base = type(self).__mro__[2]
        return [copy.deepcopy(v, memo) for v in self] if base is list else base(self)


class Text(Result, str):
    def __getitem__(self, key):
        return self._item(key) if isinstance(key, str) else str.__getitem__(self, key)


class Opened(Result, str):
    """The "content" of a result that is an object with a text under that key, and may be taken for the protocol's list."""

    def __getitem__(self, key):
        item = self._item(key) if isinstance(key, str) else str.__getitem__(self, key)
        return wrap(item, envelope(self)) if type(key) is int and key == 0 else item

    def __iter__(self):
        return iter(Blocks(dict.get(envelope(self), "content") or ()))


class Items(Result, list):
    def __getitem__(self, key):
        return self._item(key) if isinstance(key, str) else list.__getitem__(self, key)


class Integer(Result, int):
    def __getitem__(self, key):
        return self._item(key)


class Number(Result, float):
    def __getitem__(self, key):
        return self._item(key)


class Enveloped(Record):
    """An object that may be a result: what it has no key of is the protocol's."""

    def __missing__(self, key):
        found = protocol_item(self, key)
        return Record.__missing__(self, key) if found is MISSING else found

    def get(self, key, default=None):
        message = envelope(self)
        if key not in self and key in PROTOCOL and message is not None and key in message:
            return protocol_item(self, key)
        return dict.get(self, key, default)


class Data(Enveloped):
    """A result that is an object."""

    def _absent(self, name):
        found = extra(self, name)
        if found is MISSING:
            raise AttributeError("the result has no %r; it has %s" % (name, some(self)))
        return found

    def __getitem__(self, key):
        if isinstance(key, slice):  # a script that took it for the text that it was parsed from
            return text_of(envelope(self))[key]
        return dict.__getitem__(self, key)

    def __dir__(self):
        return sorted({*Record.__dir__(self), *EXTRAS})


class Blocks(list):
    """The content of a result as the protocol has it. Methods of str work on its text."""

    @property
    def text(self):
        return text_of({"content": self})

    def __contains__(self, item):
        return item in self.text if isinstance(item, str) else list.__contains__(self, item)

    def __getattr__(self, name):
        if name[:1] == "_" or not hasattr(str, name):
            raise AttributeError("a list of content blocks has no %r" % name)
        return getattr(self.text, name)

    def __reduce__(self):
        return list, (list(self),)


class Media(Enveloped):
    """An image, sound or resource: the protocol's block, with .data (bytes), .mime, .uri, .text and .save(path).

    As a script's last expression, or given to runtime.display(), it becomes content of the run's result. Media(data)
    makes one of bytes, for instance of a plot.
    """

    def __init__(self, data, mime=None):
        if isinstance(data, dict):
            dict.__init__(self, data)
            return
        if isinstance(data, (str, int)):
            raise TypeError("Media takes the bytes of an image, sound or file, not %s" % type(data).__name__)
        data = bytes(data)
        if mime is None:
            head = data[:4] + data[8:12] if data[:4] == b"RIFF" else data
            mime = next((m for start, m in MAGIC if head.startswith(start)), "application/octet-stream")
        import binascii

        text, kind = binascii.b2a_base64(data, newline=False).decode(), mime.partition("/")[0]
        if kind in ("image", "audio"):
            dict.__init__(self, type=kind, data=text, mimeType=mime)
        else:
            dict.__init__(self, type="resource", resource=Record(uri="data:,", mimeType=mime, blob=text))

    def _part(self, name):
        inner = dict.get(self, "resource")
        return inner.get(name) if isinstance(inner, dict) else dict.get(self, name)

    @property
    def data(self):
        if dict.get(self, "type") == "resource_link":
            raise MCPError("a link has no data: await runtime.read_resource(server, %r) fetches it" % self.uri)
        text = self._part("text")
        if isinstance(text, str):
            return text.encode("utf-8", "replace")
        encoded = self._part("data") or self._part("blob") or ""
        import binascii

        try:
            if not isinstance(encoded, str):
                raise TypeError("it is no text")
            encoded = encoded.replace("-", "+").replace("_", "/")  # base64url, which binascii would pass over
            return binascii.a2b_base64(encoded + "==")  # it stops at the first that is enough
        except (ValueError, TypeError) as e:
            raise MCPError("the data of the %s is not base64: %s" % (dict.get(self, "type"), e)) from None

    @property
    def mime(self):
        text = isinstance(self._part("text"), str)
        return self._part("mimeType") or ("text/plain" if text else "application/octet-stream")

    @property
    def uri(self):
        return self._part("uri")

    @property
    def text(self):
        text = self._part("text")
        return text if isinstance(text, str) else self.data.decode("utf-8", "replace")

    def __bytes__(self):
        return self.data

    def save(self, path):
        """Write the data to a file, and return its path."""
        with io.open(path, "wb") as f:
            f.write(self.data)
        return path

    def _absent(self, name):
        found = extra(self, name)
        return Record._absent(self, name) if found is MISSING else found

    def __repr__(self):
        if dict.get(self, "type") == "resource_link":
            return "<resource %s>" % self.uri
        try:
            size = len(self.data)
        except MCPError:
            return "<%s %s, damaged>" % (dict.get(self, "type"), self.mime)
        return "<%s %s, %d bytes>" % (dict.get(self, "type"), self.mime, size)


MAGIC = (
    (b"\x89PNG\r\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"<svg", "image/svg+xml"),
    (b"RIFFWEBP", "image/webp"), (b"RIFFWAVE", "audio/wav"), (b"%PDF", "application/pdf"), (b"ID3", "audio/mpeg"), (b"OggS", "audio/ogg"),
)  # fmt: skip


def block(value):
    """A content block as a value; what is none stays what it is."""
    if isinstance(value, dict) and dict.get(value, "type") in ("image", "audio", "resource", "resource_link"):
        return Media(value)
    return value if isinstance(value, Record) else Record(type="unknown", value=value)


def blocks_of(content):
    """The content blocks, also of a server that sends one without a list around it, or a text only."""
    if isinstance(content, str):
        content = Record(type="text", text=content)
    if isinstance(content, dict) and content:
        content = [content]
    return [block(b) for b in content] if isinstance(content, list) else []


FORMS_OF = {str: Text, list: Items, int: Integer, float: Number, Record: Data, Media: Media}


def wrap(value, message, form=None):
    """The value as a result that knows the message it was in."""
    form = form or FORMS_OF.get(type(value))
    if form is None:
        return value  # None, True and False cannot know anything
    value = Media(value) if form is Media else form(value)
    value.__dict__["__mcp__"] = message
    return value


def data_of(message):
    """The data of a CallToolResult: its structured content, or its text, parsed if that is an object or array.

    A list of those that came as a text each, which is how older SDKs send a list, is a list again.
    """
    blocks = dict.get(message, "content") or ()
    structured = dict.get(message, "structuredContent")
    text = text_of(message)
    if structured is not None:
        if isinstance(structured, dict) and len(structured) == 1:
            # SDKs put what is no object into one, because the protocol wants an object; some tools do that with text.
            inner = dict.get(structured, "result", MISSING)
            if inner is MISSING:
                inner = dict.get(structured, "content", MISSING)
                if not isinstance(inner, str) or inner != text:
                    return structured
            return inner
        return structured
    media = [b for b in blocks if isinstance(b, Media)]
    if media and not text:
        return media[0] if len(media) == 1 else media
    if media:
        return text
    data = json_of(text)
    if data is MISSING and len(blocks) > 1:
        texts = [dict.get(b, "text") if dict.get(b, "type") == "text" else None for b in blocks]
        data = [json_of(t) for t in texts if t != ""]
        if any(d is MISSING for d in data):
            data = MISSING
    return text if data is MISSING else data


def json_of(text):
    """The object or array that a text is, or MISSING."""
    if isinstance(text, str) and (text[:1] in "{[" or text[:1].isspace() and text.lstrip()[:1] in "{["):
        trimmed = text.strip()
        try:
            parsed, end = scanner(Record)(trimmed, 0)
            if end == len(trimmed) and isinstance(parsed, (dict, list)):
                return parsed
        except (StopIteration, ValueError, RecursionError):
            pass
    return MISSING


def result(value, server, tool, signature=None):
    """What a tool has returned, from what its server has answered; an error that it says is raised."""
    if type(value) is Record and set(value) - {"_meta"} == {"toolResult"}:
        value = dict.get(value, "toolResult")  # CompatibilityCallToolResult of MCP 2024-10-07
    failed = type(value) is Record and dict.get(value, "isError") is True
    if type(value) is not Record or not (failed or "content" in value or "structuredContent" in value):
        return value  # no CallToolResult: it is what it is
    value["content"] = blocks_of(dict.get(value, "content"))
    if failed:
        data = dict.get(value, "structuredContent")
        message = text_of(value) or (data and repr(data)) or "the tool failed and said nothing"
        raise failure(message, server, tool, content=value["content"], signature=signature)
    return wrap(data_of(value), value)


def failure(message, server, tool, content=None, code=None, type=None, data=None, signature=None, cls=MCPError):
    """An MCPError; with the signature, if the arguments may be what was wrong."""
    low = message[:2000].lower()
    if signature and (code == -32602 or any(w in low for w in ("argument", "param", "required", "valid", "schema"))):
        message = "%s\n(it is %s)" % (message, signature())
    error = cls(message, server, tool, type, content, code, data, signature and signature())
    # The words are the tool's own, and of many calls in asyncio.gather the traceback does not say which it was.
    return error if content is None else noted(error, "(%r of the MCP server %r has failed)" % (tool, server))


def raw(value):
    """The message of the protocol that a result was made of."""
    message = envelope(value)
    if message is None:
        raise TypeError("%s is not what a tool has returned" % type(value).__name__)
    return message
