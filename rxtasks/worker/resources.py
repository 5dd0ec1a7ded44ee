"""What a worker builds once for all its tasks and closes when it stops: connections, models.

A factory is called without arguments, and what it gives decides what is done with it:

    generator, async generator   the first value is the resource; what comes after the yield is the clean-up
    coroutine                    awaited; with what it returns as below
    context manager              entered, async ones too; later left, and closed (a database connection's context commits)
    anything else                the resource; later its aclose() or close() is called, if it has one

A lock is no such context manager: entering it would be taking it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import AsyncGeneratorType, GeneratorType, ModuleType
from typing import Any

from rxtasks.errors import ResourceError

__all__ = ["Resources"]

#: Runs an awaitable to its end and returns its value.
Complete = Callable[[Any], Any]
_MISSING: Any = object()


class Resources:
    """Resources by name: built before the first task, or when one that became known later is first asked for.

    Args:
        worker_id: what errors say.
        runner: gives what runs the async parts of one resource, its building and its closing.
    """

    def __init__(self, worker_id: str | None, runner: Callable[[], Complete]) -> None:
        self._worker_id = worker_id
        self._runner = runner
        self._factories: dict[str, Callable[[], Callable[[], Any]]] = {}
        self._built: dict[str, tuple[Any, Callable[[], object]]] = {}
        self._lock = threading.RLock()

    def add(self, name: str, factory: Callable[[], Callable[[], Any]]) -> None:
        """Make a name known; `factory()` gives the factory itself, when it is needed."""
        with self._lock:
            self._factories[name] = factory

    def build(self) -> None:
        """Build all that are known and not built, in the order in which they became known.

        Raises:
            ResourceError: one could not be built; those before it are.
        """
        with self._lock:
            for name in list(self._factories):
                self._get(name)

    def get(self, name: str) -> Any:
        """Return the resource.

        Raises:
            LookupError: there is none of that name.
            ResourceError: it could not be built.
        """
        found = self._built.get(name)
        if found is not None:
            return found[0]
        with self._lock:
            return self._get(name)

    def _get(self, name: str) -> Any:
        found = self._built.get(name)
        if found is None:
            factory = self._factories.get(name)
            if factory is None:
                known = ", ".join(self._factories) or "none"
                raise LookupError(f"the worker has no resource {name!r} (it has: {known}); see resources=")
            try:
                found = _build(factory()(), self._runner())
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                raise ResourceError(name, self._worker_id, f"{type(error).__name__}: {error}") from error
            self._built[name] = found
        return found[0]

    def close(self) -> list[tuple[str, BaseException]]:
        """Close what was built, last first; return what failed."""
        failures: list[tuple[str, BaseException]] = []
        with self._lock:
            while self._built:
                name, (_, close) = self._built.popitem()
                try:
                    close()
                except BaseException as error:
                    failures.append((name, error))
        return failures


def _build(made: Any, complete: Complete) -> tuple[Any, Callable[[], object]]:
    """Return the resource that a factory's result stands for, and what closes it."""
    if isinstance(made, GeneratorType):
        value = next(made, _MISSING)
        if value is _MISSING:
            raise ValueError("its factory is a generator that yields nothing; it is to yield the resource once")
        return value, lambda: _ended(next(made, _MISSING))
    if isinstance(made, AsyncGeneratorType):
        value = complete(_next(made))
        if value is _MISSING:
            raise ValueError("its factory is an async generator that yields nothing; it is to yield the resource once")
        return value, lambda: _ended(complete(_next(made)))
    if hasattr(made, "__await__"):
        made = complete(made)
    kind = type(made)
    if _is_lock(kind):
        return made, lambda: None
    if hasattr(kind, "__enter__") and hasattr(kind, "__exit__"):
        value = kind.__enter__(made)
        return value, lambda: _leave(lambda: kind.__exit__(made, None, None, None), made, complete)
    if hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__"):
        value = complete(kind.__aenter__(made))
        return value, lambda: _leave(lambda: complete(kind.__aexit__(made, None, None, None)), made, complete)
    return made, lambda: _close(made, complete)


async def _next(generator: AsyncGeneratorType[Any, Any]) -> Any:
    return await anext(generator, _MISSING)


def _ended(value: Any) -> None:
    if value is not _MISSING:
        raise RuntimeError("its factory yields a second time; what comes after the first yield is its clean-up")


def _is_lock(kind: type) -> bool:
    return hasattr(kind, "acquire") and hasattr(kind, "release")


def _leave(leave: Callable[[], object], made: Any, complete: Complete) -> None:
    try:
        leave()
    finally:
        _close(made, complete)


def _close(made: Any, complete: Complete) -> None:
    if isinstance(made, type | ModuleType):
        return
    for name in ("aclose", "close"):
        close = getattr(made, name, None)
        if callable(close):
            result = close()
            if hasattr(result, "__await__"):
                complete(result)
            return
