"""What is put right in a forked child of this process.

The interpreter keeps what os.register_at_fork is given for as long as the process lives, so what comes and goes must not
be given to it. One entry serves everything here, and holds nothing alive.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterable
from typing import Final, Protocol

__all__ = ["Forked", "close_copies", "no_longer", "put_right"]


class Forked(Protocol):
    """Something that must not go on in a forked child as it was."""

    def after_fork(self) -> None:
        """Put it right; only the thread that forked lives on, and locks may be held by those that do not."""


#: No lock guards it: a fork could find it held. Each change is one step of the interpreter.
_forked: Final[weakref.WeakSet[Forked]] = weakref.WeakSet()


def put_right(thing: Forked) -> None:
    """Have `thing.after_fork()` called in every forked child from now on, as long as the thing lives."""
    _forked.add(thing)


def no_longer(thing: Forked) -> None:
    """Undo put_right; no error if it was not called."""
    _forked.discard(thing)


def close_copies(fds: Iterable[int]) -> None:
    """Close these descriptors in a forked child; one that is closed already (or -1) keeps no other open."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _in_child() -> None:
    failed: list[Exception] = []
    for thing in list(_forked):
        try:
            thing.after_fork()
        except Exception as error:
            failed.append(error)
    if failed:  # shown by the interpreter; the child goes on
        raise failed[0]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
