"""Values to trees of plain JSON with tags (see tagged.py)."""

from __future__ import annotations

import base64
import enum
import math
import pathlib
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from rxtasks.errors import PayloadError
from rxtasks.lifecycle.secret import Secret
from rxtasks.wire.culprit import short
from rxtasks.wire.handle import Handle
from rxtasks.wire.jsondepth import MAX_DEPTH
from rxtasks.wire.payload import type_name
from rxtasks.wire.remote_errors import find_class
from rxtasks.wire.tags import TAG, cut, field_names

__all__ = ["TagWriter"]


class TagWriter:
    """Turns a value into a tree of plain JSON, one method for each group of types."""

    def put(self, value: Any, path: str, level: int) -> Any:
        if level > MAX_DEPTH:
            raise PayloadError(f"{cut(path)} is nested over {MAX_DEPTH} levels deep (or contains itself)", cut(path))
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
        if kind is Secret:
            return {TAG: "secret", "v": value.source}
        names = field_names(kind)
        if kind is Handle:
            _refuse(
                value,
                path,
                "what was given to put() lives only as long as this service, and a stored task may outlive it; give the task"
                " the value itself, or the path of a file that holds it",
            )
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
        raise PayloadError(f"{cut(path)}: class {type_name(kind)} cannot be found by its name", cut(path))
    return f"{kind.__module__}:{kind.__qualname__}"


def _attribute_names(value: Any) -> list[str]:
    found = list(getattr(value, "__dict__", ()))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found.append(name)
    return found


def _refuse(value: Any, path: str, why: str = "a type that JSON with tags does not carry") -> NoReturn:
    where = cut(path)
    raise PayloadError(f"{where} cannot be stored: {type_name(type(value))}: {why}", where)
