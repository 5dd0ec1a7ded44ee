"""What kind of callable a handler is, and where it wants its TaskContext.

A parameter annotated TaskContext is filled in: the class itself, a string that names it, `Optional[TaskContext]`,
`TaskContext | None`, also where the name was imported under TYPE_CHECKING only. An annotation that cannot be resolved
is ignored, as is everything about a callable that has no signature.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

__all__ = ["Handler", "Kind", "holds_nothing", "plan_handler", "wants_context"]

_NAMED = re.compile(r"(?:[A-Za-z_]\w*\.)*TaskContext")


class Kind(IntEnum):
    """How a handler is run."""

    SYNC = 0
    GENERATOR = 1
    ASYNC = 2
    ASYNC_GENERATOR = 3


class Handler:
    """A callable with what a worker has to know to run it."""

    __slots__ = ("context_index", "context_name", "function", "kind", "source")

    def __init__(self, function: Callable[..., Any], source: object) -> None:
        #: What is called.
        self.function = function
        #: What it was made from; another object under the same key makes this one stale.
        self.source = source
        self.kind = _kind(function)
        #: The name of the parameter that takes the TaskContext, or None, and its position (-1: keyword only).
        self.context_name, self.context_index = wants_context(function)

    def made_for(self, function: Callable[..., Any]) -> Handler:
        """Return the handler of a function that this one was planned for; see `bare`."""
        made = Handler.__new__(Handler)
        made.function, made.source = _inner(function), function
        made.kind, made.context_name, made.context_index = self.kind, self.context_name, self.context_index
        return made

    def bare(self) -> Handler:
        """Return the plan without the function: it keeps nothing alive."""
        made = self.made_for(self.function)
        made.function = made.source = None  # type: ignore[assignment]
        return made

    def inject(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Any) -> tuple[Any, Mapping[str, Any]]:
        """Return the arguments with `context` in its place; unchanged where the caller gave one."""
        name, index = self.context_name, self.context_index
        if name is None or name in kwargs:
            return args, kwargs
        if 0 <= index <= len(args):
            if index < len(args) and isinstance(args[index], type(context)):
                return args, kwargs
            return (*args[:index], context, *args[index:]), kwargs
        return args, {**kwargs, name: context}


def plan_handler(function: Callable[..., Any], source: object | None = None) -> Handler:
    """Return the Handler of a callable; of one made by @task, that of the function inside."""
    return Handler(_inner(function), function if source is None else source)


def holds_nothing(function: Callable[..., Any]) -> bool:
    """Say whether remembering the function keeps nothing alive but code: no closure, default or object it is bound to."""
    return (
        isinstance(function, types.FunctionType)
        and function.__closure__ is None
        and function.__defaults__ is None
        and function.__kwdefaults__ is None
    )


def _inner(function: Callable[..., Any]) -> Callable[..., Any]:
    registration = getattr(function, "__rxtasks__", None)
    inner: Callable[..., Any] = function if registration is None else registration.function
    return inner


def _kind(function: Callable[..., Any]) -> Kind:
    candidates = [function]
    if not inspect.isroutine(function) and not isinstance(function, type | functools.partial):
        candidates.append(type(function).__call__)
    for each in candidates:
        if inspect.iscoroutinefunction(each):
            return Kind.ASYNC
        if inspect.isasyncgenfunction(each):
            return Kind.ASYNC_GENERATOR
        if inspect.isgeneratorfunction(each):
            return Kind.GENERATOR
    return Kind.SYNC


def _innermost(function: Any) -> Any:
    """Return the plain function whose annotations count."""
    for _ in range(64):
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    if isinstance(function, types.MethodType):
        return _innermost(function.__func__)
    if not inspect.isroutine(function) and not isinstance(function, type):
        call = type(function).__call__
        return call if inspect.isroutine(call) else function
    if isinstance(function, type):
        return function.__init__  # type: ignore[misc]
    return function


def _annotations(function: Any) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        try:
            return annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF)
        except Exception:
            return {}
    found = getattr(function, "__annotations__", None)
    return found if isinstance(found, dict) else {}


def wants_context(function: Callable[..., Any]) -> tuple[str | None, int]:
    """Return the name and position of the parameter annotated TaskContext; (None, -1) where there is none."""
    inner = _innermost(function)
    name = next(
        (key for key, note in _annotations(inner).items() if key != "return" and _is_context(note, inner)),
        None,
    )
    if name is None:
        return None, -1
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return None, -1
    parameter = parameters.get(name)
    if parameter is None or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return None, -1
    if parameter.kind is parameter.KEYWORD_ONLY:
        return name, -1
    return name, list(parameters).index(name)


def _is_context(note: Any, function: Any) -> bool:
    from rxtasks.worker.context import TaskContext

    if isinstance(note, str):
        return _text_is_context(note, function)
    if note is TaskContext:
        return True
    if isinstance(note, typing.ForwardRef):
        return _text_is_context(note.__forward_arg__, function)
    if typing.get_origin(note) in (typing.Union, types.UnionType, typing.Annotated):
        return any(_is_context(part, function) for part in typing.get_args(note))
    return False


def _text_is_context(text: str, function: Any) -> bool:
    try:
        value = eval(text, getattr(function, "__globals__", {}))  # an annotation, as typing.get_type_hints does
    except Exception:
        return _spells_context(text)
    if isinstance(value, str):  # a string in a string: quoted under `from __future__ import annotations`
        return value != text and _text_is_context(value, function)
    return _is_context(value, function)


def _spells_context(text: str) -> bool:
    """Say whether text that cannot be evaluated (a name under TYPE_CHECKING) reads as TaskContext or Optional of it."""
    text = text.strip().strip("\"'").strip()
    wrapped = re.fullmatch(r"(?:[A-Za-z_]\w*\.)*(?:Optional|Union|Annotated)\[(.*)\]", text, re.DOTALL)
    parts = (wrapped.group(1) if wrapped else text).replace("|", ",").split(",")
    return any(_NAMED.fullmatch(part.strip().strip("\"'")) for part in parts)
