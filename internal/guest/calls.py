# --- calls: the library begins here ------------------------------------------------------------------------------------
# calls.py and what follows it are compiled with the runner and loaded into its namespace when a script first asks
# for MCP. A script that does not pays nothing for them but the reading of some more bytes.
#
# Answers are read by who waits for one. An event loop watches the descriptor; a synchronous caller reads until its own
# answer has come, delivers what else comes, and then lets the next one read. So no call needs a thread, and none is
# left behind for fork() to warn about. Both descriptors do not block: the host may stop reading until we do.

MAX_OPEN_ARGUMENTS = MAX_MESSAGE // 4  # characters of the arguments of one call
MAX_CALLS = 10000  # of one run; the host ends it for one more
RETURN = '{"type":"return","id":'
BRIDGE = ""  # the server name that means the bridge itself

state = _thread.allocate_lock()  # guards the two below, and is never held while anything waits
leading = False  # somebody reads, or is about to
followers = []  # synchronous callers who wait while somebody else reads

last_id = 0
gone = False


class MCPError(Exception):
    """A tool, or the way to it, has failed.

    server and tool are names, or None; content is what an answer with isError had, as a list of blocks; code and data
    are those of a JSON-RPC error; signature is how the tool is called, where the arguments may be the reason.
    """

    def __init__(self, message, server=None, tool=None, type=None, content=None, code=None, data=None, signature=None):
        super().__init__(message)
        self.message, self.server, self.tool, self.type = message, server, tool, type
        self.content, self.code, self.data, self.signature = content or [], code, data, signature

    def __str__(self):
        return self.message

    def __reduce__(self):
        fields = self.message, self.server, self.tool, self.type, self.content, self.code, self.data, self.signature
        return type(self), fields


class MissingError(MCPError, LookupError, AttributeError):
    """There is no such server, tool or saved tool."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.obj = None  # or Python, from 3.12 on, would add a suggestion of its own to ours


class ArgumentError(MCPError, TypeError, ValueError):
    """A tool was called with arguments that do not fit its signature, or cannot be sent. Nothing was sent."""


def open_frames():
    for fd in (FRAMES_IN, FRAMES_OUT):
        posix.set_blocking(fd, False)


def poll(*interests):
    select = kept.get("select")
    if not select:
        import select

    p = select.poll()
    for fd, events in interests:
        p.register(fd, events)
    try:
        return p.poll()
    except OSError:
        return []


def wait_to_write():
    """The host does not read. It may wait itself for somebody here to take an answer."""
    mine = lead()
    try:
        ready = poll((FRAMES_OUT, 4), *([(FRAMES_IN, 1)] if mine else []))
        if mine and any(fd == FRAMES_IN for fd, _ in ready):
            dispatch(receive())
    finally:
        if mine:
            hand_over()


def lead():
    """Take the lead if nobody has it."""
    global leading
    with state:
        if leading:
            return False
        leading = True
        return True


def hand_over():
    """Give the lead to a synchronous caller who still waits."""
    global leading
    with state:
        while followers:
            waiter = followers.pop(0)
            if not waiter.answers:
                waiter.leads = True
                waiter.wake()
                return
        leading = False


def dispatch(messages):
    """Hand messages to the calls that they answer. The caller leads."""
    global gone
    if messages is None:
        gone = True
        while pending:
            try:
                pending.popitem()[1](None)
            except KeyError:
                pass
        return
    for text in messages:
        if text.startswith(RETURN):
            # Only the id is read here; the caller parses, so that a bad answer is its error and its time.
            deliver = pending.pop(int(text[len(RETURN) : text.index(",", len(RETURN))]), None)
            if deliver:
                deliver(text)


class Waiter:
    """A synchronous caller."""

    def __init__(self):
        self.answers, self.leads = [], False
        self.lock = _thread.allocate_lock()
        self.lock.acquire()

    def wake(self):
        try:
            self.lock.release()
        except RuntimeError:
            pass  # awake already

    def deliver(self, text):
        self.answers.append(text)
        self.wake()

    def wait(self):
        global leading
        with state:
            if leading:
                followers.append(self)
            else:
                leading = self.leads = True
        try:
            while not self.answers:
                if not self.leads:
                    self.lock.acquire()
                    continue
                messages = receive()
                if messages == []:
                    poll((FRAMES_IN, 1))
                dispatch(messages)
        finally:
            with state:
                if self in followers:
                    followers.remove(self)
            if self.leads:
                hand_over()
        return self.answers[0]


def begin(server, tool, arguments, deliver):
    """Send a call, and return its id."""
    global last_id
    if posix.getpid() != PID:
        raise RuntimeError("MCP tools can be called only from the main process, not from a forked child")
    tail = ',"server":%s,"tool":%s,"arguments":%s}' % (quote(server), quote(tool), encode_arguments(server, tool, arguments))
    with lock:
        if gone:
            raise MCPError("the host is gone", server, tool)
        if last_id >= MAX_CALLS:
            raise MCPError("a run can make %d calls, and has made them" % MAX_CALLS, server or None, tool)
        last_id += 1
        number = last_id
        pending[number] = deliver
        try:
            send('{"type":"call","id":%d%s' % (number, tail))
        except BaseException:
            pending.pop(number, None)
            raise
    if gone:  # since it was looked at
        dispatch(None)
    return number


def encode_arguments(server, tool, arguments):
    if arguments is None:
        return "{}"
    if not isinstance(arguments, dict):
        raise ArgumentError("arguments must be a dict, not %s" % type(arguments).__name__, server, tool)
    encoder = Encoder(MAX_OPEN_ARGUMENTS, 90, True)
    name = None

    def items():
        nonlocal name
        for name, value in dict.items(arguments):
            yield name, value

    try:
        encoder.object(items())
    except TooLong:
        raise ArgumentError("the arguments are longer than %d MiB" % (MAX_OPEN_ARGUMENTS >> 20), server, tool) from None
    except (TypeError, ValueError) as e:
        where = "argument %r: " % name if isinstance(name, str) else ""
        hint = "; decode it, or encode it as base64" if "bytes" in str(e) else ""
        raise ArgumentError("%s%s%s" % (where, e, hint), server, tool) from None
    return "".join(encoder.out)


def ask_sync(server, tool, arguments):
    """Send a call and wait for the text of the answer, in any thread."""
    waiter = Waiter()
    number = begin(server, tool, arguments, waiter.deliver)
    try:
        return waiter.wait()
    except BaseException:
        forget(number)
        raise


loops = None  # the event loops that watch the descriptor


async def ask(server, tool, arguments):
    """Send a call and wait for the text of the answer; many calls can be open at once."""
    global loops
    if lone:
        return ask_sync(server, tool, arguments)
    import asyncio

    loop = asyncio.get_running_loop()
    if loops is None:
        import weakref

        loops = weakref.WeakSet()
    future, here = loop.create_future(), _thread.get_ident()

    def arrive(text):
        if not future.done():
            future.set_result(text)

    def deliver(text):
        try:
            if _thread.get_ident() == here:
                arrive(text)
            else:
                loop.call_soon_threadsafe(arrive, text)
        except RuntimeError:
            pass  # the loop was closed with the call open

    number = begin(server, tool, arguments, deliver)
    if loop not in loops:
        loop.add_reader(FRAMES_IN, readable, loop)
        loops.add(loop)
    try:
        return await future
    except BaseException:
        forget(number)
        raise


def readable(loop):
    if lead():  # else somebody else reads, and leaves nothing
        try:
            dispatch(receive())
        finally:
            hand_over()
    if gone:
        loop.remove_reader(FRAMES_IN)


def forget(number):
    """Nobody waits for an answer any more. The host then cancels the request, where the server lets it."""
    if pending.pop(number, None) and not gone:
        try:
            begin(BRIDGE, "cancel", {"id": number}, lambda text: None)
        except BaseException:
            pass


def parse(text, server, tool):
    """What an answer has brought, or the error that it was."""
    if text is None:
        raise MCPError("the host is gone", server or None, tool)
    message = loads(text, Record)
    error = dict.get(message, "error")
    if error is None:
        return dict.get(message, "value")
    kind = dict.get(error, "type")
    cls = MissingError if kind == "LookupError" else MCPError
    raise cls(
        error["message"], server or None, tool if server else None, kind,
        code=dict.get(error, "code"), data=dict.get(error, "data"),
    )  # fmt: skip


def bridge_sync(method, /, **arguments):
    return parse(ask_sync(BRIDGE, method, arguments), BRIDGE, method)


async def bridge(method, /, **arguments):
    return parse(await ask(BRIDGE, method, arguments), BRIDGE, method)
