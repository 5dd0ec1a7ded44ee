"""What cloudpickle leaves out, written by value: what cells are full of, and what it would write by a name of `__main__`.

`__main__` is another module in a worker: what is written by its name there is not found. And cloudpickle makes classes anew
without their `__slots__`, so that objects of such a class come back with attributes that they have no place for.

`reduced` returns what `__reduce_ex__` would (PEP 307; six items: with a function that sets the state). Whatever is found by
its name in an importable module is left alone.
"""

from __future__ import annotations

import functools
import pickle
import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Final

from rxtasks.wire.names import importable_name

__all__ = ["reduced", "with_slots"]

Reduced = tuple[Any, ...]

#: The code of every function that singledispatch makes.
_DISPATCHING: Final = functools.singledispatch(len).__code__  # type: ignore[attr-defined]
#: What singledispatch itself keeps on such a function.
_ITS_OWN: Final = frozenset({"register", "dispatch", "registry", "_clear_cache", "__wrapped__"})


def reduced(obj: Any) -> Reduced | None:
    """Return how `obj` is written, None where cloudpickle knows."""
    kind = type(obj)
    if kind is types.FunctionType:
        dispatches = obj.__code__ is _DISPATCHING and importable_name(obj) is None
        return _dispatching(obj) if dispatches else None
    reducer = _REDUCERS.get(kind)
    return None if reducer is None or _found_by_name(obj) else reducer(obj)


def with_slots(kind: type[Any], made: Any) -> Any:
    """Return `made`, which is how cloudpickle makes `kind` anew, with its `__slots__`."""
    slots = kind.__dict__.get("__slots__")
    if not isinstance(slots, str | tuple | list | dict) or not isinstance(made, tuple):
        return made
    if typing.NamedTuple in kind.__dict__.get("__orig_bases__", ()):  # which sees to them itself
        return made
    match made:
        case (make, (meta, name, bases, dict() as space, *rest), *state) if meta is type(kind):
            return (make, (meta, name, bases, {**space, "__slots__": slots}, *rest), *state)
    return made


def _found_by_name(obj: Any) -> bool:
    if importable_name(obj) is not None:
        return True
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    here = module is not None and getattr(module, getattr(obj, "__name__", ""), None) is obj
    return here and module is not sys.modules.get("__main__")


def _cached(obj: Any) -> Reduced:
    return cache_again, (obj.__wrapped__, obj.cache_parameters())


def cache_again(function: Callable[..., Any], parameters: dict[str, Any]) -> Callable[..., Any]:
    """Return the function with an empty cache like the one that it had."""
    cached: Callable[..., Any] = functools.lru_cache(**parameters)(function)
    return cached


def _cached_property(obj: Any) -> Reduced:
    state = {name: value for name, value in vars(obj).items() if name not in ("func", "lock")}
    return functools.cached_property, (obj.func,), state


def _dispatching(obj: Any) -> Reduced:
    kept = {name: value for name, value in vars(obj).items() if name not in _ITS_OWN}
    made, state = (obj.registry[object],), (tuple(obj.registry.items()), kept)
    return functools.singledispatch, made, state, None, None, register_all


def register_all(function: Any, state: tuple[Iterable[tuple[Any, Any]], dict[str, Any]]) -> None:
    """Give a function that singledispatch made its implementations and attributes back."""
    implementations, attributes = state
    for kind, implementation in implementations:
        function.register(kind, implementation)
    vars(function).update(attributes)


def _new_type(obj: Any) -> Reduced:
    state = {"__module__": obj.__module__, "__qualname__": obj.__qualname__}
    return typing.NewType, (obj.__name__, obj.__supertype__), state


def _parameters(obj: Any) -> Reduced:
    names = {"__bound__": "bound", "__covariant__": "covariant", "__contravariant__": "contravariant"}
    given = {name: value for attribute, name in names.items() if (value := getattr(obj, attribute, None))}
    return functools.partial(typing.ParamSpec, obj.__name__, **given), ()


def _parameter_tuple(obj: Any) -> Reduced:
    return typing.TypeVarTuple, (obj.__name__,)


def _alias(obj: Any) -> Reduced:
    if _mentions(obj.__value__, obj):
        raise pickle.PicklingError(f"the type {obj.__name__} is made of itself; define it in a module")
    make: Any = type(obj)
    return functools.partial(make, obj.__name__, obj.__value__, type_params=obj.__type_params__), ()


def _mentions(annotation: Any, wanted: Any) -> bool:
    return annotation is wanted or any(_mentions(part, wanted) for part in typing.get_args(annotation))


_REDUCERS: Final[dict[type[Any], Callable[[Any], Reduced]]] = {
    functools._lru_cache_wrapper: _cached,
    functools.cached_property: _cached_property,
    typing.NewType: _new_type,
    typing.ParamSpec: _parameters,
    typing.TypeVarTuple: _parameter_tuple,
}
if hasattr(typing, "TypeAliasType"):  # the statement `type`, Python 3.12
    _REDUCERS[typing.TypeAliasType] = _alias
