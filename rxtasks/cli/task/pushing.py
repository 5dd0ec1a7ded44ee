"""What TARGET of `rxtasks task push` stands for: a handler's name, and its defaults where its module can be imported here."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import attrs

from rxtasks.cli.task.telling import complain
from rxtasks.cli.usage import UsageMistake
from rxtasks.text import cut, shown

if TYPE_CHECKING:
    from rxtasks.lifecycle.options import TaskOptions

__all__ = ["Handler", "find_handler"]


class _Place:
    """Stands for a TaskContext."""


@attrs.frozen
class Handler:
    """A handler to push a task for."""

    #: Under which workers know it.
    name: str
    #: None: it is not known here.
    function: Callable[..., Any] | None = None
    options: TaskOptions | None = None

    def refuse_misfit(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise UsageMistake if it is known here and cannot be called with these arguments; names no value."""
        if self.function is None:
            return
        from rxtasks.worker.handler import plan_handler

        plan = plan_handler(self.function)
        try:
            signature = inspect.signature(plan.function, follow_wrapped=False)
        except (ValueError, TypeError):
            return
        given, named = plan.inject(tuple(args), dict(kwargs), _Place())
        try:
            signature.bind(*given, **named)
        except TypeError as error:
            raise UsageMistake(f"{_short(self.name)} cannot be called with these arguments: {error}.") from None


def find_handler(target: str, modules: Sequence[str]) -> Handler:
    """Return the handler that the user has named, with its defaults where it can be imported.

    Args:
        modules: imported first, for names that are no "module:function".

    Raises:
        UsageMistake: a module is broken or has no such function, or the function is no handler.
    """
    from rxtasks.worker.registry import default_registry

    if not target.strip(": "):
        raise UsageMistake(f"TARGET is the name of a handler, such as module:function, not '{_short(target)}'.")
    with contextlib.redirect_stdout(sys.stderr):
        for module in modules:
            _import(module)
        function = default_registry.find(target)
        if function is None and ":" in target:
            return _by_place(target)
    if function is not None:
        return _handler(function)
    complain(
        f"{target} is not known here, so it is pushed by name, with the defaults of the pool that runs it"
        " (--module MODULE names the one that has it)"
    )
    return Handler(target)


def _by_place(target: str) -> Handler:
    from rxtasks.cli.target import find
    from rxtasks.worker.registry import default_registry, registration_of

    place = target.rpartition(":")[0]
    if not place.endswith(".py") and not _exists(place):
        complain(
            f"module {place} cannot be found here, so the task is pushed by name, with the defaults of the pool that runs it"
        )
        return Handler(target)
    try:
        function = find(target).function
    except UsageMistake:
        known = default_registry.find(target)  # a name of its own that looks like a place
        if known is None:
            raise
        function = known
    if registration_of(function) is None:
        raise UsageMistake(
            f"{_short(target)} is no handler: a pool finds functions by the names that @task gives them; put @task on it."
        )
    return _handler(function)


def _handler(function: Callable[..., Any]) -> Handler:
    from rxtasks.worker.registry import registration_of

    registration = registration_of(function)
    assert registration is not None
    return Handler(registration.name, function, registration.options)


def _exists(module: str) -> bool:
    if not all(part.isidentifier() for part in module.split(".")):
        return False
    if "" not in sys.path[:1]:
        sys.path.insert(0, "")
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
    except Exception:  # a parent package that breaks: importing it tells how
        return True


def _import(module: str) -> None:
    if "" not in sys.path[:1]:
        sys.path.insert(0, "")
    try:
        import_module(module)
    except (Exception, SystemExit) as error:
        raise UsageMistake(
            f"module {_short(module)} cannot be imported: {type(error).__name__}: {_short(str(error))}."
        ) from error


def _short(text: str) -> str:
    return cut(shown(text), 300)
