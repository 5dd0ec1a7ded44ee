"""Functions on their way to workers: by name where the worker can import them, else by value.

By name means "module:qualname", and only if that name leads to this very object here, or to the handler that `@task`
made of it. Everything else (lambdas, closures, functions of `__main__` or a notebook, bound methods, partials) is
written by cloudpickle and known by the hash of what was written: two equal functions are sent once.

Writing costs 100 us, so it is done once for each function object, as long as that cannot be noticed: cloudpickle copies
the globals and closure cells that a function uses, and the user may edit those between two submits. What was written
is used again only while all of them are the same objects, and each is immutable, importable, or a function of which the
same is true. Otherwise it is written anew.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Final

import attrs

from rxtasks.errors import PayloadError
from rxtasks.wire.culprit import find_culprit, short
from rxtasks.wire.message import Define
from rxtasks.wire.names import importable_name
from rxtasks.wire.snapshot import Snapshot

__all__ = ["CallableTable", "Entry", "importable_name"]


@attrs.frozen
class Entry:
    """How one function is made known to a worker."""

    key: str
    #: "module:qualname", or None with a blob.
    ref: str | None = None
    #: cloudpickle of the function.
    blob: bytes | None = None

    def define(self) -> Define:
        """Return the command that makes it known."""
        return Define(self.key, self.ref, self.blob)


#: Functions remembered; the oldest is forgotten first.
_MOST: Final = 256
#: Bytes of the largest blob that is remembered.
_LARGEST: Final = 2**20


class CallableTable:
    """Knows how each function travels; any thread may ask."""

    __slots__ = ("_known", "_lock")

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Entry, Snapshot]] = {}
        self._lock = Lock()

    def key_for(self, function: Callable[..., Any]) -> Entry:
        """Return how `function` travels as it is now; the same key means the same behaviour.

        Raises:
            PayloadError: it cannot travel: something it refers to does not pickle.
        """
        known = self._known.get(id(function))
        if known is not None and known[0] is function and known[2].holds():
            return known[1]
        ref = importable_name(function)
        snapshot: Snapshot | None
        if ref is not None:
            entry = Entry("r:" + ref, ref)
            snapshot = Snapshot.of_name(function, ref)
        else:
            snapshot = Snapshot.of_function(function)
            from hashlib import blake2b

            blob = _dump(function)
            entry = Entry("b:" + blake2b(blob, digest_size=16).hexdigest(), None, blob)
            if len(blob) > _LARGEST:
                snapshot = None
        with self._lock:
            self._known.pop(id(function), None)
            if snapshot is not None:
                while len(self._known) >= _MOST:
                    del self._known[next(iter(self._known))]
                self._known[id(function)] = (function, entry, snapshot)
        return entry


def _dump(function: Any) -> bytes:
    from rxtasks.wire.byvalue import dumps

    try:
        return dumps(function)
    except Exception as error:
        name = getattr(function, "__qualname__", None) or type(function).__name__
        path, culprit, reason = find_culprit({"function": function}, dumps)
        at = f" because of {path} ({type(culprit).__name__})" if path not in ("", "function") else ""
        raise PayloadError(
            f"{name} cannot travel to another process{at}: {short(str(reason or error))}", path or "function"
        ) from error
