"""Exceptions that travel: taken apart where they were raised, rebuilt where the result is asked for.

Stock pickle calls the class with `args` again, which fails for every exception whose `__init__` takes something else
than what it passes on. Here the object is made by the built-in class it descends from, which is what holds `args`, and
gets its attributes back; its own `__init__` is not run a second time. Classes that define how they are pickled are
pickled their way. The exceptions in a group are taken apart one by one.

Only a class that is already imported is used, and only if it is an Exception: nothing is imported for an error.
"""

from __future__ import annotations

import builtins
import pickle
import sys
from typing import Any, cast

from rxtasks.lifecycle.errorinfo import TaskErrorInfo

__all__ = ["dump_exception", "find_class", "load_exception", "native_class"]

_REDUCERS = ("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__", "__setstate__")


def dump_exception(error: BaseException) -> bytes | None:
    """Return `error` for `load_exception`, or None if it cannot be rebuilt elsewhere; never raises.

    Attributes that do not pickle are left behind; arguments that do not make it None.
    """
    kind = type(error)
    if not isinstance(error, Exception) or "<" in kind.__qualname__:
        return None
    try:
        if _own_way(kind):
            return pickle.dumps((kind.__module__, kind.__qualname__, None, _dumped(error), None), 5)
        reduced: Any = native_class(kind).__reduce__(error)  # OSError and ImportError know more than args
        values, members = reduced[1], None
        if isinstance(error, BaseExceptionGroup):
            values, members = (error.message,), [dump_exception(member) for member in error.exceptions]
            if None in members:
                return None
        state = _state(reduced[2]) if len(reduced) > 2 else None
        return pickle.dumps((kind.__module__, kind.__qualname__, _dumped(values), state, members), 5)
    except BaseException:  # what pickling calls may raise anything
        return None


def load_exception(data: bytes, info: TaskErrorInfo) -> BaseException | None:
    """Return the exception that `dump_exception` took apart, or None if it cannot be rebuilt here.

    Raises nothing but a KeyboardInterrupt, which is that of whoever waits.

    `info` is what the task said of it: an exception of another class than `info.type` is not rebuilt. Runs code that
    the pickle names: only for bytes of local workers.
    """
    try:
        module, qualname, args, state, members = pickle.loads(data)
        if info.type not in (qualname, f"{module}.{qualname}"):
            return None
        return _rebuilt(module, qualname, args, state, members)
    except KeyboardInterrupt:  # of whoever waits for the result
        raise
    except BaseException:
        return None


def _rebuilt(
    module: str, qualname: str, args: bytes | None, state: bytes | None, members: list[bytes] | None
) -> BaseException | None:
    kind = find_class(module, qualname)
    if kind is None or not issubclass(kind, Exception):
        return None
    if args is None:
        error = None if state is None else pickle.loads(state)
        return error if type(error) is kind else None
    base = native_class(kind)
    values = pickle.loads(args)
    if members is not None:
        found = [_rebuilt(*pickle.loads(member)) for member in members]
        if None in found:
            return None
        values = (*values, found)
    rebuilt: BaseException = base.__new__(kind, *values)
    base.__init__(rebuilt, *values)
    if state is not None:
        rebuilt.__setstate__(pickle.loads(state))
    return rebuilt


def find_class(module: str, qualname: str) -> type[Any] | None:
    """Return the class of that name if its module is imported here, else None; runs no user code."""
    home = sys.modules.get(module)
    if home is None:
        return None
    found: Any = home
    for name in qualname.split("."):
        found = vars(found).get(name)
        if found is None:
            return None
    same = isinstance(found, type) and found.__module__ == module and found.__qualname__ == qualname
    return found if same else None


def native_class(kind: type[BaseException]) -> type[BaseException]:
    """Return the built-in class that `kind` descends from."""
    for base in kind.__mro__:
        if getattr(builtins, base.__name__, None) is base and issubclass(base, BaseException):
            return cast("type[BaseException]", base)
    return BaseException


def _own_way(kind: type[BaseException]) -> bool:
    """Say whether a class between `kind` and the built-in one defines how it is pickled."""
    for base in kind.__mro__:
        if getattr(builtins, base.__name__, None) is base:
            return False
        if any(name in base.__dict__ for name in _REDUCERS):
            return True
    return False


def _state(attributes: dict[str, Any] | None) -> bytes | None:
    if not attributes:
        return None
    try:
        return _dumped(attributes)
    except Exception:
        kept = {name: value for name, value in attributes.items() if _pickles(value)}
        return _dumped(kept) if kept else None


def _dumped(value: Any) -> bytes:
    """Return the pickle of `value`, by value where it holds objects of classes of `__main__`, as results do."""
    try:
        return pickle.dumps(value, 5)
    except Exception:
        from rxtasks.wire.byvalue import dumps

        return dumps(value)


def _pickles(value: Any) -> bool:
    try:
        _dumped(value)
    except Exception:
        return False
    return True
