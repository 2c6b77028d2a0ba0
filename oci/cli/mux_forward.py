import _signal, posix, select

WINDOW, CHUNK = 1 << 18, 1 << 16
INIT = posix.getpid() == 1  # anywhere else, to kill all would be to kill what is not ours

readers = {}  # channel: [descriptor, bytes that the host takes]
writers = {}  # channel: [descriptor, bytes that wait, whether no more come]
for n, (way, r, w) in enumerate(PIPES):
    if way == "i":
        posix.set_blocking(w, False)
        writers[n] = [w, bytearray(), False]
    else:
        posix.close(w)
    if way == "o":
        posix.set_blocking(r, False)
        readers[n] = [r, WINDOW]
    else:
        posix.close(r)

posix.set_blocking(WAKE, False)
posix.set_blocking(WAKER, False)
_signal.signal(_signal.SIGINT, _signal.SIG_IGN)
_signal.signal(_signal.SIGCHLD, lambda *_: None)
_signal.set_wakeup_fd(WAKER, warn_on_full_buffer=False)
posix.set_blocking(1, False)

out, inside = bytearray(), bytearray()
status = None  # of the command
alone = False  # no process but this one
said = False
dying = False  # the host is gone, or wants an end: what there is goes out as long as it is taken


def leave():
    how = 9 if status is None else status
    posix._exit(128 + (how & 127) if how & 127 else how >> 8)


def frame(kind, n, size, data=b""):
    out.extend(b"%c%c%b%b" % (kind, n, size.to_bytes(4, "big"), data))


def reap():
    global status, alone
    while True:
        try:
            if INIT and (dying or status is not None):
                posix.kill(-1, 9)
        except OSError:
            pass
        try:
            pid, how = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            alone = True
            return
        if pid == 0:
            return
        if pid == COMMAND:
            status = how


def hear():
    while len(inside) >= 6:
        kind, n, size = inside[0], inside[1], int.from_bytes(inside[2:6], "big")
        used = 6
        if kind == 100:  # d
            if len(inside) < 6 + size:
                return
            used += size
            if n in writers:
                writers[n][1] += inside[6:used]
        elif kind == 101:  # e
            if n in writers:
                writers[n][2] = True
            elif n in readers:
                posix.close(readers.pop(n)[0])
        elif n in readers:  # c
            readers[n][1] += size
        del inside[:used]


def feed(n):
    fd, data, last = writers[n]
    try:
        while data:
            size = posix.write(fd, data[:CHUNK])
            del data[:size]
            frame(99, n, size)
        if not last:
            return
    except BlockingIOError:
        return
    except OSError:
        frame(101, n, 0)
    posix.close(fd)
    del writers[n]


def take(n):
    reader = readers[n]
    try:
        data = posix.read(reader[0], min(CHUNK, reader[1]))
    except BlockingIOError:
        return
    if data:
        reader[1] -= len(data)
        frame(100, n, len(data), data)
        return
    frame(101, n, 0)
    posix.close(reader[0])
    del readers[n]


def serve():
    global said, dying
    while True:
        reap()
        for n in list(writers):
            feed(n)
        if alone and writers:
            for fd, _, _ in writers.values():
                posix.close(fd)
            writers.clear()
        if alone and not readers and not said:
            said = True
            frame(120, 0, 4, status.to_bytes(4, "big"))
        if said and not out:
            # The host looks once more at what the kernel says of the cgroup, which goes with this process.
            hold = select.poll()
            hold.register(0, select.POLLIN)
            while not dying and hold.poll(1000) and posix.read(0, CHUNK):
                pass
            leave()
        poll = select.poll()
        if not dying:
            poll.register(0, select.POLLIN)
        poll.register(WAKE, select.POLLIN)
        if out:
            poll.register(1, select.POLLOUT)
        what = {}
        if len(out) < 2 * CHUNK:
            for n, (fd, credit) in readers.items():
                if credit:
                    what[fd] = n
                    poll.register(fd, select.POLLIN)
        for n, (fd, data, last) in writers.items():
            what[fd] = n
            poll.register(fd, select.POLLOUT if data else 0)
        events = poll.poll(200 if dying else None)
        if dying and not events:
            leave()
        for fd, event in events:
            if fd == 0:
                data = posix.read(0, CHUNK)
                dying = not data
                inside.extend(data)
                hear()
            elif fd == 1:
                try:
                    del out[: posix.write(1, out[:CHUNK])]
                except BlockingIOError:
                    pass
                except OSError:
                    leave()
            elif fd == WAKE:
                posix.read(WAKE, 512)
            elif what[fd] in readers:
                take(what[fd])
            elif what[fd] in writers and event & select.POLLERR:
                frame(101, what[fd], 0)
                posix.close(fd)
                del writers[what[fd]]


serve()
