# --- mcp.runtime -------------------------------------------------------------------------------------------------------


def first_line(text):
    line = next((line.strip() for line in (text or "").split("\n") if line.strip()), "")
    return line if len(line) <= 200 else line[:200] + "..."


def discovered_servers(detailed=False):
    """The names of all servers whose tools can be called; detailed: what is known about each. Starts none."""
    return tuple(map(about, known().values())) if detailed else tuple(known())


def is_loaded(server):
    i = info_of(server)
    return bool(i.get("loaded")) or i.get("tools") is not None


def about(server):
    i = info_of(server)
    out = Record(name=i["name"], alias=i["alias"], loaded=is_loaded(server))
    for key in ("description", "source", "unavailable"):
        if i.get(key):
            out[key] = i[key]
    count = len(i["tools"]) if i.get("tools") is not None else i.get("toolCount", -1)
    if count >= 0:
        out["toolCount"] = count
    return out


async def list_servers():
    """discovered_servers()."""
    return discovered_servers()


def list_servers_sync():
    """discovered_servers()."""
    return discovered_servers()


def metadata(tool):
    out = Record()
    for ours, theirs in METADATA.items():
        if tool.get(theirs) is not None:
            out[ours] = tool[theirs]
    return out


METADATA = {
    "name": "name", "alias": "alias", "title": "title", "description": "description", "input_schema": "inputSchema",
    "output_schema": "outputSchema", "annotations": "annotations",
}  # fmt: skip


def list_tools_sync(server):
    """The tools of a server: dicts with name, alias, description, input_schema and what else it says."""
    return tuple(map(metadata, tools_of(find(server))))


async def list_tools(server):
    """The tools of a server: dicts with name, alias, description, input_schema and what else it says."""
    return tuple(map(metadata, await tools_of_async(find(server))))


def describe_server(name):
    """What is known about a server, with its tools."""
    server = find(name)
    tools = list_tools_sync(server)
    return Record(about(server), tools=tools)


def list_loaded_server_metadata():
    """describe_server() of each server that is loaded in this run."""
    return tuple(describe_server(s) for s in known().values() if is_loaded(s))


def doc(server, tool, detail):
    i = info_of(server)
    out = Record(server=i["name"], serverAlias=i["alias"], tool=tool["name"], toolAlias=tool["alias"])
    out["signature"] = signature_text(server, tool)
    full = str(detail).lower() == "full"
    description = tool.get("description") or tool.get("title")
    if description:
        out["description"] = description if full else first_line(description)
    for key in ("inputSchema", "outputSchema", "annotations") if full else ():
        if tool.get(key) is not None:
            out[key] = tool[key]
    return out


def docs(server, tools, tool, detail):
    if tool is not None:
        return doc(server, pick(server, tools, tool), detail)
    return [doc(server, t, detail) for t in tools]


def query_tool_docs_sync(server, tool=None, detail="summary"):
    """The documentation of a tool as a dict, or of all tools of a server as a list of them. detail="full": with schemas."""
    return docs(find(server), tools_of(find(server)), tool, detail)


async def query_tool_docs(server, tool=None, detail="summary"):
    """The documentation of a tool as a dict, or of all tools of a server as a list of them. detail="full": with schemas."""
    return docs(find(server), await tools_of_async(find(server)), tool, detail)


def found(matches, detail):
    return [Record(doc(find(m["server"]), m["tool"], detail), score=m["score"]) for m in matches if m["server"] in known()]


def search_tool_docs_sync(query, *, limit=5, detail="summary"):
    """The tools of all servers that fit a query best, best first; an empty list if none fits.

    It starts no server: of one that nobody has used yet nothing is known, until list_tools has asked it.
    """
    return found(bridge_sync("search", query=str(query), limit=min(int(limit), 1 << 30)), detail)


async def search_tool_docs(query, *, limit=5, detail="summary"):
    """The tools of all servers that fit a query best, best first; an empty list if none fits.

    It starts no server: of one that nobody has used yet nothing is known, until list_tools has asked it.
    """
    return found(await bridge("search", query=str(query), limit=min(int(limit), 1 << 30)), detail)


# Resources and prompts. Each exists twice: what differs is who waits.


def request(server, method, params):
    i = usable(find(server))
    return dict(server=i["name"], method=method, params={k: v for k, v in params.items() if v is not None})


def pages(server, method, key):
    """A coroutine without a loop: yields requests, gets their answers."""
    out, cursor = [], None
    for _ in range(1000):
        page = yield request(server, method, {"cursor": cursor})
        if isinstance(page, dict):
            out += dict.get(page, key) if isinstance(dict.get(page, key), list) else []
        cursor = dict.get(page, "nextCursor") if isinstance(page, dict) else None
        if not cursor:
            return out
    raise MCPError("the server has more than 1000 pages of %s" % key, info_of(find(server))["name"])


def reading(server, uri):
    answer = yield request(server, "resources/read", {"uri": uri})
    parts = dict.get(answer, "contents") if isinstance(answer, dict) else None
    values = []
    for part in parts if isinstance(parts, list) else []:
        media = Media({"type": "resource", "resource": part})
        text = part.get("text") if isinstance(part, dict) else None
        values.append(wrap(text, Record(content=[media])) if isinstance(text, str) else media)
    return values[0] if len(values) == 1 else values


def prompting(server, name, arguments=None):
    return (yield request(server, "prompts/get", {"name": name, "arguments": arguments}))


def drive_sync(steps):
    answer = None
    while True:
        try:
            wanted = steps.send(answer)
        except StopIteration as e:
            return e.value
        answer = bridge_sync("request", **wanted)


async def drive(steps):
    answer = None
    while True:
        try:
            wanted = steps.send(answer)
        except StopIteration as e:
            return e.value
        answer = await bridge("request", **wanted)


def twice(name, steps, what):
    """The asynchronous and the synchronous form of a function."""

    async def form(*args, **kwargs):
        return await drive(steps(*args, **kwargs))

    def form_sync(*args, **kwargs):
        return drive_sync(steps(*args, **kwargs))

    steps.__name__ = steps.__qualname__ = name  # in what Python says of wrong arguments
    for f, n in ((form, name), (form_sync, name + "_sync")):
        f.__name__ = f.__qualname__ = n
        f.__doc__, f.__wrapped__ = what, steps
    return form, form_sync


list_resources, list_resources_sync = twice(
    "list_resources", lambda server: pages(server, "resources/list", "resources"), "The resources of a server."
)
list_resource_templates, list_resource_templates_sync = twice(
    "list_resource_templates",
    lambda server: pages(server, "resources/templates/list", "resourceTemplates"),
    "The resource templates of a server.",
)
read_resource, read_resource_sync = twice("read_resource", reading, "A resource: its text, or a Media; of several parts a list.")
list_prompts, list_prompts_sync = twice(
    "list_prompts", lambda server: pages(server, "prompts/list", "prompts"), "The prompts of a server."
)
get_prompt, get_prompt_sync = twice("get_prompt", prompting, "A prompt with its arguments filled in: its description and messages.")


def stubs(server):
    """A .pyi of a server's tools, with the types of their arguments and results."""
    return bridge_sync("stubs", server=usable(find(server))["name"])


def display(*values):
    """Add images, sounds and resources to what the run returns, in this order; other values are printed."""
    for value in values:
        media = media_of(value) or picture_in(value)
        for m in media:
            bridge_sync("display", content=dict(m))
        if not media:
            print(value)


def picture_in(path):
    """The picture or sound in the file of that name, if there is one."""
    name = path.__fspath__() if hasattr(path, "__fspath__") else path
    if not isinstance(name, str) or not name.lower().endswith((".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".wav", ".mp3")):
        return []
    try:
        with io.open(name, "rb") as f:
            return [Media(f.read())]
    except (ValueError, OSError):
        return []


def media_of(value):
    if isinstance(value, Media):
        return [value]
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, Media) for v in value):
        return list(value)
    message = envelope(value)
    return extra(value, "media") if message is not None else []


def show_media(encoder, value):
    """A Media in the script's value: shown as content, with a note in its place."""
    try:
        display(value)
        encoder.text("%r, see content" % value)
    except Exception as e:
        encoder.text("%r, not shown: %s" % (value, e))
    return True


def show_result(encoder, value):
    """A result in the script's value: its data, and its images as content."""
    mine = isinstance(value, list) and any(isinstance(v, Media) for v in value)  # they are shown as its items
    for m in () if mine else media_of(value):
        if isinstance(value, str) and m._part("text") == value:
            continue  # the text of a resource is the value itself
        try:
            display(m)
        except Exception:
            pass  # the host says when it leaves something out
    return False


def capability_summary():
    """What a script can do here, in one paragraph."""
    return (
        "An isolated Python without network; files only in /tmp and /workspace, gone after the run. %d MCP servers: %s. "
        'Call a tool with await mcp_<alias>.<tool>(argument=...), mcp_servers["name"]["tool"](...), or '
        'await runtime.call_tool("server", "tool", {...}); asyncio.gather runs calls in parallel. '
        "runtime.search_tool_docs_sync(query) finds tools, runtime.query_tool_docs_sync(server) shows them, "
        "runtime.stubs(server) has their types." % (len(known()), some(known()))
    )


# --- saved tools -------------------------------------------------------------------------------------------------------

saved = None  # name -> source


def save_tool(func):
    """Keep a function for later runs, which find it in user_tools. Also a decorator. What it needs it must import itself."""
    global saved
    import inspect
    import textwrap
    import types

    if not isinstance(func, types.FunctionType) or func.__name__ == "<lambda>":
        raise TypeError("save_tool takes a function made with def, not %s" % type(func).__name__)
    try:
        if func.__code__.co_filename[:1] == "<":
            raise OSError
        source = textwrap.dedent(inspect.getsource(func))
    except (OSError, TypeError):
        raise ValueError("the source of %s() is not known; only functions of the script can be saved" % func.__name__) from None
    lines = source.split("\n")
    while lines and lines[0].startswith("@") and "save_tool" in lines[0]:
        lines.pop(0)
    source = "\n".join(lines)
    name = one_function(source)
    if func.__closure__:
        raise ValueError("%s() uses %s of the function around it" % (name, some(func.__code__.co_freevars)))
    builtins = sys.modules["builtins"]
    used, kept = globals_of(compile(source, "", "exec", 0, True))
    own = [n for n in used - kept if not ours(n) and not hasattr(builtins, n) and n[:2] != "__"]
    if own:
        raise ValueError("%s() uses %s of the script; import or define that inside of it" % (name, some(sorted(own))))
    bridge_sync("save_tool", name=name, source=source)
    saved = None
    return func


def one_function(source):
    import ast

    body = ast.parse(source).body
    if len(body) != 1 or not isinstance(body[0], (ast.FunctionDef, ast.AsyncFunctionDef)):
        raise ValueError("the source is not one function")
    return body[0].name


def globals_of(code):
    """The global names that code uses, and those that it makes itself."""
    import dis

    used, made = set(), set()
    for i in dis.get_instructions(code):
        if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            used.add(i.argval)
        elif i.opname in ("STORE_GLOBAL", "STORE_NAME"):
            made.add(i.argval)
    for c in code.co_consts:
        if type(c) is type(code):
            more_used, more_made = globals_of(c)
            used |= more_used
            made |= more_made
    return used, made


def ours(name):
    return name in names_for_scripts() or name == "runtime"


def user_tools_getattr(name):
    global saved
    if name[:2] == "__" and name != "__all__":
        raise AttributeError(name)
    if saved is None:
        saved = bridge_sync("user_tools")
    if name == "__all__":
        return list(saved)
    if name not in saved:
        raise MissingError("there is no saved tool %r; there are %s" % (name, some(saved)), None, name)
    module, file = modules["user_tools"], "user_tools/%s.py" % name
    if one_function(saved[name]) != name:
        raise ValueError("the saved tool %r is damaged" % name)
    names = {"__name__": "user_tools", "__builtins__": sys.modules["builtins"], "runtime": modules["mcp.runtime"]}
    names.update(names_for_scripts())
    if "linecache" in sys.modules:
        source = saved[name]
        sys.modules["linecache"].cache[file] = len(source), None, source.splitlines(True), file
    exec(compile(saved[name], file, "exec", 0, True), names)
    setattr(module, name, names[name])
    return names[name]


# --- modules and names -------------------------------------------------------------------------------------------------


def names_for_scripts():
    """What a script has without importing it."""
    names = {"mcp_" + info_of(s)["alias"]: s for s in known().values()}
    names.update(mcp_servers=mcp_servers, user_tools=modules["user_tools"], LOADED_MCP_SERVERS=loaded())
    return names


def loaded():
    return tuple(n for n, s in known().items() if info_of(s).get("loaded") and not info_of(s).get("unavailable"))


class Ours:
    """The loader of our modules."""

    def create_module(self, spec):
        return modules[spec.name]

    def exec_module(self, module):
        pass


def find_module(name):
    """The spec of one of our modules; None if it is none."""
    package, _, last = name.rpartition(".")
    if name[:4] == "mcp_" and name[4:] in (info_of(s)["alias"] for s in known().values()):
        make_server_module(name, find(name[4:]))
    if name not in modules and package in modules:
        # "from package import name" comes here too, when the package has no such name. Python would pass over an error
        # that bears the module's own name, and say "unknown location" instead of what there is.
        try:
            server = attribute(modules[package], last)
        except MissingError as e:
            raise ModuleNotFoundError(str(e), name=package) from None
        except AttributeError:
            there = [n for n in dir(modules[package]) if n[:1] != "_"]
            raise ModuleNotFoundError("%s has no %r%s" % (package, last, instead(last, there)), name=package) from None
        if package == "mcp.servers":
            make_server_module(name, server)
    if name not in modules:
        return None
    return type(sys.__spec__)(name, Ours(), is_package=hasattr(modules[name], "__path__"))


def make_server_module(name, server):
    m = modules[name] = type(sys)(name, repr(server))
    m.__getattr__, m.__dir__, m.__path__ = lambda n: module_getattr(server, n), lambda: dir_of(server), []


def attribute(module, name):
    """getattr that resolves no lazy import (PEP 810), because that may be what asks."""
    own = vars(module)
    return own[name] if name in own else own.get("__getattr__", absent)(name)


def package_getattr(name):
    """What is looked for in mcp itself: what scripts have without import, a server, or something of mcp.runtime."""
    runtime, names = vars(modules["mcp.runtime"]), names_for_scripts()
    if name in names:
        return names[name]
    if name in runtime["__all__"]:
        return runtime[name]
    return find(name) if name in mcp_servers else absent(name)


def module_getattr(server, name):
    if name == "__all__":  # a tool called print would take the script's output along
        builtins = sys.modules["builtins"].__dict__
        return [alias for alias in dir_of(server) if alias not in builtins]
    if name[:2] == "__":
        raise AttributeError(name)
    return function(server, name)


def dir_of(server):
    return [t["alias"] for t in tools_of(server)]


def make_modules():
    make = type(sys)
    package, servers = make("mcp", "MCP servers for scripts."), make("mcp.servers", "A module for each MCP server.")
    runtime, user = make("mcp.runtime", "Access to the tools of MCP servers."), make("user_tools", "Saved functions.")
    for module in (package, servers, runtime, user):
        module.__path__ = []  # so that each is asked what it has instead of a name that it has not
    package.runtime, package.servers = runtime, servers
    runtime.mcp_servers, package.__getattr__ = mcp_servers, package_getattr
    for thing in PUBLIC:
        thing.__module__ = "mcp.runtime"
        setattr(runtime, thing.__name__, thing)
    runtime.__all__ = [t.__name__ for t in PUBLIC] + ["LOADED_MCP_SERVERS", "mcp_servers"]
    servers.__getattr__ = lambda n: find(n) if n[:1] != "_" else absent(n)
    servers.__dir__ = lambda: dir(mcp_servers)
    user.__getattr__, user.__dir__ = user_tools_getattr, lambda: user_tools_getattr("__all__")
    modules.update({"mcp": package, "mcp.runtime": runtime, "mcp.servers": servers, "user_tools": user})
    for cls in (Text, Opened, Items, Integer, Number, Data, Media):
        shown[cls] = show_media if cls is Media else show_result
    for cls in (Text, Opened, Items, Integer, Number, Data, Record, Blocks, Server, Servers):
        cls.__module__ = "mcp.runtime"


def absent(name):
    raise AttributeError(name)


AWAY = '''\
import sys

class Away:
    def find_spec(self, name, path=None, target=None):
        if name in ("mcp.runtime", "mcp.servers", "mcp.user_tools") or name.rpartition(".")[0] == "mcp.servers":
            return type(__spec__)(name, self, is_package=True)

    def create_module(self, spec):
        pass

    def exec_module(self, module):
        def find(name):
            if name[:2] == "__":
                raise AttributeError(name)
            return away

        module.__getattr__, module.__all__ = find, []

def away(*args, **kwargs):
    raise RuntimeError("MCP tools can be called only from the main process, not from one that multiprocessing has started")

sys.meta_path.append(Away())
'''


def leave_library():
    """What processes of multiprocessing import, which run the script's file again, but cannot call."""
    directory = "%s/.mcp-library-%d" % (posix.environ.get(b"TMPDIR", b"/tmp").decode(), posix.getpid())
    posix.mkdir(directory, 0o755)
    posix.mkdir(directory + "/mcp", 0o755)
    user = "import sys, mcp.user_tools\nsys.modules[__name__] = mcp.user_tools\n"
    for name, text in (("mcp/__init__.py", AWAY), ("user_tools.py", user)):
        with io.open("%s/%s" % (directory, name), "w") as f:
            f.write(text)
    sys.path.append(directory)


PUBLIC = (
    MCPError, MissingError, ArgumentError, Media, raw, call_tool, call_tool_sync, discovered_servers, list_servers,
    list_servers_sync, list_tools, list_tools_sync, describe_server, list_loaded_server_metadata, query_tool_docs,
    query_tool_docs_sync, search_tool_docs, search_tool_docs_sync, capability_summary, list_resources,
    list_resources_sync, list_resource_templates, list_resource_templates_sync, read_resource, read_resource_sync,
    list_prompts, list_prompts_sync, get_prompt, get_prompt_sync, stubs, display, save_tool,
)  # fmt: skip
