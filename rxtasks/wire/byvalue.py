"""cloudpickle, without what it changes: an open file would arrive as a StringIO of its text, a memoryview as bytes."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

import cloudpickle

__all__ = ["dumps"]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, memoryview):
            raise pickle.PicklingError("a view of memory would arrive as bytes; pass bytes(view)")
        if isinstance(obj, io.TextIOWrapper) and obj is not sys.stdout and obj is not sys.stderr:
            raise pickle.PicklingError("an open file cannot go along; pass its path, and open it in the handler")
        return super().reducer_override(obj)


def dumps(value: Any) -> bytes:
    """Return the pickle of `value`; functions and classes that cannot be imported elsewhere are in it by value.

    Raises:
        Exception: it cannot be pickled, or would arrive as something else.
    """
    with io.BytesIO() as file:
        _Pickler(file, protocol=5).dump(value)
        return file.getvalue()
