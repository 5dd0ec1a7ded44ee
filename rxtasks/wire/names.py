"""Which callables a worker finds by name."""

from __future__ import annotations

import sys
from typing import Any, Final

from rxtasks.wire.payload import type_name

__all__ = ["importable_name", "registration_of"]

#: What these names mean differs between processes.
_MAIN: Final = ("__main__", "__mp_main__")

_REGISTRATION: Final = "rxtasks.worker.registry.Registration"


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
    registration = registration_of(found)
    return registration is not None and registration.function is function


def registration_of(value: Any) -> Any:
    """Return what @task left on a function (or `value`, if it is that); known by name, being one floor above."""
    if type_name(type(value)) == _REGISTRATION:
        return value
    found = getattr(value, "__rxtasks__", None)
    return found if type_name(type(found)) == _REGISTRATION else None
