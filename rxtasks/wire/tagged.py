"""Values in JSON, exactly: what JSON has no word for is carried by tags (Q-09).

A value that JSON carries without change stands as it is. Anything else becomes `{"$t": tag, ...}`; a dict that has a
key "$t" of its own is carried as `{"$t": "dict"}`. What has no tag is refused with the path to it: nothing is ever
changed silently. Instances of a subclass of a built-in type are refused too, Enum members apart.

Classes (Enum, dataclasses, attrs classes) travel as "module:QualName" and are rebuilt from a class that is already
imported, field by field; no __init__, no validator runs. Reading runs no code of the data's choice.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import math
import pathlib
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from rxtasks.errors import PayloadError
from rxtasks.wire.culprit import short
from rxtasks.wire.jsondepth import MAX_DEPTH, deeper
from rxtasks.wire.payload import exact_json, type_name
from rxtasks.wire.remote_errors import find_class

__all__ = ["STORED_LIMIT", "dump_tagged", "dump_tagged_args", "load_tagged", "load_tagged_args"]

#: Bytes of the largest stored payload.
STORED_LIMIT: Final = 16 * 2**20

TAG: Final = "$t"


def dump_tagged(value: Any, *, what: str = "value", limit: int = STORED_LIMIT) -> bytes:
    """Return `value` as JSON from which `load_tagged` gives an equal value of equal types.

    Raises:
        PayloadError: a part of it has no tag, it is nested over 200 levels deep (tags count), or it takes over `limit`
            bytes; `path` begins with `what`.
    """
    exact = exact_json(value, limit)
    if exact is not None and b'"$t"' not in exact[0]:
        return exact[0]
    return _write(_Writer().put(value, what, 0), what, limit)


def dump_tagged_args(args: tuple[Any, ...], kwargs: Mapping[str, Any], *, limit: int = STORED_LIMIT) -> bytes:
    """Return the arguments of a call as JSON for `load_tagged_args`.

    Raises:
        PayloadError: as dump_tagged; `path` begins with args[i] or kwargs['name'].
    """
    named = dict(kwargs)
    exact = exact_json([list(args), named], limit)
    if exact is not None and b'"$t"' not in exact[0]:
        return exact[0]
    writer = _Writer()
    return _write([writer.items(args, "args", 1), writer.put(named, "kwargs", 1)], "the arguments", limit)


def load_tagged(data: bytes) -> Any:
    """Return the value that `dump_tagged` wrote.

    Raises:
        PayloadError: it is no tagged JSON, or a class in it is not imported here or has changed.
    """
    return _get(_read(data), "value")


def load_tagged_args(data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the (args, kwargs) that `dump_tagged_args` wrote.

    Raises:
        PayloadError: as load_tagged.
    """
    pair = _read(data)
    if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not list:
        raise PayloadError("stored arguments are [args, kwargs]", "")
    args = tuple([_get(item, f"args[{index}]") for index, item in enumerate(pair[0])])
    kwargs = _get(pair[1], "kwargs")
    if type(kwargs) is not dict:
        raise PayloadError("stored keyword arguments are an object", "kwargs")
    return args, kwargs


def _write(tree: Any, what: str, limit: int) -> bytes:
    data = orjson.dumps(tree)
    if len(data) > limit:
        raise PayloadError(f"{what} takes {len(data)} bytes as JSON; allowed are {limit}", what)
    return data


def _read(data: bytes) -> Any:
    try:
        tree = orjson.loads(data)
    except ValueError as error:
        raise PayloadError(f"not JSON: {error}") from None
    if deeper(tree, bytes(data)):
        raise PayloadError(f"nested over {MAX_DEPTH} levels deep")
    return tree


# -- writing ----------------------------------------------------------------------------------------------------------


class _Writer:
    """Turns a value into a tree of plain JSON, one method for each group of types."""

    def put(self, value: Any, path: str, level: int) -> Any:
        if level > MAX_DEPTH:
            raise PayloadError(f"{_cut(path)} is nested over {MAX_DEPTH} levels deep (or contains itself)", _cut(path))
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return _put_str(value)
        if kind is int:
            return value if -(2**63) <= value < 2**64 else {TAG: "int", "v": format(value, "x")}
        if kind is float:
            return value if math.isfinite(value) else {TAG: "float", "v": repr(value)}
        if kind is list:
            return self.items(value, path, level + 1)
        if kind is dict:
            return self._dict(value, path, level)
        if kind is tuple:
            return {TAG: "tuple", "v": self.items(value, path, level + 2)}
        if kind is set or kind is frozenset:
            items = [self.put(item, path + "{...}", level + 2) for item in value]
            return {TAG: kind.__name__, "v": sorted(items, key=orjson.dumps)}
        put = _SCALARS.get(kind)
        if put is not None:
            return put(value, path)
        return self._object(value, path, level)

    def items(self, values: list[Any] | tuple[Any, ...], path: str, level: int) -> list[Any]:
        return [self.put(item, f"{path}[{index}]", level) for index, item in enumerate(values)]

    def _dict(self, value: dict[Any, Any], path: str, level: int) -> Any:
        if TAG not in value and all(type(key) is str and _put_str(key) is key for key in value):
            return {key: self.put(item, f"{path}[{short(repr(key), 60)}]", level + 1) for key, item in value.items()}
        pairs = []
        for key, item in value.items():
            at = f"{path}[{short(repr(key), 60)}]"
            pairs.append([self.put(key, at, level + 3), self.put(item, at, level + 3)])
        return {TAG: "dict", "v": pairs}

    def _object(self, value: Any, path: str, level: int) -> Any:
        kind = type(value)
        if isinstance(value, enum.Enum):
            return {TAG: "enum", "c": _ref(kind, path), "v": _member(value, path)}
        names = _field_names(kind)
        if names is None:
            _refuse(value, path)
        for name in _attribute_names(value):
            if name not in names and not isinstance(getattr(kind, name, None), cached_property):
                _refuse(value, f"{path}.{name}", "an attribute that is no field")
        fields = {}
        for name in names:
            try:
                item = getattr(value, name)
            except AttributeError:
                _refuse(value, f"{path}.{name}", "a field without a value")
            fields[name] = self.put(item, f"{path}.{name}", level + 2)
        return {TAG: "object", "c": _ref(kind, path), "v": fields}


def _put_str(value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:  # lone surrogates
        return {TAG: "str", "v": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    return value


def _put_path(value: pathlib.PurePath, path: str) -> Any:
    return {TAG: "path", "c": type(value).__name__, "v": _put_str(str(value))}


def _put_zone(value: Any, path: str) -> Any:
    if value is None:
        return None
    if value is UTC:
        return "UTC"
    if type(value) is timezone:
        offset = value.utcoffset(None)
        name = value.tzname(None)
        return [_delta(offset), None if name == timezone(offset).tzname(None) else _put_str(name)]
    if type(value) is ZoneInfo and value.key is not None:
        return {"key": value.key}
    _refuse(value, path, "a time zone other than UTC, a fixed offset or a ZoneInfo with a key")


def _delta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _put_moment(value: datetime | time, path: str) -> Any:
    tag = "datetime" if type(value) is datetime else "time"
    plain = value.replace(tzinfo=None, fold=0).isoformat()
    return {TAG: tag, "v": plain, "z": _put_zone(value.tzinfo, path), "f": value.fold}


_SCALARS: Final[dict[type[Any], Callable[[Any, str], Any]]] = {
    bytes: lambda value, path: {TAG: "bytes", "v": base64.b64encode(value).decode()},
    datetime: _put_moment,
    time: _put_moment,
    date: lambda value, path: {TAG: "date", "v": value.isoformat()},
    timedelta: lambda value, path: {TAG: "timedelta", "v": _delta(value)},
    Decimal: lambda value, path: {TAG: "decimal", "v": str(value)},
    UUID: lambda value, path: {TAG: "uuid", "v": str(value)},
    pathlib.PosixPath: _put_path,
    pathlib.WindowsPath: _put_path,
    pathlib.PurePosixPath: _put_path,
    pathlib.PureWindowsPath: _put_path,
}


def _member(value: enum.Enum, path: str) -> Any:
    kind = type(value)
    if kind.__members__.get(value.name) is value:
        return value.name
    if isinstance(value, enum.Flag) and type(value.value) is int:
        return value.value
    _refuse(value, path)


def _ref(kind: type[Any], path: str) -> str:
    if find_class(kind.__module__, kind.__qualname__) is not kind:
        raise PayloadError(f"{_cut(path)}: class {type_name(kind)} cannot be found by its name", _cut(path))
    return f"{kind.__module__}:{kind.__qualname__}"


def _field_names(kind: type[Any]) -> list[str] | None:
    """Return the names of the fields of a dataclass or attrs class, None for any other."""
    if any(base in kind.__mro__ for base in _NATIVE):
        return None
    if "__attrs_attrs__" in kind.__dict__:
        return [field.name for field in kind.__attrs_attrs__]
    if "__dataclass_fields__" in kind.__dict__:
        return [field.name for field in dataclasses.fields(kind)]
    return None


def _attribute_names(value: Any) -> list[str]:
    found = list(getattr(value, "__dict__", ()))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found.append(name)
    return found


_NATIVE: Final = (list, dict, tuple, set, frozenset, str, bytes, bytearray, int, float, complex, BaseException)


def _refuse(value: Any, path: str, why: str = "a type that JSON with tags does not carry") -> NoReturn:
    where = _cut(path)
    raise PayloadError(f"{where} cannot be stored: {type_name(type(value))}: {why}", where)


def _cut(path: str) -> str:
    return path if len(path) <= 300 else path[:150] + "..." + path[-147:]


# -- reading ----------------------------------------------------------------------------------------------------------


def _get(tree: Any, path: str) -> Any:
    kind = type(tree)
    if kind is list:
        return [_get(item, f"{path}[{index}]") for index, item in enumerate(tree)]
    if kind is not dict:
        return tree
    tag = tree.get(TAG)
    if tag is None:
        return {key: _get(item, f"{path}[{key!r}]") for key, item in tree.items()}
    read = _READERS.get(tag) if type(tag) is str else None
    if read is None:
        raise PayloadError(f"{_cut(path)} has the tag {tag!r}, which this rxtasks does not know", _cut(path))
    try:
        return read(tree, path)
    except PayloadError:
        raise
    except Exception as error:
        raise PayloadError(f"{_cut(path)} is no {tag}: {short(str(error))}", _cut(path)) from None


def _get_list(tree: Any, path: str) -> list[Any]:
    return [_get(item, f"{path}[{index}]") for index, item in enumerate(tree["v"])]


def _get_zone(zone: Any) -> Any:
    if zone is None:
        return None
    if zone == "UTC":
        return UTC
    if isinstance(zone, dict):
        return ZoneInfo(zone["key"])
    offset = timedelta(*zone[0])
    return timezone(offset) if zone[1] is None else timezone(offset, _get(zone[1], ""))


def _get_datetime(tree: Any, path: str) -> datetime:
    return datetime.fromisoformat(tree["v"]).replace(tzinfo=_get_zone(tree["z"]), fold=tree["f"])


def _get_time(tree: Any, path: str) -> time:
    return time.fromisoformat(tree["v"]).replace(tzinfo=_get_zone(tree["z"]), fold=tree["f"])


_PATHS: Final[dict[str, Any]] = {
    kind.__name__: kind
    for kind in (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath)
}


def _class(ref: str, path: str) -> Any:
    module, _, qualname = ref.partition(":")
    kind = find_class(module, qualname)
    if kind is None:
        raise PayloadError(f"{_cut(path)} is a {ref}, which is not imported here; name it in modules=", _cut(path))
    return kind


def _get_enum(tree: Any, path: str) -> Any:
    kind = _class(tree["c"], path)
    if not issubclass(kind, enum.Enum):
        raise PayloadError(f"{_cut(path)}: {tree['c']} is no Enum here", _cut(path))
    return kind[tree["v"]] if type(tree["v"]) is str else kind(tree["v"])


def _get_object(tree: Any, path: str) -> Any:
    kind = _class(tree["c"], path)
    names = _field_names(kind)
    fields = tree["v"]
    if names is None or set(names) != set(fields):
        raise PayloadError(f"{_cut(path)}: the fields of {tree['c']} have changed since it was stored", _cut(path))
    built = object.__new__(kind)
    for name in names:
        object.__setattr__(built, name, _get(fields[name], f"{path}.{name}"))
    return built


_READERS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "str": lambda tree, path: base64.b64decode(tree["v"]).decode("utf-8", "surrogatepass"),
    "int": lambda tree, path: int(tree["v"], 16),
    "float": lambda tree, path: float(tree["v"]),
    "tuple": lambda tree, path: tuple(_get_list(tree, path)),
    "set": lambda tree, path: set(_get_list(tree, path)),
    "frozenset": lambda tree, path: frozenset(_get_list(tree, path)),
    "bytes": lambda tree, path: base64.b64decode(tree["v"], validate=True),
    "datetime": _get_datetime,
    "time": _get_time,
    "date": lambda tree, path: date.fromisoformat(tree["v"]),
    "timedelta": lambda tree, path: timedelta(*tree["v"]),
    "decimal": lambda tree, path: Decimal(tree["v"]),
    "uuid": lambda tree, path: UUID(tree["v"]),
    "path": lambda tree, path: _PATHS[tree["c"]](_get(tree["v"], path)),
    "dict": lambda tree, path: {_get(key, path): _get(item, path) for key, item in tree["v"]},
    "enum": _get_enum,
    "object": _get_object,
}
