"""Values on their way between processes: exact JSON where they are that, else pickle.

`exact_json` asks whether a value comes back from JSON the same, types included. A walk in Python would cost twice as
much as the answer given in C: write it with orjson, read that back, and compare both in marshal's format, which tells
a tuple from a list, True from 1 and -0.0 from 0.0, and refuses all but the exact built-in types. marshal goes first: it
stops at 2,000 levels, while orjson 3.13 counts no tuples on its way down and writes past its buffer in deep ones.

What does not pickle, or refers to `__main__` (which is another module in a worker), goes by cloudpickle, by value.
A value that cannot travel at all is a PayloadError that names the place: `args[0]['x'].lock`.
"""

from __future__ import annotations

import marshal
import pickle
import re
import reprlib
from collections.abc import Mapping
from itertools import islice
from math import isfinite
from typing import Any, Final

import orjson

from rxtasks.errors import PayloadError
from rxtasks.wire.culprit import find_culprit, short
from rxtasks.wire.jsondepth import MAX_DEPTH, deeper, holds_tuple
from rxtasks.wire.remote_errors import dump_exception, load_exception

__all__ = [
    "INLINE_JSON",
    "PAYLOAD_LIMIT",
    "describe",
    "dump_args",
    "dump_exception",
    "dump_value",
    "exact_bytes",
    "exact_json",
    "load_args",
    "load_exception",
    "loads",
    "type_name",
]

#: Bytes of JSON up to which a value stands in its event.
INLINE_JSON: Final = 64 * 1024
#: Bytes of the largest pickled value.
PAYLOAD_LIMIT: Final = 2**30
#: Bytes of a pickle that is too large to be searched whole.
_LARGE: Final = 2**20
#: Characters of a preview.
PREVIEW: Final = 200

_JSON: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


def exact_json(value: Any, limit: int = INLINE_JSON) -> tuple[bytes, Any] | None:
    """Return (JSON of at most `limit` bytes, copy), or None if `value` would not come back the same; never raises.

    The copy is what reading the JSON gives: equal, and nobody else's (for what cannot be changed the value itself).
    The same means equal with equal types throughout: None, bool, int of 64 bits, finite float, str without lone
    surrogates, and lists and str-keyed dicts of these, at most 200 levels deep.
    """
    kind = type(value)
    try:
        if kind is list or kind is dict:
            marshalled = marshal.dumps(value, 2)
            if marshalled.count(b"(") > MAX_DEPTH and holds_tuple(value):  # no word but tuples' begins with it
                return None
            data = orjson.dumps(value, option=_JSON)
            if len(data) > limit:
                return None
            copy = orjson.loads(data)
            if marshal.dumps(copy, 2) != marshalled or (len(data) > 2 * MAX_DEPTH and deeper(copy, data)):
                return None
            return data, copy
        if kind is str or value is None or kind is int or kind is bool or (kind is float and isfinite(value)):
            data = orjson.dumps(value)
            return (data, value) if len(data) <= limit else None
        return None
    except (TypeError, ValueError, RecursionError, MemoryError):
        return None


#: Bytes of JSON in which nothing can be nested too deep.
_SHALLOW: Final = 2 * MAX_DEPTH


def exact_bytes(value: list[Any] | dict[Any, Any], limit: int = INLINE_JSON) -> bytes | None:
    """Return what `exact_json` returns, without the copy: for small values it need not be made.

    Of what orjson writes, only tuples (written as lists) and NaN and infinities (written as null) come back as something
    else; marshal's word for a tuple begins with "(". Where neither byte string occurs the value is exact.
    """
    try:
        # find() instead of `in`: a third of its time.
        if marshal.dumps(value, 2).find(b"(") < 0:
            data = orjson.dumps(value, option=_JSON)
            if len(data) <= _SHALLOW and len(data) <= limit and data.find(b"null") < 0:
                return data
    except (TypeError, ValueError, RecursionError, MemoryError):
        return None
    found = exact_json(value, limit)
    return None if found is None else found[0]


def type_name(kind: type[Any]) -> str:
    """Return "module.QualName" of a class; of a built-in one without "builtins."."""
    module = getattr(kind, "__module__", None)
    name = getattr(kind, "__qualname__", None) or str(kind)
    return name if module in (None, "builtins") else f"{module}.{name}"


class _Preview(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 6
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = 32
        self.maxarray = 32
        self.maxstring = self.maxother = self.maxlong = PREVIEW

    def repr_str(self, x: str, level: int) -> str:
        return repr(x) if len(x) <= PREVIEW else f"{x[:PREVIEW]!r}..."

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x) if len(x) <= PREVIEW else f"{x[:PREVIEW]!r}..."

    def repr_bytearray(self, x: bytearray, level: int) -> str:
        return repr(x) if len(x) <= PREVIEW else f"{x[:PREVIEW]!r}..."

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0 and x:
            return "{...}"
        items = [f"{self.repr1(key, level - 1)}: {self.repr1(x[key], level - 1)}" for key in islice(x, self.maxdict)]
        return "{" + ", ".join(items) + (", ...}" if len(x) > self.maxdict else "}")

    def repr_instance(self, x: Any, level: int) -> str:
        try:
            return repr(x)
        except Exception as error:
            return f"<{type_name(type(x))}: its repr raised {type(error).__name__}>"


_PREVIEW: Final = _Preview()


def describe(value: Any) -> tuple[str, str]:
    """Return the name of the value's type and a preview of at most 200 characters; never raises.

    Addresses in a repr are left out, so that a value looks the same in every process.
    """
    try:
        text = _ADDRESS.sub("", _PREVIEW.repr(value))
        preview = text if len(text) <= PREVIEW else text[: PREVIEW - 3] + "..."
        preview = preview.encode("utf-8", "backslashreplace").decode()[:PREVIEW]
    except Exception as error:
        preview = f"<its repr raised {type(error).__name__}>"
    return type_name(type(value)), preview


def dump_args(args: tuple[Any, ...], kwargs: Mapping[str, Any], *, limit: int = PAYLOAD_LIMIT) -> bytes:
    """Return the arguments of a call for `load_args`.

    Raises:
        PayloadError: one cannot travel (its `path` begins with args[i] or kwargs['name']), or all take over `limit`
            bytes.
    """
    pair = (args, kwargs if type(kwargs) is dict else dict(kwargs))
    data = _by_reference(pair)
    if data is None:
        data = _by_value(pair, {"args": args, "kwargs": pair[1]})
    return _sized(data, limit, "the arguments")


def dump_value(value: Any, *, what: str = "value", limit: int = PAYLOAD_LIMIT) -> bytes:
    """Return `value` for `loads`; `what` is the root of the path in errors ("result", "checkpoint").

    Raises:
        PayloadError: it cannot travel, or takes over `limit` bytes.
    """
    data = _by_reference(value)
    if data is None:
        data = _by_value(value, {what: value})
    return _sized(data, limit, f"the {what}")


def load_args(data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the (args, kwargs) that `dump_args` wrote.

    Raises:
        PayloadError: they cannot be rebuilt here.
    """
    args, kwargs = loads(data, what="args")
    return args, kwargs


def loads(data: bytes, *, what: str = "value") -> Any:
    """Return the value that `dump_value` wrote. Runs code that the pickle names: only for bytes of local workers.

    Raises:
        PayloadError: it cannot be rebuilt here; says why and what the value is to its task.
    """
    try:
        return pickle.loads(data)
    except (Exception, SystemExit) as error:  # rebuilding a value must not end the process that asks for it
        raise PayloadError(
            f"the {what} came, but cannot be rebuilt here: {type(error).__name__}: {short(str(error))}", what
        ) from error


def _by_reference(value: Any) -> bytes | None:
    """Return the pickle of `value`, or None if there is none or it refers to `__main__`."""
    try:
        data = pickle.dumps(value, 5)
        searched = data
        if len(data) > _LARGE:  # mostly buffers, which need not be searched: write it once more without them
            searched = pickle.dumps(value, 5, buffer_callback=_leave_out)
    except Exception:
        return None
    return None if b"__main__" in searched else data


def _leave_out(buffer: pickle.PickleBuffer) -> None:
    """Tell pickle (by a false value) that the buffer is taken care of."""


def _by_value(value: Any, roots: Mapping[str, Any]) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(value, protocol=5))
    except Exception as error:
        path, culprit, reason = find_culprit(roots, cloudpickle.dumps)
        raise PayloadError(
            f"{path or next(iter(roots))} cannot travel to another process: {type_name(type(culprit))}: "
            f"{short(str(reason or error))}",
            path,
        ) from error


def _sized(data: bytes, limit: int, what: str) -> bytes:
    if len(data) > limit:
        raise PayloadError(f"{what} take {len(data)} bytes; allowed are {limit}: pass a path or a handle instead")
    return data
