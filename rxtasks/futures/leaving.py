"""The end of the interpreter: what executors were given is finished first, as with the executors of the standard library.

threading calls what is registered here when the main thread has ended, before it joins the other threads and before
any atexit function: threads can still be started then. Later the service would stop as a service does at exit, which
gives running tasks a few seconds and begins no others.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import Final, Protocol

__all__ = ["Unfinished", "finish_at_exit"]


class Unfinished(Protocol):
    """Something that has work to finish before the interpreter ends."""

    def refuse_new(self) -> None:
        """Take nothing more: the interpreter is ending."""

    def finish_at_exit(self) -> None:
        """Return when what was taken has ended."""


class _Leaving:
    """What is to be finished; holds nothing alive. Each change is one step of the interpreter."""

    def __init__(self) -> None:
        self.things: weakref.WeakSet[Unfinished] = weakref.WeakSet()
        self.begun = False

    def leave(self) -> None:
        self.begun = True
        things = list(self.things)
        for thing in things:
            thing.refuse_new()
        for thing in things:
            thing.finish_at_exit()


#: One for the interpreter, as the end of it is.
_leaving: Final = _Leaving()


def finish_at_exit(thing: Unfinished) -> bool:
    """Have the thing finished before the interpreter ends, if it still lives then; False: it is ending already."""
    _leaving.things.add(thing)
    return not _leaving.begun


try:
    getattr(threading, "_register_atexit", atexit.register)(_leaving.leave)
except RuntimeError:  # imported when the interpreter is ending already
    _leaving.begun = True
