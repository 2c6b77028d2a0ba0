# --- warming -----------------------------------------------------------------------------------------------------------
# What a runner does ahead when the host asks for it. No script shall notice: a module that was imported ahead is kept out of
# sys.modules until it is imported, and then brings along what it imports itself. What can be seen are three descriptors, with
# asyncio, just below the runner's own.

# From a module's name to those of what its import imported, but for what is not imported by an import statement.
needs = {"importlib": {"importlib._bootstrap", "importlib._bootstrap_external"}}
brings = {}  # from a module's name to what comes with it, likewise
builtins = sys.modules["builtins"]
PathFinder = sys.modules["_frozen_importlib_external"].PathFinder


def record(name, globals=None, locals=None, fromlist=(), level=0):
    """__import__ while modules are imported ahead. What it imports belongs to the module that is being imported."""
    module = __import__(name, globals, locals, fromlist, level)  # ours, which stays what it was
    if level:
        package = globals.get("__package__") or globals["__spec__"].parent
        for _ in range(level - 1):
            package = package.rpartition(".")[0]
        name = "%s.%s" % (package, name) if name else package
    frame = sys._getframe(1)
    while frame and frame.f_code.co_name != "_load_unlocked":  # importlib's; modules in C have no frame of their own
        frame = frame.f_back
    if frame:
        found = needs.setdefault(frame.f_locals["spec"].name, set())
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
        holder = package_of(name)
        if holder and vars(holder).get(child) is module and name not in closure(package):
            delattr(holder, child)  # which it has by an import of the child


def package_of(name):
    """The module that contains the module, whether it is out of sight or not."""
    package = name.rpartition(".")[0]
    return kept.get(package) or sys.modules.get(package)


def has_file(name):
    path = getattr(package_of(name), "__path__", None)
    return path and PathFinder.find_spec(name, path)


def find_kept(besides, name):
    """The spec of a module that was imported ahead, if importing it now would come to the same. If in doubt, it is imported.

    It would not if the script had a module of that name, or of one of those that come with it, in its directory or in
    sys.modules, or had changed where modules come from, or if one of the finders that the user's modules have brought knows
    it. Nor is anything given while another thread may import it.
    """
    if sys._getframe(3).f_code.co_name != "_find_and_load_unlocked":  # who asks does not import it
        return None
    own = getattr(kept[name], "__spec__", None)
    if name in given or not own or own.name != name or _thread._count() or ways(besides) != usual:
        return None
    try:
        files = {n.partition(".")[0] for n in posix.listdir(directory)}
    except OSError:
        files = ()
    comes = brings.get(name) or closure(name)
    for n in comes:
        new = n in kept and n not in given
        if new and n in sys.modules or n.partition(".")[0] in files:
            return None
        if not new and sys.modules.get(n, there) is not (kept.get(n) or there.get(n, there)):
            return None
        if new and any(knows(find, n) for find in asked):
            return None
    spec = type(own)(name, None)
    vars(spec).update(vars(own))
    spec.loader = Giver(kept[name], comes)
    return spec


def knows(find, name):
    try:
        return find(name, getattr(package_of(name), "__path__", None), None)
    except BaseException:
        return True  # it will say so again when it is asked by the import


def ways(besides):
    """What decides what an import finds, but for the files."""
    lazy = [getattr(sys, n)() for n in ("get_lazy_imports", "get_lazy_imports_filter") if hasattr(sys, n)]
    return [f for f in sys.meta_path if f is not besides], sys.path[:], sys.path_hooks[:], builtins.__import__, lazy


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
    global frozen, usual, there, asked
    before, finders, lazy = set(sys.modules), sys.meta_path[:], set(getattr(sys, "lazy_modules", ()))
    wishes = loads(message)
    failed, wanted = preload(wishes["preload"]) if wishes["preload"] else [], wishes["modules"]
    before.update(n for n in sys.modules if n != "_json" or "json" in sys.modules)  # it was loads that imported _json
    asked = foreign(finders)
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
    if hasattr(sys, "lazy_modules"):
        sys.lazy_modules.intersection_update(lazy)
    usual, there = None if asked is None else ways(None), dict(sys.modules)
    brings.update((name, closure(name)) for name in wanted if name in kept)
    sys.path_importer_cache.pop(directory, None)  # it is the script's, and may change within a tick of its clock
    frozen = len(sys.modules)
    gc.collect()
    gc.freeze()
    send('{"type":"warm"%s}' % (',"failed":[%s]' % ",".join(map(quote, failed)) if failed else ""))


def foreign(ours):
    """What the user's modules have brought to find modules before ours do, and may know one of them; None if ours have changed."""
    if [f for f in sys.meta_path if f in ours] != ours:
        return None
    before = sys.meta_path[: sys.meta_path.index(PathFinder)]
    return [f.find_spec for f in before if f not in ours and hasattr(f, "find_spec")]


def import_ahead(names):
    if sys.version_info >= (3, 16):  # which no test has seen; it may keep its modules in other ways than are known here
        return
    finders, was = sys.meta_path[:], builtins.__import__
    builtins.__import__ = record
    # Without the last one, which a module that is missing here would make read .pth files.
    sys.meta_path[:] = [f for f in finders if type(f) is not SitePackages]
    for name in names:
        try:
            if name != "mcp":
                __import__(name)
        except Exception:
            pass  # there are Pythons without it, or without what it needs
    sys.meta_path[:] = finders
    builtins.__import__ = was


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
    for name in [n for n in sys.modules if n.partition(".")[0] in OURS]:
        del sys.modules[name]
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
    poll((FRAMES_OUT, 4))
    str(finish_call(RETURN + '1,"value":{"content":[{"type":"text","text":"x"}]}}', "x", "x"))
