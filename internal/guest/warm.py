# --- warming -----------------------------------------------------------------------------------------------------------
# What a runner does ahead when the host asks for it. No script shall notice, but by what is in sys.modules
# and, with asyncio, by three descriptors just below the runner's own.

HEAVY = "ssl", "asyncio.sslproto"  # which asyncio imports, and no script without a network uses: 4 MB and 5 ms


class Heavy(type(sys)):
    """A module that is imported when an attribute is asked for."""

    def __getattr__(self, name):
        self.__class__ = type(sys)
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)

    def __dir__(self):
        Heavy.__getattr__(self, "__name__")
        return dir(self)


class HeavyLoader:
    """Finds the heavy ones and puts them off."""

    def __init__(self, loader=None):
        self.loader = loader

    def find_spec(self, name, path=None, target=None):
        spec = name in HEAVY and spec_of(self, name, path)
        if spec:
            spec.loader = HeavyLoader(spec.loader)
            return spec

    def create_module(self, spec):
        pass

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self.loader
        module.__class__ = Heavy


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


def warm(wanted, chosen):
    """Import what the script is likely to, "mcp" being our own library, and do once what a run does."""
    global frozen
    finders = sys.meta_path[:]
    # Without the last one, which a module that is missing here would make read .pth files.
    sys.meta_path[:] = [f for f in finders if type(f) is not SitePackages]
    if "asyncio" in wanted and spec_of(None, "_ssl"):
        sys.meta_path.insert(0, HeavyLoader())
    for name in wanted:
        try:
            if name != "mcp":
                __import__(name)
        except ImportError:
            pass  # there are Pythons without it
    sys.meta_path[:] = finders
    failed = preload(chosen) if chosen else []
    run(compile_script("def f(x):\n    return [x]\nf(1)", "<runner>"), {})
    load(RESULTS)
    encode_result({"a": [1]})
    if "asyncio" in sys.modules:
        warm_loop()
    if "mcp" in wanted:
        warm_library()
    decode_run('{"type":"run","code":"\\n","filename":"x"}')
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
