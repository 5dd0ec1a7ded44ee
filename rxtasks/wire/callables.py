"""Functions on their way to workers: by name where the worker can import them, else by value.

By name means "module:qualname", and only if that name leads to this very object here, or to the handler that `@task`
made of it. Everything else (lambdas, closures, functions of `__main__` or a notebook, bound methods, partials) is
written by cloudpickle and known by the hash of what was written: two equal functions are sent once.

Writing costs 100 us, so it is done once for each function object, as long as that cannot be noticed: cloudpickle copies
the globals and closure cells that a function uses, and the user may edit those between two submits. What was written
is used again only while all of them are the same objects, and each is immutable, importable, or a function of which the
same is true. Otherwise it is written anew.
"""

from __future__ import annotations

import enum
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from operator import is_
from pathlib import PurePath
from threading import Lock
from typing import Any, Final

import attrs

from rxtasks.errors import PayloadError, UnknownHandler
from rxtasks.wire.culprit import find_culprit, short
from rxtasks.wire.message import Define
from rxtasks.wire.payload import type_name

__all__ = ["CallableTable", "Entry", "importable_name", "load_callable"]


@attrs.frozen
class Entry:
    """How one function is made known to a worker."""

    key: str
    #: "module:qualname", or None with a blob.
    ref: str | None = None
    #: cloudpickle of the function.
    blob: bytes | None = None

    def define(self) -> Define:
        """Return the command that makes it known."""
        return Define(self.key, self.ref, self.blob)


#: Functions remembered; the oldest is forgotten first.
_MOST: Final = 256
#: Bytes of the largest blob that is remembered.
_LARGEST: Final = 2**20

#: What these names mean differs between processes.
_MAIN: Final = ("__main__", "__mp_main__")

_REGISTRATION: Final = "rxtasks.worker.registry.Registration"

_ABSENT: Any = object()


class CallableTable:
    """Knows how each function travels; any thread may ask."""

    __slots__ = ("_known", "_lock")

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Entry, _Snapshot]] = {}
        self._lock = Lock()

    def key_for(self, function: Callable[..., Any]) -> Entry:
        """Return how `function` travels as it is now; the same key means the same behaviour.

        Raises:
            PayloadError: it cannot travel: something it refers to does not pickle.
        """
        known = self._known.get(id(function))
        if known is not None and known[0] is function and known[2].holds():
            return known[1]
        ref = importable_name(function)
        snapshot: _Snapshot | None
        if ref is not None:
            entry = Entry("r:" + ref, ref)
            snapshot = _Snapshot.of_name(function, ref)
        else:
            snapshot = _Snapshot.of_function(function)
            from hashlib import blake2b

            blob = _dump(function)
            entry = Entry("b:" + blake2b(blob, digest_size=16).hexdigest(), None, blob)
            if len(blob) > _LARGEST:
                snapshot = None
        with self._lock:
            self._known.pop(id(function), None)
            if snapshot is not None:
                while len(self._known) >= _MOST:
                    del self._known[next(iter(self._known))]
                self._known[id(function)] = (function, entry, snapshot)
        return entry


def load_callable(define: Define) -> Callable[..., Any]:
    """Return the function that `define` makes known; imports its module where it travels by name.

    Raises:
        UnknownHandler: the module cannot be imported here, or has no such function.
        PayloadError: the function came by value and cannot be rebuilt here.
    """
    if define.ref is not None:
        return _import(define.ref)
    if define.blob is None:
        raise UnknownHandler(f"function {define.key} came with neither a name nor a content")
    import pickle

    try:
        function = pickle.loads(define.blob)
    except Exception as error:
        raise PayloadError(
            f"the function came, but cannot be rebuilt here: {type(error).__name__}: {short(str(error))}", "function"
        ) from error
    if not callable(function):
        raise PayloadError(f"what came as a function is {type(function).__name__}", "function")
    return function  # type: ignore[no-any-return]


def _import(ref: str) -> Callable[..., Any]:
    module, _, qualname = ref.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise UnknownHandler(
            f"cannot import {module!r} for {ref!r}: {type(error).__name__}: {short(str(error))}"
        ) from error
    try:
        for name in qualname.split("."):
            found = getattr(found, name)
    except AttributeError:
        raise UnknownHandler(f"module {module!r} has no {qualname!r}") from None
    if not callable(found):
        raise UnknownHandler(f"{ref!r} is {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def importable_name(function: Any) -> str | None:
    """Return "module:qualname" if a worker finds `function` (or the handler made of it) under it, else None."""
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module in _MAIN or "<" in qualname:
        return None
    return f"{module}:{qualname}" if _leads_to(module, qualname, function) else None


def _leads_to(module: str, qualname: str, function: Any) -> bool:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        if found is None:
            return False
        found = getattr(found, name, None)
    if found is function:
        return True
    # @task put a handler in the function's place: the worker finds the handler, which calls the function.
    registration = _registration(found)
    return registration is not None and registration.function is function


def _registration(value: Any) -> Any:
    """Return what @task left on a function (or `value`, if it is that); known by name, being one floor above."""
    if type_name(type(value)) == _REGISTRATION:
        return value
    found = getattr(value, "__rxtasks__", None)
    return found if type_name(type(found)) == _REGISTRATION else None


def _dump(function: Any) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(function, protocol=5))
    except Exception as error:
        name = getattr(function, "__qualname__", None) or type(function).__name__
        path, culprit, reason = find_culprit({"function": function}, cloudpickle.dumps)
        at = f" because of {path} ({type(culprit).__name__})" if path not in ("", "function") else ""
        raise PayloadError(
            f"{name} cannot travel to another process{at}: {short(str(reason or error))}", path or "function"
        ) from error


# -- may what was written be used again? ------------------------------------------------------------------------------

#: By name, so that a worker that never asks does not import their modules.
_IMMUTABLE: Final = frozenset(
    {"NoneType", "ellipsis", "NotImplementedType", "bool", "int", "float", "complex", "str", "bytes", "range"}
    | {"datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone"}
    | {"decimal.Decimal", "fractions.Fraction", "uuid.UUID", "re.Pattern"}
)


class _Snapshot:
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
    def of_name(cls, function: Any, ref: str) -> _Snapshot | None:
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
    def of_function(cls, function: Any) -> _Snapshot | None:
        """Return what `function` refers to, or None if some of it may change without being replaced."""
        snapshot = cls()
        return snapshot if snapshot._add(function, set()) else None

    def _add(self, value: Any, seen: set[int]) -> bool:
        """Record what `value` refers to; return False if it may change unseen."""
        kind = type(value)
        if type_name(kind) in _IMMUTABLE or isinstance(value, enum.Enum | PurePath):
            return True
        registration = _registration(value)
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
        for name in set(_names(function.__code__)):
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


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield every name that `code`, or code within it, may look up in globals (attributes' names among them)."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
