"""How deep JSON may be: a bound that keeps every later reader and writer of it from failing on it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import orjson

__all__ = ["MAX_DEPTH", "deeper"]

#: Levels of lists and objects within one value.
MAX_DEPTH: Final = 200


def deeper(value: Any, data: bytes, limit: int = MAX_DEPTH) -> bool:
    """Say whether `value`, of which `data` is the JSON, has more than `limit` levels of lists and objects.

    Cheap where there are no more than `limit` brackets at all; else orjson, which refuses what is deeper than its own
    limit, is asked to write the value with so many lists around it that the two limits meet: a walk in C.
    """
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    wrapped = value
    for _ in range(_writer_limit() - limit):
        wrapped = (wrapped,)
    return not _writable(wrapped)


def _writable(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


@cache
def _writer_limit() -> int:
    """Return how many levels orjson writes (254 in version 3)."""
    value: Any = ()
    levels = 1
    while levels < 1000 and _writable((value,)):
        value = (value,)
        levels += 1
    return levels
