"""How deep JSON may be: a bound that keeps every later reader and writer of it from failing on it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import orjson

__all__ = ["MAX_DEPTH", "deeper", "holds_tuple"]

#: Levels of lists and objects within one value.
MAX_DEPTH: Final = 200

#: Levels beyond which it is not tried what orjson takes.
_MOST_TRIED: Final = 400


def deeper(value: Any, data: bytes, limit: int = MAX_DEPTH) -> bool:
    """Say whether `value`, what reading the JSON `data` gave, has more than `limit` levels of lists and objects.

    Cheap where there are no more than `limit` brackets at all; else orjson, which refuses what is deeper than its own
    limit, is asked to write the value with so many lists around it that the two limits meet: a walk in C.
    """
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    around = _writer_limit() - limit
    if around < 0:
        return _walk(value, limit)
    for _ in range(around):
        value = [value]
    return not _writable(value)


def holds_tuple(value: Any) -> bool:
    """Say whether there is a tuple within lists and dicts, whatever their depth."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if type(part) is tuple:
            return True
        if type(part) is list:
            waiting += part
        elif type(part) is dict:
            waiting += part.values()
    return False


def _writable(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _walk(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        level = [part for part in level if type(part) is list or type(part) is dict]
        if not level:
            return False
        level = [child for part in level for child in (part.values() if type(part) is dict else part)]
    return True


@cache
def _writer_limit() -> int:
    """Return how many levels of lists orjson writes (254 in version 3); -1 if it has no limit, or a low one."""
    value: Any = []
    for levels in range(1, _MOST_TRIED):
        value = [value]
        if not _writable(value):
            return levels
    return -1
