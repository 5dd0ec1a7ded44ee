"""Trees of plain JSON with tags to values (see tagged.py)."""

from __future__ import annotations

import base64
import enum
import pathlib
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from rxtasks.errors import PayloadError
from rxtasks.lifecycle.secret import Secret
from rxtasks.wire.culprit import short
from rxtasks.wire.remote_errors import find_class
from rxtasks.wire.tags import TAG, cut, field_names

__all__ = ["rebuild"]


def rebuild(tree: Any, path: str) -> Any:
    """Return the value that `tree` stands for; `path` is where in the whole it is.

    Raises:
        PayloadError: it stands for nothing here.
    """
    kind = type(tree)
    if kind is list:
        return [rebuild(item, f"{path}[{index}]") for index, item in enumerate(tree)]
    if kind is not dict:
        return tree
    tag = tree.get(TAG)
    if tag is None:
        return {key: rebuild(item, f"{path}[{key!r}]") for key, item in tree.items()}
    read = _READERS.get(tag) if type(tag) is str else None
    if read is None:
        raise PayloadError(f"{cut(path)} has the tag {tag!r}, which this rxtasks does not know", cut(path))
    try:
        return read(tree, path)
    except PayloadError:
        raise
    except Exception as error:
        raise PayloadError(f"{cut(path)} is no {tag}: {short(str(error))}", cut(path)) from None


def _get_list(tree: Any, path: str) -> list[Any]:
    return [rebuild(item, f"{path}[{index}]") for index, item in enumerate(tree["v"])]


def _get_zone(zone: Any) -> Any:
    if zone is None:
        return None
    if zone == "UTC":
        return UTC
    if isinstance(zone, dict):
        return ZoneInfo(zone["key"])
    offset = timedelta(*zone[0])
    return timezone(offset) if zone[1] is None else timezone(offset, rebuild(zone[1], ""))


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
        raise PayloadError(f"{cut(path)} is a {ref}, which is not imported here; name it in modules=", cut(path))
    return kind


def _get_enum(tree: Any, path: str) -> Any:
    kind = _class(tree["c"], path)
    if not issubclass(kind, enum.Enum):
        raise PayloadError(f"{cut(path)}: {tree['c']} is no Enum here", cut(path))
    return kind[tree["v"]] if type(tree["v"]) is str else kind(tree["v"])


def _get_object(tree: Any, path: str) -> Any:
    kind = _class(tree["c"], path)
    names = field_names(kind)
    fields = tree["v"]
    if names is None or set(names) != set(fields):
        raise PayloadError(f"{cut(path)}: the fields of {tree['c']} have changed since it was stored", cut(path))
    built = object.__new__(kind)
    for name in names:
        object.__setattr__(built, name, rebuild(fields[name], f"{path}.{name}"))
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
    "secret": lambda tree, path: Secret(tree["v"]),
    "uuid": lambda tree, path: UUID(tree["v"]),
    "path": lambda tree, path: _PATHS[tree["c"]](rebuild(tree["v"], path)),
    "dict": lambda tree, path: {rebuild(key, path): rebuild(item, path) for key, item in tree["v"]},
    "enum": _get_enum,
    "object": _get_object,
}
