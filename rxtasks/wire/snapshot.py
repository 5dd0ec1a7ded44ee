"""May a function that was written be used again as written? Only while nothing it refers to can have changed."""

from __future__ import annotations

import enum
import sys
import types
from operator import is_
from pathlib import PurePath
from typing import Any, Final

from rxtasks.wire.culprit import names_in
from rxtasks.wire.names import importable_name, registration_of
from rxtasks.wire.payload import type_name

__all__ = ["Snapshot"]

_ABSENT: Any = object()

#: By name, so that a worker that never asks does not import their modules.
_IMMUTABLE: Final = frozenset(
    {"NoneType", "ellipsis", "NotImplementedType", "bool", "int", "float", "complex", "str", "bytes", "range"}
    | {"datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone"}
    | {"decimal.Decimal", "fractions.Fraction", "uuid.UUID", "re.Pattern"}
)


class Snapshot:
    """What a function referred to when it was written: (where, name, value) each."""

    __slots__ = ("_cells", "_names", "_parts")

    def __init__(self) -> None:
        self._names: list[tuple[dict[str, Any], str, Any]] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._parts: list[tuple[Any, tuple[Any, ...]]] = []

    def holds(self) -> bool:
        """Say whether every one is still the same object."""
        for space, name, value in self._names:
            if space.get(name, _ABSENT) is not value:
                return False
        for cell, value in self._cells:
            if _content(cell) is not value:
                return False
        for function, parts in self._parts:
            now = _parts(function)
            if len(now) != len(parts) or not all(map(is_, now, parts)):
                return False
        return True

    @classmethod
    def of_name(cls, function: Any, ref: str) -> Snapshot | None:
        """Return what must hold for `ref` to lead to `function` again; None if that is not cheap to tell."""
        module, _, qualname = ref.partition(":")
        if "." in qualname:
            return None
        space = vars(sys.modules[module])
        if qualname not in space:
            return None
        snapshot = cls()
        snapshot._names.append((space, qualname, space[qualname]))
        return snapshot

    @classmethod
    def of_function(cls, function: Any) -> Snapshot | None:
        """Return what `function` refers to, or None if some of it may change without being replaced."""
        snapshot = cls()
        return snapshot if snapshot._add(function, set()) else None

    def _add(self, value: Any, seen: set[int]) -> bool:
        """Record what `value` refers to; return False if it may change unseen."""
        kind = type(value)
        if type_name(kind) in _IMMUTABLE or isinstance(value, enum.Enum | PurePath):
            return True
        registration = registration_of(value)
        if registration is value:  # frozen, as its options are
            return self._add(value.function, seen)
        if kind is tuple or kind is frozenset:
            return all(self._add(item, seen) for item in value)
        if kind is types.ModuleType:
            return sys.modules.get(value.__name__) is value
        if kind is types.BuiltinFunctionType:
            return value.__self__ is None or isinstance(value.__self__, types.ModuleType)
        if kind is not types.FunctionType:
            return isinstance(value, type) and importable_name(value) is not None
        if id(value) in seen or importable_name(value) is not None:
            return True
        seen.add(id(value))
        return self._add_function(value, seen)

    def _add_function(self, function: types.FunctionType, seen: set[int]) -> bool:
        self._parts.append((function, _parts(function)))
        held = (function.__defaults__ or (), *(function.__kwdefaults__ or {}).values(), *function.__dict__.values())
        if not all(self._add(item, seen) for item in held):
            return False
        for cell in function.__closure__ or ():
            value = _content(cell)
            self._cells.append((cell, value))
            if value is not _ABSENT and not self._add(value, seen):
                return False
        space = function.__globals__
        for name in set(names_in(function.__code__)):
            value = space.get(name, _ABSENT)
            self._names.append((space, name, value))
            if value is not _ABSENT and not self._add(value, seen):
                return False
        return True


def _parts(function: types.FunctionType) -> tuple[Any, ...]:
    """Return what can be assigned to on a function and changes what is written."""
    return (
        function.__code__,
        function.__defaults__,
        *(function.__kwdefaults__ or {}).values(),
        *function.__dict__.values(),
    )


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT
