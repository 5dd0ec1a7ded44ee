"""Who wants to know that a store has work that nobody put in: released by another task's end, or the next of a schedule."""

from __future__ import annotations

import weakref
from collections.abc import Callable

__all__ = ["Listeners"]


class Listeners:
    """Calls who listens; holds none of them. Any thread."""

    def __init__(self) -> None:
        self._listeners: tuple[weakref.WeakMethod[Callable[[list[tuple[str, str]]], None]], ...] = ()

    def listen(self, method: Callable[[list[tuple[str, str]]], None]) -> None:
        """Have this bound method told of the (id, reason) of tasks that are to be cancelled, as long as its object lives."""
        made = weakref.WeakMethod(method)
        self._listeners = (*[other for other in self._listeners if other() is not None and other != made], made)

    def tell(self, doomed: list[tuple[str, str]]) -> None:
        """There are tasks to claim, and these to cancel."""
        for listener in self._listeners:
            method = listener()
            if method is not None:
                method(doomed)
