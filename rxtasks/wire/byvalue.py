"""cloudpickle, without what it changes: an open file would arrive as a StringIO of its text, a memoryview as bytes.

And with what it leaves out, see rxtasks.wire.reducing.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle

from rxtasks.wire.reducing import reduced, with_slots

__all__ = ["dumps"]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, memoryview):
            raise pickle.PicklingError("a view of memory would arrive as bytes; pass bytes(view)")
        if isinstance(obj, io.TextIOWrapper) and obj is not sys.stdout and obj is not sys.stderr:
            raise pickle.PicklingError("an open file cannot go along; pass its path, and open it in the handler")
        made = reduced(obj)
        if made is not None:
            return made
        made = super().reducer_override(obj)
        return with_slots(obj, made) if isinstance(obj, type) else made


class _Persisting(_Pickler):
    """Writes a key for what has one. A class of its own: pickle asks for every object where there is a persistent_id."""

    def __init__(self, file: io.BytesIO, callback: Any, persist: Callable[[Any], Any]) -> None:
        super().__init__(file, protocol=5, buffer_callback=callback)
        self._persist = persist

    def persistent_id(self, obj: Any) -> Any:
        return self._persist(obj)


def dumps(
    value: Any,
    callback: Callable[[pickle.PickleBuffer], Any] | None = None,
    persist: Callable[[Any], Any] | None = None,
) -> bytes:
    """Return the pickle of `value`; functions and classes that cannot be imported elsewhere are in it by value.

    With `callback`, buffers are given to that and left out; with `persist`, what that gives a key for is written as the
    key.

    Raises:
        Exception: it cannot be pickled, or would arrive as something else.
    """
    with io.BytesIO() as file:
        if persist is None:
            _Pickler(file, protocol=5, buffer_callback=callback).dump(value)
        else:
            _Persisting(file, callback, persist).dump(value)
        return file.getvalue()
