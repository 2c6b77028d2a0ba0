# --- warming -----------------------------------------------------------------------------------------------------------
# What a runner does ahead when the host asks for it. No script shall notice: a module that was imported ahead is kept out of
# sys.modules until it is imported, and then brings along what it imports itself. What can be seen are three descriptors, with
# asyncio, just below the runner's own.

# From a module's name to those of what its import imported, but for what is not imported by an import statement.
needs = {"importlib": {"importlib._bootstrap", "importlib._bootstrap_external"}}
if sys.version_info >= (3, 10):
    needs["array"] = {"collections.abc"}  # in C
brings = {}  # from a module's name to what comes with it, likewise


def record(name, globals=None, locals=None, fromlist=(), level=0):
    """__import__ while modules are imported ahead. What it imports belongs to the module that is being imported."""
    module = __import__(name, globals, locals, fromlist, level)  # ours, which stays what it was
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


def closure(name):
    """The module, what contains it, and what those import; what contains others comes before them."""
    todo, found = [name], set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += needs.get(name, ())
            if "." in name:
                todo.append(name.rpartition(".")[0])
    return sorted(found)


def keep(before):
    """Take what was imported since out of sys.modules."""
    for name in set(sys.modules) - before:
        kept[name] = module = sys.modules.pop(name)
        own = getattr(getattr(module, "__spec__", None), "name", None)
        if own != name and not has_file(name):
            # Its package makes it: pyexpat.errors, and since 3.14 collections.abc, which is _collections_abc.
            needs.setdefault(name.rpartition(".")[0], set()).update((name, own or name))
    for name, module in kept.items():
        package, _, child = name.rpartition(".")
        if package in kept and vars(kept[package]).get(child) is module and name not in closure(package):
            delattr(kept[package], child)  # which it has by an import of the child


def has_file(name):
    package = name.rpartition(".")[0]
    path = getattr(kept.get(package) or sys.modules.get(package), "__path__", None)
    return path and sys.modules["_frozen_importlib_external"].PathFinder.find_spec(name, path)


def find_kept(besides, name):
    """The spec of a module that was imported ahead, if importing it now would come to the same. If in doubt, it is imported.

    It would not if the script had a module of that name, or of one of those that come with it, in its directory or in
    sys.modules, or had changed where modules come from. Nor is anything given while another thread may import it.
    """
    if sys._getframe(3).f_code.co_name != "_find_and_load_unlocked":  # who asks does not import it
        return None
    own, package = getattr(kept[name], "__spec__", None), name.rpartition(".")[0]
    if name in given or not own or own.name != name or _thread._count() or ways(besides) != usual:
        return None
    if package and sys.modules.get(package) is not kept.get(package):
        return None
    try:
        files = {n.partition(".")[0] for n in posix.listdir(sys.path[0])}
    except OSError:
        files = ()
    comes = brings.get(name) or closure(name)
    for n in comes:
        if n in kept and n not in given and n in sys.modules or n.partition(".")[0] in files:
            return None
    spec = type(own)(name, None)
    vars(spec).update(vars(own))
    spec.loader = Giver(kept[name], comes)
    return spec


def ways(besides):
    """What decides what an import finds, but for the files."""
    return [f for f in sys.meta_path if f is not besides], sys.path[:], sys.path_hooks[:]


class Giver:
    """Loads a module that was imported ahead."""

    def __init__(self, module, comes):
        self.module, self.spec, self.comes = module, module.__spec__, comes

    def create_module(self, spec):
        return self.module

    def exec_module(self, module):
        module.__spec__ = self.spec
        for n in self.comes:
            if n in kept and n not in given:
                given.add(n)
                sys.modules[n] = kept[n]
                give(n, kept[n])


def give(name, module):
    package, _, child = name.rpartition(".")
    if package in sys.modules:
        setattr(sys.modules[package], child, module)
    if name == "logging":
        import atexit
        import time

        module._startTime = time.time_ns() if type(module._startTime) is int else time.time()
        atexit.unregister(module.shutdown)
        atexit.register(module.shutdown)
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
    before = set(sys.modules)
    wishes = loads(message)
    failed, wanted = preload(wishes["preload"]) if wishes["preload"] else [], wishes["modules"]
    before.update(set(sys.modules) - {"_json"})  # which loads has imported
    import_ahead(wanted)
    run(compile_script("def f(x):\n    return [x]\nf(1)", "<runner>"), {})
    load(RESULTS, LONE)
    encode_result({"a": [1]})
    if "asyncio" in sys.modules:
        warm_loop()
    if "mcp" in wanted:
        warm_library()
    decode_run('{"type":"run","code":"\\n","filename":"x"}')
    keep(before)
    usual = ways(None)
    brings.update((name, closure(name)) for name in wanted if name in kept)
    sys.path_importer_cache.pop(sys.path[0], None)  # it is the script's, and may change within a tick of its clock
    frozen = len(sys.modules)
    gc.collect()
    gc.freeze()
    send('{"type":"warm"%s}' % (',"failed":[%s]' % ",".join(map(quote, failed)) if failed else ""))


def import_ahead(names):
    if sys.version_info >= (3, 16):  # which no test has seen; it may keep its modules in other ways than are known here
        return
    builtins, finders = vars(sys.modules["builtins"]), sys.meta_path[:]
    was, builtins["__import__"] = builtins["__import__"], record
    # Without the last one, which a module that is missing here would make read .pth files.
    sys.meta_path[:] = [f for f in finders if type(f) is not SitePackages]
    for name in names:
        try:
            if name != "mcp":
                __import__(name)
        except Exception:
            pass  # there are Pythons without it, or without what it needs
    sys.meta_path[:] = finders
    builtins["__import__"] = was


def preload(names):
    """Import what the user has chosen, of which nothing is known: it may print, and fail in any way. Those that failed."""
    null, kept, failed = posix.open("/dev/null", posix.O_WRONLY), (posix.dup(1), posix.dup(2)), []
    for fd in 1, 2:
        posix.dup2(null, fd)
    for name in names:
        try:
            __import__(name)
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
