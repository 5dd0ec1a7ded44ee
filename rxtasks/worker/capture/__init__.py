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

from rxtasks.forking import put_right
from rxtasks.worker.capture.tap import Tap, WorkerLog

__all__ = ["Tap", "WorkerLog", "acquire", "release"]


class _Shared:
    """The tap of this process, and how many use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._tap: Tap | None = None
        self._users = 0
        #: A fork may have caught another thread as it put the tap in or took it out.
        self._torn = False
        put_right(self)

    def acquire(self) -> Tap:
        with self.lock:
            # One for the life of the process: streams of it that somebody kept lead to the tasks of later users too.
            tap = self._tap
            if tap is None:
                tap = self._tap = Tap(None)
            if self._users == 0:
                if self._torn:
                    tap.uninstall()
                    self._torn = False
                tap.install()
            self._users += 1
            return tap

    def release(self) -> None:
        with self.lock:
            self._users -= 1
            if self._users == 0 and self._tap is not None:
                self._tap.uninstall()

    def after_fork(self) -> None:
        """In a forked child: whoever held the lock is not here."""
        self.lock = threading.Lock()
        self._torn = self._users == 0


_shared = _Shared()


def acquire() -> Tap:
    """Return the tap of this process, set for its first user. Pair with release()."""
    return _shared.acquire()


def release() -> None:
    """Give up one use of the tap; the last one takes it out."""
    _shared.release()
