"""Everything a handler prints, warns or logs becomes a log event of its task (E-10).

::

    print, sys.stderr.write ── streams ──┐
    logging ─────────────────── records ─┤            ┌─ a task runs here: its lane
    loguru, ctx.log ─────────── lines ───┼─ CURRENT? ─┤
    warnings ────────────────── warned ──┘            └─ none: the worker's log (process), or as ever (in process)

The contextvar decides. A thread that did not copy the task's context never writes into its log; one that did, and is
left over, has a closed lane and so writes elsewhere too.

In a worker process the console is replaced for good. In the caller's own process (inline, thread) the same taps are
set when the first executor starts and taken out when the last one ends; what is said outside of tasks goes where it
always went.
"""

from __future__ import annotations

import threading

from rxtasks.worker.capture.tap import Tap, WorkerLog

__all__ = ["Tap", "WorkerLog", "acquire", "release"]

_lock = threading.Lock()
_shared: Tap | None = None
_users = 0


def acquire() -> Tap:
    """Return the tap of this process, set for its first user. Pair with release()."""
    global _shared, _users
    with _lock:
        # One for the life of the process: streams of it that somebody kept lead to the tasks of later users too.
        if _shared is None:
            _shared = Tap(None)
        if _users == 0:
            _shared.install()
        _users += 1
        return _shared


def release() -> None:
    """Give up one use of the tap; the last one takes it out."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0 and _shared is not None:
            _shared.uninstall()
