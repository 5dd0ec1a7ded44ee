"""Functions as they come to a worker: what a Define stands for (see rxtasks.wire.callables, which writes them).

A room of its own, because a worker reads functions and writes none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from rxtasks.errors import PayloadError, UnknownHandler
from rxtasks.wire.culprit import short
from rxtasks.wire.message import Define

__all__ = ["load_callable"]


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
