"""Our sink in loguru's core: made once, then put in and taken out in microseconds.

`logger.add` takes 3 ms (it asks sysconfig for every library directory), and inline tasks set and take out their taps
one by one. So the handler that the first add() makes is kept, and later put into the core's table as add() would. What
it does is ours: it takes records ahead of loguru's own formatting and outside of the lock that loguru holds around a
sink, because a line may wait for credit, and other tasks' lines must not wait with it.

All this leans on loguru's inside, as of 0.7. Where that is not as known, add() and remove() are used, and records come
through an ordinary sink.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

__all__ = ["Sink"]

_kept: tuple[Any, int, Any] | None = None


class Sink:
    """Takes every record of one loguru logger while attached."""

    def __init__(self, logger: Any, take: Callable[[Any], None]) -> None:
        self._logger = logger
        self._core = logger._core
        self._take = take
        self.id = -1

    @property
    def attached(self) -> bool:
        """True while the sink is in loguru's table; anyone's logger.remove() takes it out."""
        return self.id in self._core.handlers

    def attach(self) -> None:
        """Take records from now on."""
        kept = _kept
        if kept is not None and kept[0] is self._core and kept[1] not in self._core.handlers:
            try:
                self._put_in(kept[1], kept[2])
            except AttributeError:
                self._add()
        else:
            self._add()

    def detach(self) -> None:
        """Take no more records."""
        if self.attached:
            try:
                self._take_out()
            except AttributeError:
                self._logger.remove(self.id)

    def _add(self) -> None:
        global _kept
        take = self._take
        self.id = self._logger.add(
            lambda message: take(message.record), level=0, format="{message}", backtrace=False, diagnose=False
        )
        handler = self._core.handlers[self.id]
        with contextlib.suppress(AttributeError):
            handler.emit = self._emit
            _kept = (self._core, self.id, handler)

    def _emit(self, record: Any, level_id: Any, from_decorator: bool, is_raw: bool, colored_message: Any) -> None:
        self._take(record)

    def _put_in(self, number: int, handler: Any) -> None:
        core = self._core
        with core.lock:
            handler.emit = self._emit
            core.min_level = min(core.min_level, handler.levelno)
            core.handlers = {**core.handlers, number: handler}
        self.id = number

    def _take_out(self) -> None:
        core = self._core
        with core.lock:
            handlers = {number: handler for number, handler in core.handlers.items() if number != self.id}
            core.min_level = min((handler.levelno for handler in handlers.values()), default=float("inf"))
            core.handlers = handlers
