# --- servers and their tools -------------------------------------------------------------------------------------------


class Server:
    """An MCP server. Its tools are attributes, by the names that dir() lists, and items, by the server's own names.

    They are coroutine functions: `await server.tool(argument=1)`. `tool.sync(argument=1)` is the same without await.
    """

    __slots__ = ("__info", "__functions")

    def __init__(self, info):
        self.__info, self.__functions = info, {}

    def __getattr__(self, name):
        if name[:2] == "__" and name[-2:] == "__":
            raise AttributeError(name)
        return function(self, name)

    def __getitem__(self, name):
        return function(self, name)

    def __iter__(self):
        return iter([t["name"] for t in tools_of(self)])

    def __len__(self):
        return len(tools_of(self))

    def __bool__(self):
        return True

    def __contains__(self, name):
        return any(name in (t["name"], t["alias"]) for t in tools_of(self))

    def __dir__(self):
        try:
            return [t["alias"] for t in tools_of(self)]
        except MCPError:
            return []

    def __repr__(self):
        i = self.__info
        count = len(i["tools"]) if i.get("tools") is not None else i.get("toolCount", -1)
        about = "unavailable: %s" % i["unavailable"] if i.get("unavailable") else "%d tools" % count if count >= 0 else "tools not listed yet"
        return "<MCP server %r: mcp_%s, %s>" % (i["name"], i["alias"], about)

    def __mcp_help__(self):
        print(repr(self))
        if self.__info.get("description"):
            print(self.__info["description"])
        for t in tools_of(self):
            print("  %s\n      %s" % (signature_text(self, t), first_line(t.get("description"))))


info_of, functions_of = Server._Server__info.__get__, Server._Server__functions.__get__


class Servers:
    """All MCP servers that were discovered, by name. Reading one starts nothing; calling a tool does."""

    def __getitem__(self, name):
        return find(name)

    def __getattr__(self, name):
        if name[:1] == "_":
            raise AttributeError(name)
        return find(name)

    def get(self, name, default=None):
        return find(name) if name in self else default

    def __iter__(self):
        return iter(known())

    def __len__(self):
        return len(known())

    def __contains__(self, name):
        return name in known() or any(info_of(s)["alias"] == name for s in known().values())

    def keys(self):
        return list(known())

    def values(self):
        return list(known().values())

    def items(self):
        return list(known().items())

    def __dir__(self):
        return [info_of(s)["alias"] for s in known().values()] + ["get", "items", "keys", "values"]

    def __repr__(self):
        return "{%s}" % ", ".join("%r: %r" % item for item in known().items())


mcp_servers = Servers()
catalog = None


def known():
    """The servers by name, in the host's order."""
    global catalog
    if catalog is None:
        catalog = {s["name"]: Server(s) for s in loads(servers_text, Record)}
    return catalog


def find(name):
    """A server by its name, or else by its alias."""
    if isinstance(name, Server):
        return name
    if not isinstance(name, str):
        raise TypeError("a server's name must be a string, not %s" % type(name).__name__)
    server = known().get(name)
    for other in () if server else known().values():
        if info_of(other)["alias"] == name:
            return other
    if server is None:
        raise MissingError("there is no MCP server %r%s" % (name, instead(name, known())), name)
    return server


def instead(name, names):
    import difflib

    near = difflib.get_close_matches(name[:200], [n for n in names if len(n) <= 200][:2000], 3, 0.5)
    low = name.lower()
    near += [n for n in names if low in n.lower() and n not in near][: 3 - len(near)]
    if near:
        return "; did you mean %s?" % " or ".join(map(repr, near))
    return "; there are %s" % some(names) if names else ": none is configured"


def usable(server):
    i = info_of(server)
    if i.get("unavailable"):
        raise MCPError("the MCP server %r cannot be used: %s" % (i["name"], i["unavailable"]), i["name"])
    return i


def tools_of(server):
    i = usable(server)
    if i.get("tools") is None:
        i["tools"] = bridge_sync("tools", server=i["name"])["tools"]
    return i["tools"]


def heard_of(server):
    """The tools that are known without asking."""
    i = info_of(server)
    return i.get("tools") or i.get("mentioned") or ()


async def tools_of_async(server):
    i = usable(server)
    if i.get("tools") is None:
        i["tools"] = (await bridge("tools", server=i["name"]))["tools"]
    return i["tools"]


def look_again(server):
    """The tools as the server says now: what is known of it may be of another version. A few times in a run."""
    i = info_of(server)
    looked = i.get("again", 0)
    if looked < 20:
        i["again"] = looked + 1
        i["tools"] = bridge_sync("tools", server=i["name"], again=True)["tools"]
    return tools_of(server)


def named(tools, name):
    """A tool by its name, or else by its alias."""
    for key in ("name", "alias"):
        for t in tools:
            if t[key] == name:
                return t


def pick(server, tools, name):
    tool = named(tools, name)
    if tool is None:
        tools = look_again(server)
        tool = named(tools, name)
    if tool is not None:
        return tool
    i = info_of(server)
    meant = "list_tools_sync" if name == "tools" else name
    if meant in modules["mcp.runtime"].__all__:
        near = "; from mcp import runtime, and runtime.%s(%r)" % (meant, i["name"])
    else:
        near = instead(str(name), [t["alias"] for t in tools])
    raise MissingError("the MCP server %r has no tool %r%s" % (i["name"], name, near), i["name"], name)


def function(server, name):
    functions = functions_of(server)
    if name not in functions:
        i = usable(server)
        tool = named(heard_of(server), name) or pick(server, tools_of(server), name)
        i["loaded"] = True  # for the rest of this run
        if tool["name"] not in functions:
            functions[tool["name"]] = make_function(server, tool)
        functions[name] = functions[tool["name"]]
    return functions[name]


def make_function(server, tool):
    names = info_of(server)["name"], tool["name"]

    def signature():
        return signature_text(server, tool)

    async def call(*args, **kwargs):
        arguments = bind_now(server, tool, args, kwargs)
        return finish_call(await ask(*names, arguments), *names, signature)

    def sync(*args, **kwargs):
        arguments = bind_now(server, tool, args, kwargs)
        return finish_call(ask_sync(*names, arguments), *names, signature)

    looks = looks_of(tool) if seen() else None
    for f in (call, sync):
        f.__name__ = tool["alias"]
        f.__qualname__ = "mcp_%s.%s" % (info_of(server)["alias"], tool["alias"])
        f.__module__ = "mcp.servers." + info_of(server)["alias"]
        f.__doc__ = documentation(tool)
        if looks:
            f.__signature__ = looks
    call.sync = sync
    return call


def seen():
    """Whether the script may ask what a tool takes. One that imports inspect, or what would, is not alone."""
    return not lone or "signature" in source or "help" in source


def looks_of(tool):
    import inspect  # as much as all else that a cold script needs for a call

    kind, params = inspect.Parameter, []
    for p in tool["params"]:
        default = kind.empty if p.get("required") else p.get("default")
        params.append(kind(p["alias"], kind.POSITIONAL_OR_KEYWORD, default=default, annotation=Hint(p["type"])))
    if tool.get("open"):
        params.append(kind(free("more", tool), kind.VAR_KEYWORD))
    return inspect.Signature(params, return_annotation=Hint(tool["returns"]))


def free(name, tool):
    while any(p["alias"] == name for p in tool["params"]):
        name += "_"
    return name


class Hint(str):
    """A type as text, that is shown without quotes."""

    __repr__ = str.__str__


def documentation(tool):
    lines = [tool.get("description") or tool.get("title") or "", ""]
    if tool["params"]:
        lines.append("Arguments:")
    for p in tool["params"]:
        more = "" if p.get("required") else ", optional"
        also = "" if p["alias"] == p["name"] else " (the tool's %r)" % p["name"]
        about = ": " + p["description"].replace("\n", "\n        ") if p.get("description") else ""
        lines.append("    %s: %s%s%s%s" % (p["alias"], p["type"], more, also, about))
    lines.append("Returns: %s" % tool["returns"])
    return "\n".join(lines).strip()


def signature_text(server, tool):
    params = []
    for p in tool["params"]:
        params.append("%s: %s" % (p["alias"], p["type"]) + ("" if p.get("required") else " = %r" % (p.get("default"),)))
    if tool.get("open"):
        params.append("**" + free("more", tool))
    return "mcp_%s.%s(%s) -> %s" % (info_of(server)["alias"], tool["alias"], ", ".join(params), tool["returns"])


def bind_now(server, tool, args, kwargs):
    """bind, and once more if the tool has changed since it was listed."""
    try:
        return bind(server, tool, args, kwargs)
    except ArgumentError:
        try:
            now = named(tools_of(server), tool["name"])
            if now == tool:
                now = named(look_again(server), tool["name"])
        except MCPError:
            now = None
        if now is None or now == tool:
            raise
    return bind(server, now, args, kwargs)


def bind(server, tool, args, kwargs):
    """The arguments of a tool. What is no argument of it is an error here, before anything is sent."""
    params, out = tool["params"], {}

    def wrong(text):
        i = info_of(server)
        shown = signature_text(server, tool)
        raise ArgumentError("mcp_%s.%s() %s\n(it is %s)" % (i["alias"], tool["alias"], text, shown), i["name"], tool["name"], signature=shown)

    if len(args) + len(kwargs) == 1:
        args, kwargs = unpacked(tool, args, kwargs)
    if len(args) > len(params):
        wrong("takes %d positional arguments, not %d" % (len(params), len(args)))
    for p, value in zip(params, args):
        out[p["name"]] = value
    for key, value in kwargs.items():
        p = next((p for p in params if p["name"] == key), None) or next((p for p in params if p["alias"] == key), None)
        if p is None and not tool.get("open"):
            wrong("has no argument %r" % key)
        name = p["name"] if p else key
        if name in out:
            wrong("got the argument %r twice" % key)
        out[name] = value
    for p in params:
        if p.get("required"):
            if p["name"] not in out:
                wrong("needs the argument %r" % p["alias"])
        elif out.get(p["name"], MISSING) is None and not p.get("nullable"):
            del out[p["name"]]  # None is what the signature shows for "not given"
    return out


def unpacked(tool, args, kwargs):
    """The arguments where a script gives them as one dict, as the protocol has them, and that can mean nothing else."""
    given = args[0] if args else kwargs.get("arguments")
    names = {n for p in tool["params"] for n in (p["name"], p["alias"])}
    if not isinstance(given, dict) or not given or not names.issuperset(given):
        return args, kwargs
    if args:
        simple = tool["params"][0]["type"].startswith(("str", "int", "float", "bool", "list"))
        return ((), given) if simple and "dict" not in tool["params"][0]["type"] else (args, kwargs)
    return (args, kwargs) if "arguments" in names or tool.get("open") else ((), given)


def finish_call(text, server, tool, signature=None):
    try:
        value = parse(text, server, tool)
    except MCPError as e:
        if signature is None:
            raise
        raise failure(e.message, server, tool, None, e.code, e.type, e.data, signature, type(e)) from None
    return result(value, server, tool, signature)


def names_of(server, tool):
    """The names for a call by name. The host knows more tools than this process may have heard of, and decides."""
    if isinstance(server, Server):
        server = info_of(server)["name"]
    elif isinstance(server, str) and server not in known() and server in mcp_servers:
        server = info_of(find(server))["name"]
    if not isinstance(server, str) or not isinstance(tool, str):
        raise TypeError('server and tool must be strings: call_tool("server", "tool", {"argument": 1})')
    if server == BRIDGE:
        raise MissingError("there is no MCP server ''", server, tool)
    if server in known():
        usable(known()[server])
        s = known()[server]
        t = named(heard_of(s), tool) or info_of(s).get("loaded") and named(tools_of(s), tool)
        if t:
            tool = t["name"]
    return server, tool


def signature_of(server, tool):
    """A function that says how a tool is called, if that is known."""
    s = known().get(server)
    for t in heard_of(s) if s else ():
        if t["name"] == tool:
            return lambda: signature_text(s, t)
    return None


def arguments_of(names, arguments, more):
    """The arguments of a call by name, which may also be keywords, if the tool is known to have them."""
    if not more:
        return arguments
    server = known().get(names[0])
    tool = server and named(tools_of(server), names[1])
    if arguments is not None or not tool:
        raise TypeError('call_tool("server", "tool", {"argument": 1}) takes no %s' % some(more))
    return bind(server, tool, (), more)


async def call_tool(server, tool, arguments=None, **more):
    """Call a tool of an MCP server by its name, with a dict of arguments; many calls can be open at once."""
    names = names_of(server, tool)
    return finish_call(await ask(*names, arguments_of(names, arguments, more)), *names, signature_of(*names))


def call_tool_sync(server, tool, arguments=None, **more):
    """call_tool without await, in any thread. It blocks its thread, also where an event loop runs in it."""
    names = names_of(server, tool)
    return finish_call(ask_sync(*names, arguments_of(names, arguments, more)), *names, signature_of(*names))
