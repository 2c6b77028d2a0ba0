# --- warming -----------------------------------------------------------------------------------------------------------
# What a runner does ahead when the host asks for it. No script shall notice: a module that was imported ahead is kept out of
# sys.modules until it is imported, and then brings along what it imports itself. What can be seen are three descriptors, with
# asyncio, just below the runner's own.

# From a module's name to those of what its import imported, but for what one puts into sys.modules itself.
needs = {"importlib": {"importlib._bootstrap", "importlib._bootstrap_external"}}
brings = {}  # from a module's name to what comes with it
imports = vars(sys.modules["builtins"])["__import__"]


def record(name, globals=None, locals=None, fromlist=(), level=0):
    """__import__ while modules are imported ahead. What it imports belongs to the module that is being imported."""
    module = imports(name, globals, locals, fromlist, level)
    if level:
        package = globals.get("__package__") or globals["__spec__"].parent
        for _ in range(level - 1):
            package = package.rpartition(".")[0]
        name = "%s.%s" % (package, name) if name else package
    frame = sys._getframe(1)
    while frame and not getattr(frame.f_globals.get("__spec__"), "_initializing", False):
        frame = frame.f_back
    if frame:
        found = needs.setdefault(frame.f_globals["__name__"], set())
        found.add(name)
        found.update(part for part in ("%s.%s" % (name, f) for f in fromlist or ()) if part in sys.modules)
    return module


def closure(names):
    """These modules, what contains them, and what all those import."""
    todo, found = list(names), set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += needs.get(name, ())
            if "." in name:
                todo.append(name.rpartition(".")[0])
    return found


def ordered(name):
    return sorted(closure([name]))  # what contains others comes before them


def keep(before, visible):
    """Take what was imported since out of sys.modules, but for what shall be visible."""
    for name, module in sys.modules.items():
        if not getattr(module, "__spec__", None):
            needs.setdefault(name.rpartition(".")[0], set()).add(name)  # such as pyexpat.errors, which pyexpat makes
    for name in set(sys.modules) - before - closure(visible):
        kept[name] = sys.modules.pop(name)
    for name, module in kept.items():
        package, _, child = name.rpartition(".")
        if package in kept and vars(kept[package]).get(child) is module and name not in closure([package]):
            delattr(kept[package], child)  # which it has by an import of the child


def find_kept(besides, name, path):
    """The spec of a module that was imported ahead, if that is what an import would still find."""
    module = sys.modules.get(name) if name in given else kept[name]  # another thread may just have been given it
    own = getattr(module, "__spec__", None)
    if own and ways(besides) == usual and (path or not shadowed(name)):
        spec = type(own)(name, None)
        vars(spec).update(vars(own))
    else:
        spec = spec_of(besides, name, path)
        if not spec or not own or spec.origin != own.origin:
            return spec
    spec.loader = Giver(module, spec.loader)
    return spec


def ways(besides):
    """What decides what an import finds, but for the files."""
    return [f for f in sys.meta_path if f is not besides], sys.path[:], sys.path_hooks[:]


def shadowed(name):
    """Whether the script's directory may have a module of that name. To ask the finders takes ten times as long."""
    try:
        return any(n.partition(".")[0] == name for n in posix.listdir(sys.path[0]))
    except OSError:
        return False


class Giver:
    """Loads a module that was imported ahead."""

    def __init__(self, module, loader):
        self.module, self.spec, self.loader = module, module.__spec__, loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.module

    def exec_module(self, module):
        name, module.__spec__ = module.__spec__.name, self.spec
        for n in brings.get(name) or ordered(name):
            if n in kept and n not in given:
                given.add(n)
                if sys.modules.setdefault(n, kept[n]) is kept[n]:
                    give(n, kept[n])


def give(name, module):
    package, _, child = name.rpartition(".")
    if package in sys.modules:
        setattr(sys.modules[package], child, module)
    if name == "logging":
        import time

        module._startTime = time.time_ns() if type(module._startTime) is int else time.time()
    elif name == "zoneinfo":
        module.reset_tzpath()  # an environment variable may say another one now


async def nothing():
    pass


def high(make):
    """What make opens gets the descriptors below ours, because the script's own should be what they always are."""
    taken = []
    try:
        while not taken or taken[-1] < FRAMES_IN - 5:
            taken.append(posix.dup(1))
        return make()
    finally:
        for fd in taken:
            posix.close(fd)


def warm(message):
    """Import what the script is likely to, "mcp" being our own library, and do once what a run does."""
    global frozen, usual
    before, builtins = set(sys.modules), vars(sys.modules["builtins"])
    wishes = loads(message)
    wanted, chosen = wishes["modules"], wishes["preload"]
    builtins["__import__"] = record
    finders = sys.meta_path[:]
    # Without the last one, which a module that is missing here would make read .pth files.
    sys.meta_path[:] = [f for f in finders if type(f) is not SitePackages]
    for name in wanted:
        try:
            if name != "mcp":
                record(name)
        except Exception:
            pass  # there are Pythons without it, or without what it needs
    sys.meta_path[:] = finders
    ahead = set(sys.modules)
    failed = preload(chosen) if chosen else []
    builtins["__import__"] = imports
    visible = set(sys.modules) - ahead | set(chosen)
    run(compile_script("def f(x):\n    return [x]\nf(1)", "<runner>"), {})
    load(RESULTS, LONE)
    encode_result({"a": [1]})
    if "asyncio" in sys.modules:
        warm_loop()
    if "mcp" in wanted:
        warm_library()
    decode_run('{"type":"run","code":"\\n","filename":"x"}')
    keep(before, visible)
    usual = ways(None)
    brings.update((name, ordered(name)) for name in wanted if name in kept)
    sys.path_importer_cache.pop(sys.path[0], None)  # it is the script's, and may change within a tick of its clock
    frozen = len(sys.modules)
    gc.collect()
    gc.freeze()
    send('{"type":"warm"%s}' % (',"failed":[%s]' % ",".join(map(quote, failed)) if failed else ""))


def preload(names):
    """Import what the user has chosen, of which nothing is known: it may print, and fail in any way. Those that failed."""
    null, kept, failed = posix.open("/dev/null", posix.O_WRONLY), (posix.dup(1), posix.dup(2)), []
    for fd in 1, 2:
        posix.dup2(null, fd)
    for name in names:
        try:
            record(name)
        except BaseException:
            failed.append(name)
    for fd in 1, 2:
        posix.dup2(kept[fd - 1], fd)
        posix.close(kept[fd - 1])
    posix.close(null)
    return failed


def warm_loop():
    """asyncio.run would leave its traces in the policy, after which get_event_loop makes no loop any more."""
    global spare
    import asyncio

    loop = asyncio.new_event_loop()
    loop.run_until_complete(loop.create_task(nothing(), name="warm"))  # a name, so that the script's first is Task-1
    loop.close()
    if hasattr(asyncio, "Runner"):
        spare = high(asyncio.new_event_loop)


def warm_library():
    global lone
    load(LIBRARY)
    make_modules()
    lone = "inspect" not in sys.modules  # which it would import for the tool's signature
    param = {"name": "x", "alias": "x", "type": "str", "required": True}
    tool = {"name": "x", "alias": "x", "params": [param], "returns": "Any", "description": ""}
    function(Server({"name": "x", "alias": "x", "tools": [tool]}), "x")
    lone = False
    encode_arguments("x", "x", bind(None, tool, ("x",), {}))
    str(finish_call(RETURN + '1,"value":{"content":[{"type":"text","text":"x"}]}}', "x", "x"))
