# --- modules that are imported when they are used ---------------------------------------------------------------------

LAZY = "inspect", "ssl", "asyncio.sslproto"  # which asyncio imports, and few scripts use: 6 MB and 10 ms
AT_HAND = "__spec__", "__name__", "__file__", "__package__", "__loader__"  # what a module has before its code has run
using, under_way = _thread.RLock(), set()


class LazyModule(type(sys)):
    """A module whose code runs when it is used. Nothing else tells it from one that has been imported."""

    def __getattribute__(self, name):
        if name not in AT_HAND:
            import_now(self)
        return type(sys).__getattribute__(self, name)

    def __setattr__(self, name, value):
        import_now(self)
        type(sys).__setattr__(self, name, value)

    def __delattr__(self, name):
        import_now(self)
        type(sys).__delattr__(self, name)


def import_now(module):
    with using:  # a second thread waits until all of it is there
        name = module.__name__
        if type(module) is LazyModule and name not in under_way:
            under_way.add(name)
            try:
                module.__spec__.loader.exec_module(module)
                module.__class__ = type(sys)
            finally:
                under_way.discard(name)


class LazyLoader:
    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        pass

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self.loader
        module.__class__ = LazyModule


def lazy_spec(finder, name, path):
    """How to import one of them while asyncio is being imported; None for all others, and if it is not there."""
    asyncio = getattr(sys.modules.get("asyncio"), "__spec__", None)
    if name in LAZY and getattr(asyncio, "_initializing", False) and (name != "ssl" or spec_of(finder, "_ssl")):
        spec = spec_of(finder, name, path)
        if spec:
            spec.loader = LazyLoader(spec.loader)
        return spec


def spec_of(besides, name, path=None):
    for finder in list(sys.meta_path):
        spec = finder is not besides and finder.find_spec(name, path, None)
        if spec:
            return spec


