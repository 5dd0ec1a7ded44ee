"""`@task`: a stable name and default options for a function, which stays callable as a plain function.

A registry is a plain object; `default_registry` is the one that `@task` fills unless told otherwise. What `@task`
returns carries its Registration as `__rxtasks__`. A function that wants a TaskContext is wrapped, so that it can be
called directly, with a detached context; any other is returned as it is.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

from rxtasks.errors import SettingsError, UnknownHandler
from rxtasks.worker.handler import wants_context

if TYPE_CHECKING:
    from rxtasks.lifecycle.options import TaskOptions

__all__ = [
    "Registration",
    "Registry",
    "TaskFunction",
    "default_registry",
    "how_to_register",
    "registration_of",
    "task",
]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Registration:
    """A handler's name, its default options and the function itself."""

    __slots__ = ("function", "name", "options")

    def __init__(self, name: str, options: TaskOptions, function: Callable[..., Any]) -> None:
        self.name = name
        self.options = options
        self.function = function

    def __repr__(self) -> str:
        return f"Registration(name={self.name!r}, options={self.options!r})"


class TaskFunction(Protocol[R_co]):
    """What `@task` returns: call it as the function it was made from; a TaskContext parameter may be left out."""

    __rxtasks__: Registration
    __name__: str
    __qualname__: str

    def __call__(self, *args: Any, **kwargs: Any) -> R_co: ...


class Registry:
    """Handlers by name. Looking one up imports nothing and walks no attribute."""

    def __init__(self) -> None:
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._noted: dict[str, Callable[..., Any]] = {}

    def add(self, function: Callable[..., Any], name: str | None = None, options: TaskOptions | None = None) -> Any:
        """Register `function` and return it, wrapped where it wants a TaskContext.

        A name is taken over by a function of the same module and qualified name (a reloaded module, a re-run cell).

        Raises:
            SettingsError: `function` is not callable, or another function has the name.
        """
        if not callable(function):
            raise SettingsError(f"@task goes on a callable, not on {function!r}")
        known = getattr(function, "__rxtasks__", None)
        if known is not None:  # registered before: another name or options for the function inside
            function = known.function
        name = name or default_name(function)
        registration = Registration(name, _options({}) if options is None else options, function)
        made = _callable_as_plain(function, registration)
        other = self._handlers.get(name)
        if other is not None and default_name(other) != default_name(function):
            raise SettingsError(
                f"task name {name!r} is already that of {default_name(other)}; give one of them another"
            )
        self._handlers[name] = made
        return made

    def get(self, name: str) -> Callable[..., Any]:
        """Return the handler registered under exactly `name`.

        Raises:
            UnknownHandler: there is none; names some that are close.
        """
        found = self._handlers.get(name)
        if found is None:
            import difflib

            near = difflib.get_close_matches(name, self._handlers, n=3)
            hint = f"did you mean {' or '.join(near)}? Else " if near else ""
            hint += how_to_register(name)
            raise UnknownHandler(f"no handler is registered as {name!r}; {hint}")
        return found

    def find(self, name: str) -> Callable[..., Any] | None:
        """Return the handler registered under exactly `name`, or None."""
        return self._handlers.get(name)

    def note(self, name: str, function: Callable[..., Any]) -> bool:
        """Remember a function that was given to a durable store under `name` without being registered.

        Only this process finds it, by `noted`. Return whether the name is new.
        """
        fresh = name not in self._noted
        self._noted[name] = function
        return fresh

    def noted(self, name: str) -> Callable[..., Any] | None:
        """Return the function that was noted under exactly `name`, or None."""
        return self._noted.get(name)

    def names(self) -> list[str]:
        """Return the names in order of registration."""
        return list(self._handlers)

    def own_options(self) -> dict[str, str]:
        """Return the handlers' own options as JSON, of those that have other than the defaults and whose can be written."""
        from rxtasks.lifecycle.options import DEFAULT_OPTIONS
        from rxtasks.lifecycle.stored import options_to_json

        found: dict[str, str] = {}
        for name, handler in self._handlers.items():
            registration = registration_of(handler)
            if registration is None or registration.options is DEFAULT_OPTIONS:
                continue
            with contextlib.suppress(SettingsError):  # text that is no Unicode: a push would be refused too
                text = options_to_json(registration.options)
                if text is not None:
                    found[name] = text
        return found

    def __contains__(self, name: str) -> bool:
        return name in self._handlers

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._handlers))

    def __len__(self) -> int:
        return len(self._handlers)


#: The registry that `@task` fills.
default_registry = Registry()


def default_name(function: Callable[..., Any]) -> str:
    """Return "module:qualname"."""
    if isinstance(function, functools.partial):
        return default_name(function.func)
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}:{getattr(function, '__qualname__', None) or type(function).__qualname__}"


def how_to_register(name: str) -> str:
    """Return what makes a task of this name known to every process that is to run it. Nothing is looked up but the name."""
    module, _, qualname = name.partition(":")
    if not qualname:
        return f"put the module with @task({name!r}) into modules= of each service that runs it"
    if module == "__main__":
        return f"move {qualname} into a module, put @task on it, and that module into modules= of each service that runs it"
    if module in sys.modules:
        return f"put @task on {qualname} in {module}, and modules=[{module!r}] into each service that runs it"
    return f"pass modules=[{module!r}] to each service that runs it, with @task on {qualname} there"


def registration_of(function: object) -> Registration | None:
    """Return the Registration that `@task` gave a function, or None."""
    found = getattr(function, "__rxtasks__", None)
    return found if isinstance(found, Registration) else None


@overload
def task(function: Callable[..., R], /) -> TaskFunction[R]: ...


@overload
def task(
    name: str | None = None, /, *, registry: Registry | None = None, **options: Any
) -> Callable[[Callable[..., R]], TaskFunction[R]]: ...


def task(
    function_or_name: Callable[..., Any] | str | None = None, /, *, registry: Registry | None = None, **options: Any
) -> Any:
    """Register a function as a task handler: `@task`, `@task("reports.build", timeout=30)`.

    Args:
        function_or_name: the function, or the name to register it under; without, "module:qualname".
        registry: where to register; None = the default one.
        options: TaskOptions fields that submits of this handler start from.

    Raises:
        SettingsError: an option does not exist or is out of its range, or the name is taken by another function.
    """
    where = default_registry if registry is None else registry
    if callable(function_or_name):
        return where.add(function_or_name, None, _options(options))
    if function_or_name is not None and not isinstance(function_or_name, str):
        raise SettingsError(f"@task takes a function or a name, not {function_or_name!r}")
    if function_or_name == "":
        raise SettingsError("a task's name is not empty")
    name = options.pop("name", None) if function_or_name is None else function_or_name
    merged = _options(options)

    def register(function: Callable[..., R]) -> TaskFunction[R]:
        return cast("TaskFunction[R]", where.add(function, name, merged))

    return register


def _options(changes: dict[str, Any]) -> TaskOptions:
    from rxtasks.lifecycle.options import DEFAULT_OPTIONS, merge_options

    return merge_options(DEFAULT_OPTIONS, changes)


def _callable_as_plain(function: Callable[..., Any], registration: Registration) -> Callable[..., Any]:
    plain = inspect.isfunction(function) and getattr(function, "__rxtasks__", None) is None
    if plain and wants_context(function)[0] is None:
        function.__rxtasks__ = registration  # type: ignore[attr-defined]
        return function
    return _wrapped(function, registration)


def _wrapped(function: Callable[..., Any], registration: Registration) -> Callable[..., Any]:
    """Return a function that calls `function` with a detached context where it wants one."""
    call: Any
    if inspect.iscoroutinefunction(function):

        async def call(*args: Any, **kwargs: Any) -> Any:
            from rxtasks.worker.detached import with_context

            given, named = with_context(function, args, kwargs)
            return await function(*given, **named)

    else:

        def call(*args: Any, **kwargs: Any) -> Any:
            from rxtasks.worker.detached import with_context

            given, named = with_context(function, args, kwargs)
            return function(*given, **named)

    functools.update_wrapper(call, function)
    call.__rxtasks__ = registration
    return cast("Callable[..., Any]", call)
