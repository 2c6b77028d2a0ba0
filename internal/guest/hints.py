# --- hints: what to write instead --------------------------------------------------------------------------------------
# A model has written the script, reads its error, and tries again. Of what models often get wrong here, Python says what
# is wrong but not what would be right.


def explain(error):
    """Note on the error what mends it, if that is known. Its whole message."""
    try:
        hint = hint_of(error)
        if hint:
            noted(error, hint)
    except BaseException:
        pass  # an attribute of the script's own error failed
    return whole_message(error)


def whole_message(error):
    """The message with all that a traceback says besides: the first error of a group, and notes."""
    parts = [message_of(error)]
    try:
        for e in members_of(error)[:1]:
            parts.append("%s: %s" % (type_of(e), whole_message(e)))
        parts += [n for n in getattr(error, "__notes__", ()) if isinstance(n, str)]
    except BaseException:
        pass
    return "; ".join(p for p in parts if p)


def hint_of(error):
    """What mends the error that the script ends with, in a few words; None if that is not known."""
    leaf = leaf_of(error)
    kind, text = type(leaf), message_of(leaf)
    if kind is NameError and text.startswith("name '"):
        return hint_of_name(leaf)
    if isinstance(leaf, SyntaxError):
        return hint_of_syntax(leaf) if leaf.filename == script else None
    if kind is ModuleNotFoundError and leaf.name and text == "No module named %r" % leaf.name:
        if leaf.name[:4] == "mcp_":
            return instead_of(leaf.name)
        if "." not in leaf.name:
            return "it is not in the image, and there is no network to install it from"
        return None
    if kind in (TypeError, AttributeError):
        return hint_of_type(text)
    if kind is RuntimeError and text.startswith("asyncio.run() cannot be called") and watch.awaits:
        return "the script awaits at its top level, where a loop runs already: write await there too, in place of asyncio.run"
    if kind is RuntimeError and text == "no running event loop" and not watch.awaits:
        return "there is one where the script awaits at its top level: await what is to run, such as main()"
    if any(e for e in causes(leaf) if isinstance(e, OSError) and no_network(e)):
        return "there is no network here; only the tools of MCP servers reach it"
    if kind is FileNotFoundError and isinstance(leaf.filename, str) and leaf.filename[:1] == "/":
        own = leaf.filename.startswith(("/workspace/", "/tmp/", "/proc/", "/dev/", "/usr/", "/bin/"))
        if not own and not exists(leaf.filename.rpartition("/")[0] or "/"):
            return "a script sees the files of its sandbox only; the host's are for the tools of MCP servers"


def leaf_of(error):
    """The first of a group."""
    for _ in range(20):
        error = next(iter(members_of(error)), error)
    return error


def causes(error):
    for _ in range(20):
        if error is None:
            break
        yield error
        error = error.__cause__ or error.__context__


def no_network(error):
    if type(error).__name__ == "gaierror":
        return True
    return error.errno in (97, 101)  # EAFNOSUPPORT, ENETUNREACH


def hint_of_syntax(error):
    line = (error.text or "").strip()
    if line[:1] in ("%", "!"):
        return "commands of notebooks do not work here, and nothing can be installed"
    if line[:3] == ">>>":
        return "leave out the prompts"
    if error.msg == "'return' outside function":
        return "end with an expression instead: its value is the result"


def hint_of_type(text):
    if "in 'await' expression" in text or "can't be awaited" in text:
        if "function" in text or "method" in text:
            return "call it: await f(...)"
        return "it is there already: leave out await"
    if "'coroutine' object" in text or text.endswith(("not coroutine", "type coroutine is not JSON serializable")):
        return "a coroutine is what a call gives that was not awaited: write await before the call"
    if not uses_mcp():
        return None
    if " not Blocks" in text:
        return "this is the list of the protocol's content blocks: take the result itself, or its .text"
    if text.startswith("the JSON object must be str") and text.endswith((" not Data", " not Items", " not Record")):
        return "what a tool returns is parsed already: leave out json.loads"
    if text.startswith("string indices must be integers"):
        return "it is text; if that is JSON, json.loads parses it"


def hint_of_name(error):
    name = getattr(error, "name", None) or message_of(error).partition("'")[2].partition("'")[0]
    hint = instead_of(name)
    if hint and hasattr(error, "name"):
        error.name = None  # or Python would add a suggestion of its own to ours
    return hint


def instead_of(name):
    use_library()
    if name in modules["mcp.runtime"].__all__:
        return "write from mcp import runtime, and runtime.%s" % name
    if name == "runtime":
        return "write from mcp import runtime"
    servers = ["mcp_" + info_of(s)["alias"] for s in known().values()]
    if name == "mcp" or name in servers:  # the latter by a script that does not say mcp
        return "write import %s" % name
    if name[:4] == "mcp_":
        whole = "mcp_" + name[4:].lstrip("_")  # some clients call tools mcp__server__tool
        for s in servers:
            if whole.startswith(s + "_"):
                return "write %s.%s(...)" % (s, whole[len(s) :].lstrip("_"))
        return "the MCP servers are %s" % some(servers) if servers else "no MCP server is configured"
    if known():
        try:
            for m in bridge_sync("search", query=name, limit=10, aside=True):
                if name in (m["tool"]["alias"], m["tool"]["name"]):
                    return "write mcp_%s.%s(...)" % (info_of(find(m["server"]))["alias"], m["tool"]["alias"])
        except Exception:
            pass


def unwrapped(source):
    """The script without a Markdown fence around it, and without what all its lines are indented by. No code begins so.

    The lines stay where they are.
    """
    lines = source.split("\n")
    full = [i for i, line in enumerate(lines) if line.strip()]
    fence = lines[full[0]].strip()
    if fence[:3] == "```" and all(c.isalnum() or c in "+-._" for c in fence[3:]):  # and no code on it
        lines[full[0]] = ""
        if len(full) > 1 and lines[full[-1]].strip() == "```":
            lines[full[-1]] = ""
        full = [i for i, line in enumerate(lines) if line.strip()]
    first = lines[full[0]] if full else ""
    indent = first[: len(first) - len(first.lstrip())]
    if indent and all(lines[i].startswith(indent) for i in full):
        lines = [line[len(indent) :] if line.startswith(indent) else line for line in lines]
    return "\n".join(lines)
