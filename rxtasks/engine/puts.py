"""Objects that were put: known to the service by their handles, sent to a worker before the first task that needs them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from rxtasks.errors import PayloadError
from rxtasks.lifecycle.task import new_id
from rxtasks.wire.handle import Handle, Put
from rxtasks.wire.payload import pack_value, type_name
from rxtasks.wire.sealed import SealedFiles

__all__ = ["Puts"]


class Puts:
    """The handles of one service; any thread.

    Args:
        processes: there are workers in other processes, which need the object pickled.
        local: there are workers in this process, which take the object itself.
        files: where memory files are made.
        limit: bytes that an object may take, pickled.
    """

    def __init__(self, files: SealedFiles, *, processes: bool, local: bool, limit: int) -> None:
        self._files = files
        self._processes = processes
        self._local = local
        self._limit = limit
        self._live: weakref.WeakValueDictionary[str, Put] = weakref.WeakValueDictionary()
        #: Told the key of an object that nobody holds any more, in whatever thread let go of it last.
        self.on_gone: Callable[[str], None] | None = None

    def __bool__(self) -> bool:
        return len(self._live) > 0

    def put(self, value: Any) -> Handle:
        """Take the object as it is now and return its handle.

        Raises:
            PayloadError: it cannot travel, or takes too many bytes.
        """
        blob = None
        if self._processes:
            # All buffers beside the pickle, small ones too: so none can be written to where they are loaded.
            blob = pack_value(value, self._files.make, what="object", limit=self._limit, least=0)
        made = Put("put:" + new_id(), type_name(type(value)), blob, value if self._local else None)
        self._live[made.key] = made
        weakref.finalize(made, _gone, weakref.ref(self), made.key).atexit = False
        return Handle(made)

    def find(self, key: str) -> Any:
        """Return the object of that key, for workers in this process.

        Raises:
            PayloadError: it is gone.
        """
        made = self._live.get(key)
        if made is None:
            raise PayloadError("an object that was put is gone", "args")
        return made.value

    def keys(self, found: dict[str, Put]) -> Callable[[Any], str | None]:
        """Return what gives pickle the key of each handle that it meets; they are noted in `found`."""

        def key(value: Any) -> str | None:
            if type(value) is not Handle:
                return None
            made = self._of(value)
            found[made.key] = made
            return made.key

        return key

    def _of(self, handle: Handle) -> Put:
        made = handle._put
        if made is None:
            raise PayloadError("this handle was released; put() the object again, or release it later")
        if self._live.get(made.key) is not made:
            raise PayloadError("this handle is of another service; put() the object into this one")
        return made

    # -- workers in this process ---------------------------------------------------------------------------------------

    def resolved(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return the arguments with each handle replaced by its object.

        Handles are looked for in lists, tuples, dicts, sets, dataclass and attrs objects, however nested; only those that
        hold one are made anew.

        Raises:
            PayloadError: a handle was released, or is of another service; names it.
        """
        seen: dict[int, Any] = {}
        try:
            return self._resolve(args, "args", seen), self._resolve(kwargs, "kwargs", seen)
        except RecursionError:  # nested too deep to be looked into
            return args, kwargs

    def _resolve(self, value: Any, path: str, seen: dict[int, Any]) -> Any:
        if type(value) is Handle:
            try:
                return self._of(value).value
            except PayloadError as error:
                raise PayloadError(f"{path}: {error}", path) from None
        if type(value) in _ATOMS:
            return value
        if id(value) in seen:
            return seen[id(value)]
        seen[id(value)] = value
        parts = _parts(value)
        if _ATOMS.issuperset(map(type, parts.values())):
            return value
        made = {step: self._resolve(part, f"{path}{_step(value, step)}", seen) for step, part in parts.items()}
        if all(made[step] is part for step, part in parts.items()):
            return value
        again = seen[id(value)] = _rebuilt(value, made)
        return again


_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, range})
_ROWS = frozenset({list, tuple, set, frozenset})


def _parts(value: Any) -> dict[Any, Any]:
    """Return what is looked into, by index, key or name."""
    kind = type(value)
    if isinstance(value, dict):
        return dict(value)
    if kind in _ROWS or (isinstance(value, tuple) and hasattr(kind, "_make")):
        return dict(enumerate(value))
    if attrs.has(kind):
        return {field.name: getattr(value, field.name, None) for field in attrs.fields(kind)}
    if hasattr(kind, "__dataclass_fields__"):
        return {name: getattr(value, name, None) for name in kind.__dataclass_fields__}
    return {}


def _step(value: Any, step: Any) -> str:
    return f"[{step!r}]" if isinstance(value, dict | list | tuple | set | frozenset) else f".{step}"


def _rebuilt(value: Any, parts: dict[Any, Any]) -> Any:
    """Return a copy of the value with these parts."""
    import copy

    if type(value) in _ROWS:
        return type(value)(parts.values())
    if isinstance(value, tuple):
        return type(value)._make(parts.values())  # type: ignore[attr-defined]
    changed: Any = copy.copy(value)
    if isinstance(value, dict):
        changed.update(parts)
    else:
        for name, part in parts.items():
            if part is not getattr(changed, name, None):
                object.__setattr__(changed, name, part)
    return changed


def _gone(puts: weakref.ref[Puts], key: str) -> None:
    known = puts()
    if known is not None and known.on_gone is not None:
        known.on_gone(key)
