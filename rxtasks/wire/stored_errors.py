"""Exceptions in a durable store: class, arguments and attributes as tagged JSON, rebuilt where the result is asked for.

Only exact arguments are stored (rxtasks.wire.tagged); attributes that are not are left behind. Only a class that is imported
already and is an Exception is rebuilt, by the built-in class that it descends from, as in rxtasks.wire.remote_errors: neither
its `__init__` nor a property of it runs, and nothing is imported or unpickled for what stands in a row.
"""

from __future__ import annotations

from typing import Any, Final

from rxtasks.errors import PayloadError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.wire.remote_errors import find_class, native_class
from rxtasks.wire.tagged import dump_tagged, load_tagged

__all__ = ["restore_exception", "store_exception"]

#: Bytes of what is kept of an exception, its traceback apart.
_LIMIT: Final = 256 * 1024
#: Groups within groups.
_DEPTH: Final = 20
#: A class that says by these what its state is has one that JSON does not show.
_STATEFUL: Final = ("__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")

#: The attributes of an exception, whatever its class makes of `__dict__`.
_ATTRIBUTES: Final = BaseException.__dict__["__dict__"]


def store_exception(error: BaseException) -> bytes | None:
    """Return `error` for `restore_exception`, or None if it cannot be rebuilt from JSON; never raises."""
    try:
        parts = _parts(error, _DEPTH)
        return None if parts is None else dump_tagged(parts, what="exception", limit=_LIMIT)
    except BaseException:  # what its own code raises may be anything
        return None


def restore_exception(data: bytes, info: TaskErrorInfo) -> BaseException | None:
    """Return the exception that `store_exception` took apart, or None if it cannot be rebuilt here.

    `info` is what the task said of it: an exception of another class than `info.type` is not rebuilt.
    """
    try:
        parts = load_tagged(data)
        if info.type not in (parts[1], f"{parts[0]}.{parts[1]}"):
            return None
        return _rebuilt(parts, _DEPTH)
    except (PayloadError, TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError):
        return None


def _parts(error: BaseException, depth: int) -> list[Any] | None:
    kind = type(error)
    native = native_class(kind)
    if not isinstance(error, Exception) or "<" in kind.__qualname__ or depth <= 0 or not _plain(kind, native):
        return None
    reduced: Any = native.__reduce__(error)  # OSError and ImportError know more than args
    values, members = list(reduced[1]), None
    if isinstance(error, BaseExceptionGroup):
        values, members = [error.message], [_parts(member, depth - 1) for member in error.exceptions]
        if None in members:
            return None
    attributes = dict(reduced[2]) if len(reduced) > 2 and reduced[2] else {}
    kept = {name: value for name, value in attributes.items() if isinstance(name, str) and _exact(value)}
    return [kind.__module__, kind.__qualname__, values, kept, members]


def _plain(kind: type[BaseException], native: type[BaseException]) -> bool:
    for base in kind.__mro__[: kind.__mro__.index(native)]:
        if base.__dict__.get("__slots__") or any(name in base.__dict__ for name in _STATEFUL):
            return False
    return True


def _exact(value: Any) -> bool:
    try:
        dump_tagged(value, limit=_LIMIT)
    except PayloadError:
        return False
    return True


def _rebuilt(parts: list[Any], depth: int) -> BaseException | None:
    module, qualname, values, attributes, members = parts
    kind = find_class(module, qualname)
    if kind is None or not issubclass(kind, Exception) or depth <= 0:
        return None
    native = native_class(kind)
    if members is not None:
        found = [_rebuilt(member, depth - 1) for member in members]
        if None in found:
            return None
        values = [*values, found]
    error: BaseException = native.__new__(kind, *values)
    native.__init__(error, *values)
    for name, value in attributes.items():
        own = getattr(native, name, None)
        if own is not None and hasattr(own, "__set__"):  # a field of the built-in class
            own.__set__(error, value)
        else:
            _ATTRIBUTES.__get__(error)[name] = value
    return error
