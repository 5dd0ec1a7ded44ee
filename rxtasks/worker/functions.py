"""Which callable a function key stands for: resolved when a task first needs it, never earlier.

A key is defined by reference ("module:qualname", imported here), by value (cloudpickle), or not at all: then it is the
exact name of a handler that `modules=` registered, with or without the prefix "n:". In one process the table holds the
callables themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rxtasks.wire.loading import load_callable
from rxtasks.wire.message import Define
from rxtasks.worker.handler import Handler, plan_handler
from rxtasks.worker.registry import Registry, default_registry

__all__ = ["Functions"]


class Functions:
    """Handlers by function key.

    Args:
        table: callables or Defines by key; may be shared with who fills it.
        registry: where names are looked up.
    """

    def __init__(self, table: dict[str, Any] | None = None, registry: Registry | None = None) -> None:
        self.table: dict[str, Any] = {} if table is None else table
        self._registry = default_registry if registry is None else registry
        self._handlers: dict[str, Handler] = {}
        #: Code was loaded since this was cleared: importing may have changed the process.
        self.loaded = False

    def define(self, define: Define) -> None:
        """Make a key known."""
        self.table[define.key] = define
        self._handlers.pop(define.key, None)

    def forget(self, key: str) -> None:
        """Drop a key."""
        self.table.pop(key, None)
        self._handlers.pop(key, None)

    def handler(self, key: str) -> Handler:
        """Return the handler of `key`.

        Raises:
            UnknownHandler: there is none, or it cannot be imported here.
            PayloadError: it came by value and cannot be rebuilt here.
        """
        found = self._handlers.get(key)
        source = self.table.get(key)
        if found is not None and (source is None or found.source is source):
            return found
        handler = plan_handler(self._callable(key, source), source)
        self._handlers[key] = handler
        return handler

    def _callable(self, key: str, source: Any) -> Callable[..., Any]:
        if isinstance(source, Define):
            self.loaded = True
            if source.ref is not None or source.blob is not None:
                return load_callable(source)
        elif source is not None:
            return source  # type: ignore[no-any-return]
        return self._registry.get(key.removeprefix("n:"))
