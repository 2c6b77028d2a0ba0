# --- what was forgotten: calls that nobody awaits -----------------------------------------------------------------------
# The commonest mistake in a script, after which it ends as if all were well. Python warns of some of this, but names a line
# of the runner's, and not what to write.


def heed_coroutines(watch):
    """Let coroutines that were never awaited, and tasks that the end of their loop cancels, be told of as the script needs it."""
    sys.set_coroutine_origin_tracking_depth(1)
    watch.change("warnings", heed_warnings)
    watch.change("asyncio.runners", heed_runners)


def heed_warnings(warnings):
    warn, registry = warnings._warn_unawaited_coroutine, {}

    def tell(coroutine):
        if not coroutine.cr_origin:
            return warn(coroutine)
        file, line, _ = coroutine.cr_origin[0]
        warnings.warn_explicit(never_awaited(coroutine), RuntimeWarning, file, line, registry=registry)

    warnings._warn_unawaited_coroutine = tell


def heed_runners(runners):
    cancel = runners._cancel_all_tasks

    def cancel_all_tasks(loop):
        try:
            tell_of_tasks(runners.tasks.all_tasks(loop))
        except Exception:
            pass  # a task of the script's own making
        cancel(loop)

    runners._cancel_all_tasks = cancel_all_tasks


def tell_of_tasks(tasks):
    abandoned.update(map(id, tasks))
    names = sorted(name_of(c) for c in map(coroutine_of, tasks) if c)
    if names:
        complain(
            "RuntimeWarning: %d not done when the event loop ended, and cancelled: %s\n" % (len(names), some(dict.fromkeys(names), 5))
        )


def coroutine_of(task):
    """That of a task that has not begun, or of the call that it waits for."""
    coroutine = task.get_coro()
    if coroutine.cr_frame and coroutine.cr_frame.f_lasti < 0:
        return coroutine
    for _ in range(100):
        if coroutine is None or coroutine.cr_code.co_filename == "<runner>":
            return coroutine
        coroutine = coroutine.cr_await if type(coroutine.cr_await) is type(coroutine) else None


def tell_of_open_calls():
    """Of threads that are not waited for."""
    count = sum(type(getattr(deliver, "__self__", None)) is Waiter for deliver in list(pending.values()))
    if count:
        complain("RuntimeWarning: the script has ended before the answers to %d calls; wait for the threads that make them\n" % count)
