"""Several calls of a map as one task: what runs in the worker.

A call that raises ends its chunk. What the calls before it returned travels with the error, so that a map yields all
that came before the failure and raises it in its place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rxtasks.errors import PayloadError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.wire.callables import CallableTable
from rxtasks.wire.loading import load_callable
from rxtasks.wire.message import Define
from rxtasks.wire.payload import dump_exception, dump_value
from rxtasks.worker.context import TaskContext
from rxtasks.worker.failure import describe
from rxtasks.worker.handler import Handler, Kind, plan_handler

__all__ = ["Carried", "ChunkFailed", "run_chunk"]


class ChunkFailed(Exception):
    """A call of a chunk raised: what the calls before it returned (pickled), and its own error."""

    def __init__(self, done: bytes, count: int, error: bytes | None, info: TaskErrorInfo) -> None:
        super().__init__(done, count, error, info)
        self.done = done
        self.count = count
        self.error = error
        self.info = info

    def __str__(self) -> str:
        return f"call {self.count} of the chunk: {self.info.type}: {self.info.message}"


class Carried:
    """A function as an argument. It is written once, however many chunks it goes with, and read once in each worker."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._handler: Handler | None = None
        self._written: tuple[str, str | None, bytes | None] | None = None

    @property
    def handler(self) -> Handler:
        """How the function is called."""
        if self._handler is None:
            self._handler = plan_handler(self.function)
        return self._handler

    @property
    def simple(self) -> bool:
        """True when a call of it is just that: neither async nor a generator."""
        return self.handler.kind is Kind.SYNC

    def __reduce__(self) -> tuple[Any, ...]:
        if self._written is None:
            entry = CallableTable().key_for(self.function)
            self._written = (entry.key, entry.ref, entry.blob)
        return _read, self._written


@functools.lru_cache(maxsize=64)
def _read(key: str, ref: str | None, blob: bytes | None) -> Carried:
    return Carried(load_callable(Define(key, ref, blob)))


def run_chunk(carried: Carried, calls: list[tuple[Any, ...]], ctx: TaskContext) -> list[Any]:
    """Call the function with each of the arguments; return what it returned.

    Raises:
        ChunkFailed: a call raised.
    """
    handler, done = carried.handler, []
    try:
        for args in calls:
            given, named = handler.inject(args, {}, ctx)
            done.append(handler.function(*given, **named))
    except Exception as error:
        try:
            before = dump_value(done, what="results")
        except PayloadError:
            raise error from None
        raise ChunkFailed(before, len(done), dump_exception(error), describe(error)) from error
    return done
