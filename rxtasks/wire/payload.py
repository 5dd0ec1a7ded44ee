"""Values on their way between processes: exact JSON where they are that, else pickle.

`exact_json` asks whether a value comes back from JSON the same, types included. A walk in Python would cost twice as
much as the answer given in C: write it with orjson, read that back, and compare both in marshal's format, which tells
a tuple from a list, True from 1 and -0.0 from 0.0, and refuses all but the exact built-in types. marshal goes first: it
stops at 2,000 levels, while orjson 3.13 counts no tuples on its way down and writes past its buffer in deep ones.

Large buffers (numpy arrays and whatever else gives pickle a PickleBuffer) are written beside the pickle, into one sealed
memory file (`pack_args`, `pack_value`): copied once here, and mapped where they are loaded.

What does not pickle, or refers to `__main__` (which is another module in a worker), goes by cloudpickle, by value;
but not what cloudpickle makes something else of (see rxtasks.wire.byvalue).
A value that cannot travel at all is a PayloadError that names the place: `args[0]['x'].lock`.
"""

from __future__ import annotations

import marshal
import pickle
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import islice
from math import isfinite
from typing import Any, Final, TypeAlias

import orjson

from rxtasks.errors import PayloadError
from rxtasks.wire.culprit import find_culprit, short
from rxtasks.wire.framing import Buffer
from rxtasks.wire.jsondepth import MAX_DEPTH, deeper, holds_tuple
from rxtasks.wire.parcel import LOST, is_parcel, pack, unpack
from rxtasks.wire.remote_errors import dump_exception, load_exception
from rxtasks.wire.sealed import Sealed

__all__ = [
    "INLINE_JSON",
    "OUT_OF_BAND",
    "PAYLOAD_LIMIT",
    "Make",
    "describe",
    "dump_args",
    "dump_exception",
    "dump_value",
    "exact_bytes",
    "exact_json",
    "load_args",
    "load_exception",
    "loads",
    "pack_args",
    "pack_calls",
    "pack_value",
    "type_name",
]

#: Bytes of JSON up to which a value stands in its event.
INLINE_JSON: Final = 64 * 1024
#: Bytes of the largest pickled value, if nothing else is said (Settings.max_payload).
PAYLOAD_LIMIT: Final = 2**30
#: Bytes of buffers in one value from which they go beside the pickle. Below 128 KiB a memory file costs more than it saves.
OUT_OF_BAND: Final = 256 * 1024
#: Bytes of a pickle that is too large to be searched whole.
_LARGE: Final = 2**20
#: The first byte of what is no plain pickle.
_PARCEL: Final = b"r"
#: Characters of a preview.
PREVIEW: Final = 200

#: Makes a sealed memory file of pieces that have so many bytes in all, or None where there is no room for one.
Make: TypeAlias = Callable[[Sequence[Buffer], int], Sealed | None]
#: Returns the key under which an object is known where the pickle is loaded, None for any that is pickled.
Persist: TypeAlias = Callable[[Any], str | None]
#: Returns what stands for a key.
Find: TypeAlias = Callable[[str], Any]
#: pickle's buffer_callback.
Callback: TypeAlias = Callable[[pickle.PickleBuffer], Any] | None

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


def pack_args(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    make: Make,
    *,
    limit: int = PAYLOAD_LIMIT,
    persist: Persist | None = None,
) -> bytes | Sealed:
    """Return the arguments of a call for `load_args`, large buffers beside the pickle in what `make` makes.

    With `persist`, what that gives a key for travels as the key.

    Raises:
        PayloadError: as dump_args; nothing has been made then.
    """
    pair = (args, kwargs if type(kwargs) is dict else dict(kwargs))
    small = _small(pair, limit) if persist is None else None
    if small is not None:
        return small
    return _pack(pair, _argument_roots, make, "the arguments", limit, OUT_OF_BAND, persist)


def pack_calls(
    calls: Iterable[tuple[Any, ...]], make: Make, *, limit: int = PAYLOAD_LIMIT, persist: Persist | None = None
) -> Iterator[bytes | Sealed]:
    """Yield what `pack_args` returns for each tuple of arguments, each when it is asked for.

    Raises:
        PayloadError: as pack_args, at the call that cannot travel.
    """
    for args in calls:
        small = _small((args, {}), limit) if persist is None else None
        yield pack_args(args, {}, make, limit=limit, persist=persist) if small is None else small


def _small(pair: tuple[Any, Any], limit: int) -> bytes | None:
    """Return what _pack would, in half the time, where that is small and by reference, and has no buffers: nearly always."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(pair, 5, buffer_callback=buffers.append)
    except Exception:
        return None
    return data if not buffers and len(data) < _LARGE and len(data) <= limit and b"__main__" not in data else None


def _argument_roots(pair: tuple[Any, Any]) -> dict[str, Any]:
    return {"args": pair[0], "kwargs": pair[1]}


def pack_value(
    value: Any, make: Make, *, what: str = "value", limit: int = PAYLOAD_LIMIT, least: int = OUT_OF_BAND
) -> bytes | Sealed:
    """Return `value` for `loads`, buffers of `least` bytes in all beside the pickle in what `make` makes.

    Raises:
        PayloadError: as dump_value; nothing has been made then.
    """
    return _pack(value, lambda value: {what: value}, make, f"the {what}", limit, least, None)


def _pack(
    value: Any,
    roots: Callable[[Any], dict[str, Any]],
    make: Make,
    what: str,
    limit: int,
    least: int,
    persist: Persist | None,
) -> bytes | Sealed:
    buffers: list[pickle.PickleBuffer] = []
    data = _by_reference(value, buffers.append, persist)
    if data is None:
        buffers.clear()
        data = _by_value(value, roots(value), buffers.append, persist)
    if buffers:
        packed = _beside(data, buffers, make, what, limit, least)
        if packed is not None:
            return packed
        data = _by_reference(value, None, persist)
        if data is None:
            data = _by_value(value, roots(value), None, persist)
    _within(len(data), limit, what)
    if len(data) < _LARGE:
        return data
    return make((data,), len(data)) or data


def _beside(
    data: bytes, buffers: list[pickle.PickleBuffer], make: Make, what: str, limit: int, least: int
) -> bytes | Sealed | None:
    """Return the parcel of the pickle and its buffers; None where they better travel within the pickle."""
    try:
        views = [buffer.raw() for buffer in buffers]
    except BufferError:  # not contiguous: pickle knows what to say
        return None
    if sum(map(len, views)) < least:
        return None
    pieces, size = pack(data, views)
    _within(size, limit, what)
    return make(pieces, size) or b"".join(pieces)


def load_args(data: Buffer | Sealed, find: Find | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the (args, kwargs) that `dump_args` or `pack_args` wrote; `find` gives what stands for a key.

    Raises:
        PayloadError: they cannot be rebuilt here.
    """
    args, kwargs = loads(data, what="args", find=find)
    return args, kwargs


def loads(data: Buffer | Sealed, *, what: str = "value", find: Find | None = None, frozen: bool = False) -> Any:
    """Return the value that `dump_value` or `pack_value` wrote. Runs code that the pickle names: only for bytes of local
    workers. Arrays of a value that came in a memory file lie there, and keep all of it in memory.

    With `frozen`, arrays that travelled beside the pickle cannot be written to.

    Raises:
        PayloadError: it cannot be rebuilt here; says why and what the value is to its task.
    """
    try:
        if find is None and type(data) is bytes and data[:1] != _PARCEL:
            return pickle.loads(data)
        return _load_other(data, find, frozen)
    except KeyboardInterrupt:  # of whoever waits for the value
        raise
    except BaseException as error:
        raise PayloadError(
            f"the {what} came, but cannot be rebuilt here: {type(error).__name__}: {short(str(error))}", what
        ) from error


def _load_other(data: Buffer | Sealed, find: Find | None, frozen: bool) -> Any:
    if isinstance(data, Sealed):
        data = data.view()
    if is_parcel(data):
        if not frozen and type(data) is bytes:
            # It came in frames: what is made of it can be written to, as if it had come another way.
            data = bytearray(data)
        pickled, buffers = unpack(memoryview(data).toreadonly() if frozen else memoryview(data))
    elif bytes(data[:4]) == LOST:
        raise MemoryError("this process had no descriptor or no memory left when it came; see ulimit -n")
    else:
        pickled, buffers = memoryview(data), []
    if find is None:
        return pickle.loads(pickled, buffers=buffers)
    return _Finding(pickled, buffers, find).load()


class _Finding(pickle.Unpickler):
    """Asks for what stands for a key."""

    def __init__(self, data: memoryview, buffers: Sequence[memoryview], find: Find) -> None:
        super().__init__(BytesIO(data), buffers=buffers)
        self._find = find

    def persistent_load(self, pid: Any) -> Any:
        return self._find(pid)


class _Persisting(pickle.Pickler):
    """Writes a key for what has one."""

    def __init__(self, file: BytesIO, callback: Callback, persist: Persist) -> None:
        super().__init__(file, 5, buffer_callback=callback)
        self._persist = persist

    def persistent_id(self, obj: Any) -> Any:
        return self._persist(obj)


def _by_reference(value: Any, callback: Callback = None, persist: Persist | None = None) -> bytes | None:
    """Return the pickle of `value`, or None if there is none or it refers to `__main__`.

    With `callback`, buffers are given to that and left out.
    """
    try:
        if persist is None:
            data = pickle.dumps(value, 5, buffer_callback=callback)
        else:
            file = BytesIO()
            _Persisting(file, callback, persist).dump(value)
            data = file.getvalue()
        searched = data
        if (
            len(data) > _LARGE and callback is persist is None
        ):  # mostly buffers: write it once more without them to search it
            searched = pickle.dumps(value, 5, buffer_callback=_leave_out)
    except Exception:
        return None
    return None if b"__main__" in searched else data


def _leave_out(buffer: pickle.PickleBuffer) -> None:
    """Tell pickle (by a false value) that the buffer is taken care of."""


def _by_value(value: Any, roots: Mapping[str, Any], callback: Callback = None, persist: Persist | None = None) -> bytes:
    from rxtasks.wire.byvalue import dumps

    try:
        return dumps(value, callback, persist)
    except Exception as error:
        path, culprit, reason = find_culprit(roots, lambda part: dumps(part, _leave_out, persist))
        raise PayloadError(
            f"{path or next(iter(roots))} cannot travel to another process: {type_name(type(culprit))}: "
            f"{short(str(reason or error))}",
            path,
        ) from error


def _sized(data: bytes, limit: int, what: str) -> bytes:
    _within(len(data), limit, what)
    return data


def _within(size: int, limit: int, what: str) -> None:
    if size > limit:
        raise PayloadError(
            f"{what} would take {size} bytes; allowed are {limit} (setting max_payload): raise it, or pass a path instead"
        )
