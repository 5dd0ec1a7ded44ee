"""The end of the interpreter: what executors were given is finished first, as with the executors of the standard library.

threading calls what is registered here when the main thread has ended, before it joins the other threads and before
any atexit function: threads can still be started then. Later the service would stop as a service does at exit, which
gives running tasks a few seconds and begins no others.
"""

from __future__ import annotations

import atexit
import contextlib
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


#: One for the interpreter, as the end of it is; holds nothing alive. Each change is one step of the interpreter.
_unfinished: Final[weakref.WeakSet[Unfinished]] = weakref.WeakSet()


def finish_at_exit(thing: Unfinished) -> None:
    """Have the thing finished before the interpreter ends, if it still lives then."""
    _unfinished.add(thing)


def _leave() -> None:
    things = list(_unfinished)
    for thing in things:
        thing.refuse_new()
    for thing in things:
        thing.finish_at_exit()


with contextlib.suppress(RuntimeError):  # imported when the interpreter is ending already: nothing can be submitted
    getattr(threading, "_register_atexit", atexit.register)(_leave)
