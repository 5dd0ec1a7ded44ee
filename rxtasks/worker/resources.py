"""What a worker builds once for all its tasks and closes when it stops: connections, models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import GeneratorType
from typing import Any

__all__ = ["Resources"]


class Resources:
    """Resources by name, built at first use.

    A factory returns the resource; a context manager is entered and later left, a generator function yields the
    resource once and cleans up after its yield, anything else is closed by its close() if it has one.
    """

    def __init__(self) -> None:
        self._factories: dict[str, Callable[[], Callable[[], Any]]] = {}
        self._built: dict[str, tuple[Any, Callable[[], object]]] = {}
        self._lock = threading.RLock()

    def add(self, name: str, factory: Callable[[], Callable[[], Any]]) -> None:
        """Make a name known; `factory()` gives the factory itself, when it is first needed."""
        with self._lock:
            self._factories[name] = factory

    def get(self, name: str) -> Any:
        """Return the resource.

        Raises:
            LookupError: there is none of that name.
        """
        with self._lock:
            found = self._built.get(name)
            if found is None:
                factory = self._factories.get(name)
                if factory is None:
                    known = ", ".join(self._factories) or "none"
                    raise LookupError(f"the worker has no resource {name!r} (it has: {known}); see resources=")
                found = self._built[name] = _build(factory()())
            return found[0]

    def close(self) -> Iterable[tuple[str, Exception]]:
        """Close what was built, last first; return what failed."""
        failures: list[tuple[str, Exception]] = []
        with self._lock:
            while self._built:
                name, (_, close) = self._built.popitem()
                try:
                    close()
                except Exception as error:
                    failures.append((name, error))
        return failures


def _build(made: Any) -> tuple[Any, Callable[[], object]]:
    if isinstance(made, GeneratorType):
        value = next(made)
        return value, lambda: next(made, None)
    close = getattr(made, "close", None)
    finish: Callable[[], object] = close if callable(close) else lambda: None
    kind = type(made)
    if hasattr(kind, "__enter__") and hasattr(kind, "__exit__"):
        value = made.__enter__()

        def leave() -> None:  # both: leaving a database connection's context commits, and does not close it
            try:
                made.__exit__(None, None, None)
            finally:
                finish()

        return value, leave
    return made, finish
