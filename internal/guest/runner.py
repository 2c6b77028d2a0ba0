# --- what `python script.py` would have -------------------------------------------------------------------------------


class Loader:
    """__loader__ of __main__: through it linecache, and so traceback and inspect, find the source when they ask."""

    def __init__(self, source):
        self.source = source

    def get_source(self, name):
        return self.source


class Late:
    """exit, quit, help, copyright, credits and license, without importing site."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        if self.name in ("exit", "quit"):
            return "Use %s() or Ctrl-D (i.e. EOF) to exit" % self.name
        if self.name == "copyright":
            return sys.copyright
        return "Type %s() for more information." % self.name

    def __call__(self, *args, **kwargs):
        if self.name in ("exit", "quit"):
            raise SystemExit(*args[:1], *kwargs.values())
        if self.name == "help":
            if args and hasattr(type(args[0]), "__mcp_help__"):
                return args[0].__mcp_help__()
            import pydoc

            return pydoc.help(*args, **kwargs)
        print(self if self.name == "copyright" else "See https://www.python.org/ for more information.")


class SitePackages:
    """Last of the finders: reads the .pth files, as site would have done, when a module is not found without them."""

    def __init__(self, dirs):
        self.dirs = dirs

    def find_spec(self, name, path=None, target=None):
        dirs, self.dirs = self.dirs, ()
        if not dirs:
            return None
        import site

        for d in dirs:
            site.addsitedir(d)
        return spec_of(self, name, path, target)


def spec_of(besides, name, path=None, target=None):
    """What the other finders know of a module."""
    for finder in list(sys.meta_path):
        find = finder is not besides and getattr(finder, "find_spec", None)  # which an old one lacks
        spec = find and find(name, path, target)
        if spec:
            return spec


OURS = "mcp", "user_tools"  # modules that are ours, whatever is installed
modules = {}  # ours, once the script has MCP
abandoned = set()  # ids of the tasks that the end of their loop has cancelled
# Modules that run the main file again, so it must exist. The last is there since 3.14.
AGAIN = "multiprocessing.popen_spawn_posix", "multiprocessing.popen_forkserver", "concurrent.interpreters"
NOTED = "site", *AGAIN

# A script with await at its top level, as a file that Python can run.
AWAITS = "(lambda s: __import__('asyncio').run(eval(compile(s, __file__, 'exec', %d, True), globals())))(%r)\n"


class Watch:
    """First of the finders: knows our modules, and notices imports that have to do with the script's source."""

    def __init__(self, name, source):
        self.name, self.source, self.awaits, self.changes = name, source, False, {}
        self.change("linecache", self.fill)

    def change(self, name, change):
        """Have a module of the library changed, now if it is there, or else when it is imported."""
        self.changes[name] = change
        for there in sys.modules, kept:
            if name in there:
                change(there[name])

    def find_spec(self, name, path=None, target=None):
        spec = name in kept and find_kept(self, name)
        if spec:
            return spec
        if name.partition(".")[0] in OURS:
            use_library()
            return find_module(name)
        if name[:4] == "mcp_" and "." not in name:
            use_library()
            return spec_of(self, name, path, target) or find_module(name)  # a file of the script's goes before
        change = self.changes.get(name)
        if (change or name in NOTED) and sys._getframe(2).f_code.co_name == "_find_and_load_unlocked":  # else it is only asked for
            if change:
                return self.around(name, path, target, lambda module, run: (run(module), change(module)))
            if name != "site":
                self.prepare(name)
            elif not sys.flags.no_site:
                return self.around(name, path, target, without_main)

    def prepare(self, name):
        if name != "concurrent.interpreters":
            self.write_file(getattr(sys.modules.get("multiprocessing.process"), "ORIGINAL_DIR", None))
        elif sys.version_info >= (3, 14):
            self.write_file(".")
            share_path()

    def fill(self, linecache):
        """Give the source to those too that ask by file name alone, such as warnings."""
        lines = [line + "\n" for line in self.source.split("\n")]
        linecache.cache[self.name] = len(self.source), None, lines, self.name

    def around(self, name, path, target, execute):
        """The spec of a module that execute runs, with what would have run it."""
        spec = spec_of(self, name, path, target)
        if hasattr(getattr(spec, "loader", None), "exec_module"):
            spec.loader = Around(spec.loader, execute)
        return spec

    def write_file(self, where):
        text = AWAITS % (AWAIT, self.source) if self.awaits else self.source
        try:
            fd = posix.open("%s/%s" % (where, self.name), posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL, 0o644)
            with io.open(fd, "w", encoding="utf-8", errors="backslashreplace") as f:
                f.write(text)
            if "mcp" in text or "user_tools" in text:  # then the library is here too
                leave_library()
        except (OSError, TypeError):
            pass


class Around:
    """A loader for one import, after which nothing is left of it."""

    def __init__(self, loader, execute):
        self.loader, self.execute = loader, execute

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.execute(module, self.loader.exec_module)


def without_main(module, run):
    """Import site without what it would do unless there is -S, which we have done, or do when it is needed."""
    flags = sys.flags
    sys.flags = flags.__replace__(no_site=1)
    try:
        run(module)
    finally:
        sys.flags = flags


def share_path():
    """Let interpreters that the script makes find what it finds; they inherit our -S."""
    try:
        import _interpreters

        create = _interpreters.create
    except (ImportError, AttributeError):
        return
    if type(create) is type(share_path):  # ours
        return

    def create_with_path(*args, **kwargs):
        interpreter = create(*args, **kwargs)
        text = "import sys\nsys.path[:] = %r\n" % [p for p in sys.path if type(p) is str]
        if not sys.flags.no_site:
            text += "sys.flags = sys.flags.__replace__(no_site=0)\n"
        _interpreters.exec(interpreter, text)
        return interpreter

    _interpreters.create = create_with_path


def extend_path():
    """Put the working directory first and, since -S leaves it to us, the directories of installed packages last."""
    global directory
    try:
        directory = posix.getcwd()
        sys.path.insert(0, directory)
    except OSError:
        directory = ""
    home = sys.executable.rpartition("/")[0]
    if sys.prefix == sys.base_prefix and any(exists(d + "/pyvenv.cfg") for d in (home, home.rpartition("/")[0])):
        import site  # a virtual environment, of which -S has kept Python (before 3.14) ignorant

        site.main()
        return
    version = "python%d.%d" % sys.version_info[:2]
    late = []
    for prefix in dict.fromkeys((sys.prefix, sys.exec_prefix)):
        for tail in dict.fromkeys(
            (
                "local/lib/%s/dist-packages" % version,  # Debian's three
                "lib/python3/dist-packages",
                "lib/%s/dist-packages" % version,
                "%s/%s/site-packages" % (sys.platlibdir, version),
                "lib/%s/site-packages" % version,
            )
        ):
            d = "%s/%s" % (prefix.rstrip("/"), tail)
            try:
                names = posix.listdir(d)
            except OSError:
                continue
            sys.path.append(d)
            if any(n.endswith((".pth", ".start")) for n in names):  # the latter since 3.15
                late.append(d)
    if late:
        sys.meta_path.append(SitePackages(late))


def exists(path):
    try:
        posix.stat(path)
        return True
    except OSError:
        return False


# --- compiling --------------------------------------------------------------------------------------------------------

AWAIT, ONLY_AST, COROUTINE = 0x2000, 0x400, 0x80  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, ast.PyCF_ONLY_AST, CO_COROUTINE


def learn_trees():
    """Get two types of trees without an import, which every script would wait for, and find in sys.modules.

    The first tree takes 2 ms, which are better spent while nobody waits.
    """
    global Expr, Expression
    Expr = type(compile("0", "", "exec", ONLY_AST).body[0])
    Expression = type(compile("0", "", "eval", ONLY_AST))


def compile_script(source, name):
    """The script as code objects, to be run in turn. The value of the last is the script's value."""

    def code(tree, mode="exec", flags=AWAIT):
        return compile(tree, name, mode, flags, True)

    if "\0" in source:  # on which the versions differ, and none says where
        line = source[: source.index("\0")].count("\n")
        text = source.split("\n")[line].replace("\0", "")
        raise SyntaxError("source code cannot contain null bytes", (name, line + 1, 0, text))
    try:
        tree = code(source, flags=AWAIT | ONLY_AST)
        body = tree.body
        if not body or type(body[-1]) is not Expr:
            return [code(tree)]
        value = Expression(body[-1].value)
        if len(body) > 1 or not isinstance(getattr(value.body, "value", None), str):  # a docstring stays one
            body.pop()
        return [code(tree), code(value, "eval")]
    except RecursionError:
        return [code(source)]  # the compiler itself goes deeper than a tree of objects does


async def run_async(codes, names):
    for c in codes:
        value = eval(c, names)
        if c.co_flags & COROUTINE:
            value = await value
    return value


spare = None  # an event loop, made while nobody waited


def run_loop(main):
    """asyncio.run, without the three turns of the loop at its end in which it ends nothing when there is nothing."""
    import asyncio

    if not hasattr(asyncio, "Runner"):  # before 3.11
        return asyncio.run(main)
    runner, nothing = asyncio.Runner(), False
    if isinstance(spare, asyncio.AbstractEventLoop):  # of this asyncio, and not of one that was not given
        take_spare(runner)
    try:
        value = runner.run(main)
        loop = runner.get_loop()
        nothing = not any(getattr(loop, n, True) for n in ("_asyncgens", "_default_executor", "_ready", "_scheduled"))
        nothing = nothing and not asyncio.all_tasks(loop)
        return value
    finally:
        if nothing:
            asyncio.set_event_loop(None)
            loop.close()
        else:
            runner.close()


def take_spare(runner):
    """Let it have the spare loop for its new one. Nothing of the script has run yet that could see this."""
    global spare
    events = sys.modules["asyncio.events"]
    new, events.new_event_loop = events.new_event_loop, lambda: spare
    try:
        runner.get_loop()
    finally:
        events.new_event_loop, spare = new, None


lone = False  # this script awaits, and does so without a loop


def run(codes, names):
    global lone
    if any(c.co_flags & COROUTINE for c in codes):
        load(LONE)
        lone = alone(source)
        return (run_alone if lone else run_loop)(run_async(codes, names))
    for c in codes:
        value = eval(c, names)
    return value


# --- errors -----------------------------------------------------------------------------------------------------------


def members_of(error):
    """The errors of a group of errors, of whatever kind; of another none."""
    try:
        members = getattr(error, "exceptions", ())
    except BaseException:  # a property of the script's own failed
        return []
    return [e for e in members if isinstance(e, BaseException)] if isinstance(members, (list, tuple)) else []


def strip(error, script):
    """Take the runner's frames, and asyncio's above the script, out of the tracebacks of an error and its causes."""
    todo, seen = [error], set()
    while todo:
        e = todo.pop()
        if not isinstance(e, BaseException) or id(e) in seen:
            continue
        seen.add(id(e))
        frames, tb = [], e.__traceback__
        while tb:
            frames.append(tb)
            tb = tb.tb_next
        files = [f.tb_frame.f_code.co_filename for f in frames]
        if files and files[0] == "<runner>" and script in files:
            del frames[: files.index(script)]
        frames = [f for f in frames if f.tb_frame.f_code.co_filename != "<runner>"]
        for f, after in zip(frames, frames[1:] + [None]):
            f.tb_next = after
        BaseException.with_traceback(e, frames[0] if frames else None)  # a class may refuse assignments
        todo += [e.__cause__, e.__context__]
        todo += members_of(e)


def line_of(error, script):
    """The line of the script where the error comes from."""
    if isinstance(error, SyntaxError) and error.filename == script:
        return error.lineno
    line, tb = None, error.__traceback__
    while tb:
        if tb.tb_frame.f_code.co_filename == script:
            line = tb.tb_lineno
        tb = tb.tb_next
    return line


def show_source(script, source):
    """Let the interpreter's own printer of tracebacks and warnings, which reads files (until 3.12), find the source.

    It opens the file through io.open and wants a real descriptor. Printing in C is both exact and 10 ms faster than
    the traceback module, which 3.13 and later use, and which asks linecache. Returns a function that undoes this.
    """
    real = io.open
    if sys.version_info >= (3, 13):
        return lambda: None
    fd = None

    def open(file, *args, **kwargs):
        nonlocal fd
        if file != script or args != ("rb",) or kwargs:
            return real(file, *args, **kwargs)
        if fd is None:
            fd = temporary(source)
        posix.lseek(fd, 0, 0)
        return real(posix.dup(fd), "rb")

    io.open = open

    def undo():
        io.open = real

    return undo


def temporary(text):
    """A descriptor of a file without a name that holds text."""
    for d in ("/tmp", ".", "/dev/shm"):
        path = "%s/.script-%d-%d" % (d, posix.getpid(), _thread.get_ident())
        try:
            fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600)
        except OSError:
            continue
        posix.unlink(path)
        data = memoryview(text.encode("utf-8", "replace"))
        while data:
            data = data[posix.write(fd, data) :]
        return fd
    raise FileNotFoundError


def watch_threads():
    """Threads report errors through this hook, which threading takes from _thread when it is imported."""
    report = _thread._excepthook

    def hook(args, /):
        strip(args.exc_value, script)
        show_source(script, source)  # for good: another thread may print at the same time
        report(args)

    _thread._excepthook = hook


def complain(text):
    try:
        sys.stderr.write(text)
    except BaseException:
        pass


def report(error):
    """Print an error as the interpreter does when a script ends in one. The exit code."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    sys.last_exc = error
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except SystemExit as e:
        return exit_code(e)
    except BaseException as e:
        strip(e, "")
        complain("Error in sys.excepthook:\n")
        sys.__excepthook__(type(e), e, e.__traceback__)
        complain("\nOriginal exception was:\n")
        sys.__excepthook__(type(error), error, error.__traceback__)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def exit_code(error):
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if -(1 << 63) <= code < 1 << 63 else 0xFF  # what is no C long is -1
    try:
        complain("%s\n" % (code,))
    except BaseException:
        pass
    return 1


def message_of(error):
    try:
        if isinstance(error, SyntaxError):
            return str(error.msg)
        return str(error)
    except BaseException:
        return "<exception str() failed>"


def noted(error, text):
    """The error with a line that its traceback ends with, from 3.11 on, and that str() of it does not have."""
    if hasattr(error, "add_note"):
        error.add_note(text)
    else:
        error.__notes__ = [*getattr(error, "__notes__", ()), text]
    return error


def type_of(error):
    kind = type(error)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return "%s.%s" % (kind.__module__, kind.__qualname__)


# --- the run ----------------------------------------------------------------------------------------------------------


def decode_run(text):
    """code, filename and the JSON text of servers out of a run frame.

    The host writes the fields in this order. Inside a JSON string a quote has a backslash before it, so '","' is an
    end; and what our host's encoder makes of a string is a string literal of Python too. So a script that uses no
    server costs no import of json (8 ms without .pyc).
    """
    start = '{"type":"run","code":"'
    code, end, rest = text[len(start) :].partition('","filename":"')
    name, quoted, rest = rest.partition('"')
    if text.startswith(start) and end and rest[:1] in ("}", ",") and "\\" not in name and "\\ud" not in code:
        if "\\" in code:
            code = eval('"%s"' % code, {})
        return code, name, rest[len(',"servers":') : -1] or "[]"
    message = loads(text)
    load(RESULTS)
    encoder = Encoder(MAX_MESSAGE, 200, True)
    encoder.value(message.get("servers", []))
    return message["code"], message["filename"], "".join(encoder.out)


def finish(code, fields):
    """Everything between the script's last line and the end of the process, in CPython's order, and what the host is told."""
    threading = sys.modules.get("threading")
    if threading:
        try:
            threading._shutdown()
        except BaseException as e:
            strip(e, "")
            report(e)
    atexit = sys.modules.get("atexit")
    if atexit:
        try:
            atexit._run_exitfuncs()
        except BaseException:
            pass  # printed (3.9 raises the last one as well)
    # The process ends without finalizing the interpreter, which takes milliseconds. What a script can see of that is
    # that its objects die: files are flushed, __del__ runs. A daemon thread would see its globals vanish.
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    if not _thread._count():
        # What a __del__ calls lives longer than what has one: CPython collects with modules and functions intact.
        names, lasting = vars(main), (type(sys), type, type(finish), type(len))
        for late in (False, True):
            for private in (True, False):
                for k in list(names):
                    if isinstance(k, str) and k != "__builtins__" and (k[:1] == "_" and k[1:2] != "_") >= private:
                        if late or not (issubclass(type(names.get(k)), lasting) or k[:4] == "mcp_"):
                            names[k] = None
            if len(sys.modules) - frozen < 400:  # beyond, a collection costs more than cycles of unflushed files are worth
                gc.collect()
    for s in (sys.stdout, sys.stderr):
        try:
            if s is not None and not getattr(s, "closed", False):
                s.flush()
        except BaseException as e:
            complain("Exception ignored in: %s\n%s: %s\n" % (safe_repr(s, 200), type_of(e), message_of(e)))
            code = 120
    if "_interpreters" in sys.modules:
        end_interpreters()
    if modules:
        tell_of_open_calls()
    if posix.getpid() == PID:  # and no forked child that has fallen off the end of the script
        try:
            if lock.acquire(True, 5):  # a daemon thread may be in the middle of a frame
                # The host can see that this process has ended before the kernel has freed its memory, which takes longer
                # than a small script, if it is not kept waiting for the very processor on which that is done. So it is
                # let in here, unless something may come yet, or it may not get to read this before the end.
                waits = not code and not pending and not _thread._count()
                send('{"type":"done"' + "".join("," + field for field in fields) + (',"waits":true}' if waits else "}"))
                if waits and posix.fstat(FRAMES_OUT)[1:3] == host:  # else the host has not heard it
                    posix.set_blocking(FRAMES_IN, True)
                    posix.read(FRAMES_IN, 1)
        except BaseException:
            pass
    posix._exit(code)


def end_interpreters():
    """So that their files are flushed. Python warns of those that the script has left."""
    left = False
    try:
        import _interpreters

        for interpreter, *_ in _interpreters.list_all():
            try:
                _interpreters.destroy(interpreter)
                left = True
            except _interpreters.InterpreterError:
                pass  # it runs, as ours does
    except BaseException:
        pass  # it is the script's own
    if left and sys.version_info >= (3, 14):
        try:
            import warnings

            warnings.warn_explicit("remaining subinterpreters; close them with Interpreter.close()", RuntimeWarning, "<sys>", 0)
            sys.stderr.flush()
        except BaseException:
            pass  # a filter made an error of it


def start():
    posix.dup2(3, FRAMES_IN, False)
    posix.dup2(4, FRAMES_OUT, False)
    posix.close(3)
    posix.close(4)
    global host
    host = posix.fstat(FRAMES_OUT)[1:3]  # device and number, by which a pipe is known
    sys.stdout = sys.__stdout__ = stream(1, "<stdout>")
    sys.stderr = sys.__stderr__ = stream(2, "<stderr>")
    names = vars(main)
    for k in [k for k in names if k[:2] != "__"]:  # the bootstrap's
        del names[k]
    for cache in "cache", "_interactive_cache":  # where 3.13 keeps its source
        getattr(sys.modules.get("linecache"), cache, {}).clear()
    for k in ("exit", "quit", "help", "copyright", "credits", "license"):
        setattr(sys.modules["builtins"], k, Late(k))
    extend_path()
    if not compiled and str in map(type, more):
        compile_rest()
    size = ',"compiled":%d' % len(compiled[0]) if compiled else ""
    send('{"type":"ready","protocol":1,"python":"%d.%d.%d"%s}' % (*sys.version_info[:3], size))
    for c in compiled:
        write(c)
    compiled.clear()
    learn_trees()
    gc.freeze()  # so that collections, the one at the end too, look at the script's objects only


def compile_rest():
    """What the boot before us has left, for those that come after us."""
    import marshal

    more[:] = [marshal.dumps(compile(text, "<runner>", "exec", 0, True, 1)) for text in more]
    magic = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
    compiled.append(magic + marshal.dumps((first, tuple(more))))


loading = _thread.RLock()
RESULTS, LONE, LIBRARY, WARMING, HINTS = range(5)  # where they are in more


def load(*parts):
    """Run parts of the runner in our own namespace, each once."""
    with loading:  # an import of mcp in a thread may be at it
        for i in parts:
            code, more[i] = more[i], None
            if type(code) is str:
                code = compile(code, "<runner>", "exec", 0, True, 1)
            elif code:
                code = unmarshal(code)
            if code:
                exec(code, globals())


def use_library():
    """From here on the script has MCP. What it is told of the servers must be known."""
    load(RESULTS, LIBRARY)
    if not modules:
        make_modules()
    runtime = modules["mcp.runtime"]
    if not hasattr(runtime, "LOADED_MCP_SERVERS"):
        open_frames()
        runtime.LOADED_MCP_SERVERS = loaded()


def uses_mcp():
    return "mcp" in source or "MCP" in source or "user_tools" in source


def next_message():
    """The next message of the host's, before there may be calls."""
    messages = []
    while messages == []:
        messages = receive()
    if messages is None:
        posix._exit(0)
    return messages.pop()


def serve():
    global source, script, servers_text, watch
    start()
    if sys.version_info < (3, 13):
        watch_threads()
    message = next_message()
    if message.startswith('{"type":"warm",'):
        load(WARMING)
        warm(message)
        message = next_message()
    send('{"type":"running"}')
    source, script, servers_text = decode_run(message)
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    if source[:1] == "\ufeff":
        source = source[1:]
    head = source.lstrip()[:3]
    if head == "```" or head and source.lstrip("\n")[:1] in " \t":
        load(HINTS)
        source = unwrapped(source)
    names = vars(main)
    names["__file__"] = script
    names["__loader__"] = Loader(source)
    sys.argv = [script]
    watch = Watch(script, source)
    sys.meta_path.insert(0, watch)
    code, done, value = 0, [], None
    if uses_mcp():
        use_library()
        names.update(names_for_scripts())
        heed_coroutines(watch)
    if sys.version_info >= (3, 15):  # it would tell who misses a module that it is for want of what we have done
        sys.flags = sys.flags.__replace__(no_site=0)
    try:
        undo = show_source(script, source)  # for warnings of the compiler
        codes = compile_script(source, script)
        undo()
        watch.awaits = any(c.co_flags & COROUTINE for c in codes)
        for name in AGAIN:
            if name in sys.modules:  # by the user's wish
                watch.prepare(name)
        value = run(codes, names)
        if value is not None:
            try:
                load(RESULTS)
                result, cut = encode_result(value)
                remind(value)
            except BaseException:  # an attribute, property or iterator of the script's own failed, or its audit hook
                result, cut = quote(safe_repr(value, MAX_RESULT // 6)), False
            done.append('"result":' + result)
            if cut:
                done.append('"truncated":true')
            value = None
    except BaseException as error:
        strip(error, script)
        line = line_of(error, script)
        if isinstance(error, SystemExit):
            code = exit_code(error)
            shown, message = code != 0, "" if error.code is None else safe_text(error.code)
        else:
            if isinstance(error, SyntaxError) and error.filename == script and not error.text and error.lineno:
                # The compiler's later passes look for the file and find none.
                error.text = (source.split("\n") + [""] * error.lineno)[error.lineno - 1] or None
            show_source(script, source)
            load(HINTS)
            message = explain(error)
            code, shown = report(error), True
        if shown:
            fields = '"type":%s,"message":%s' % (quote(type_of(error)), quote(message[:MAX_ERROR]))
            done.append('"error":{%s%s}' % (fields, ',"line":%d' % line if line else ""))
        BaseException.with_traceback(error, None)  # its frames hold the script's objects
    finish(code, done)


serve()
