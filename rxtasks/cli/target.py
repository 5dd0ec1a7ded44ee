"""TARGETs of the command line: `module:function` or `file.py:function`, found as `python` would find them."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import attrs

from rxtasks.cli.usage import UsageMistake
from rxtasks.text import cut, shown
from rxtasks.worker.handler import plan_handler

__all__ = ["Defaults", "Target", "find", "find_collect"]

_RESULTS = "list of results"


class _Place:
    """Stands for a TaskContext."""


@attrs.frozen
class Defaults:
    """What a module offers for a run without INPUT (see `Target.defaults`)."""

    inputs: tuple[str, ...]
    exclude: tuple[str, ...]
    collect: Callable[..., Any] | None


@attrs.frozen
class Target:
    """A function of a module."""

    module: ModuleType
    function: Callable[..., Any]

    def defaults(self) -> Defaults | None:
        """Return what the module offers for a run without INPUT, or None.

        A module offers it by three names: `default_inputs()`, which returns the INPUT words; `default_exclude`, the
        patterns of --exclude; and `default_collect`, the function of --collect. The last two may be absent.

        Raises:
            UsageMistake: one of them is not what it should be.
        """
        inputs = getattr(self.module, "default_inputs", None)
        if not callable(inputs):
            return None
        place = _short(self.module.__name__)
        try:
            words = _texts(inputs(), f"what default_inputs() of {place} returns")
        except (Exception, SystemExit) as error:
            if isinstance(error, UsageMistake):
                raise
            raise UsageMistake(f"default_inputs() of {place} failed: {_told(error)}.") from error
        if not words:
            raise UsageMistake(f"default_inputs() of {place} returns no INPUT.")
        exclude = _texts(getattr(self.module, "default_exclude", ()), f"default_exclude of {place}")
        collect = getattr(self.module, "default_collect", None)
        if collect is not None:
            if not callable(collect):
                raise UsageMistake(f"default_collect of {place} is {_kind(collect)}, not a function.")
            _refuse_misfit(collect, f"default_collect of {place}", _RESULTS)
        return Defaults(inputs=words, exclude=exclude, collect=collect)

    def refuse_misfit(self, spec: str) -> None:
        """Raise UsageMistake if the function cannot be called with one INPUT; `spec` is how the user named it."""
        _refuse_misfit(self.function, _short(spec), "INPUT")


def find(spec: str, what: str = "TARGET") -> Target:
    """Return the function that `spec` names; the current directory comes first on sys.path, as with `python -m`.

    Raises:
        UsageMistake: no such module or function, or the module cannot be imported; says what to try.
    """
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name:
        raise UsageMistake(f"{what} is module:function or file.py:function, not '{_short(spec)}'.")
    module = _module(place, what)
    function: Any = module
    for part in name.split("."):
        try:
            function = getattr(function, part)
        except AttributeError:
            raise UsageMistake(f"{_short(place)} has no function '{_short(name)}'{_near(part, function)}.") from None
    if not callable(function):
        raise UsageMistake(f"{_short(spec)} is {_kind(function)}, not a function.")
    return Target(module, function)


def find_collect(spec: str) -> Callable[..., Any]:
    """Return the function that --collect names; raises UsageMistake as `find`, or if it does not take one argument."""
    function = find(spec, "--collect").function
    _refuse_misfit(function, _short(spec), _RESULTS)
    return function


def _refuse_misfit(function: Callable[..., Any], name: str, argument: str) -> None:
    """Raise UsageMistake if `function` cannot be called with one argument, beside a TaskContext.

    A signature says nothing of what a decorator changes, so only that of the outermost callable counts; what has none
    is let pass.
    """
    handler = plan_handler(function)
    try:
        signature = inspect.signature(handler.function, follow_wrapped=False)
    except (ValueError, TypeError):
        return
    args, kwargs = handler.inject((None,), {}, _Place())
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise UsageMistake(f"{name} cannot be called with one argument, the {argument}: {error}.") from None


def _module(place: str, what: str) -> ModuleType:
    if place.endswith(".py"):
        path = os.path.abspath(place)
        if not os.path.isfile(path):
            raise UsageMistake(f"there is no file '{_short(place)}' for {what}; check the path.")
        directory, name = os.path.dirname(path), os.path.basename(path)[:-3]
    else:
        directory, name = os.getcwd(), place
        if not all(part.isidentifier() for part in place.split(".")):
            raise UsageMistake(f"{what} is module:function or file.py:function; '{_short(place)}' is no module's name.")
    if directory not in sys.path[:1]:
        sys.path.insert(0, directory)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise UsageMistake(
                f"no module '{_short(name)}' for {what}; run from the directory that holds it, install it, or name the"
                " file: path/to/file.py:function."
            ) from None
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error
    found = getattr(module, "__file__", None)
    if place.endswith(".py") and not (found and os.path.exists(found) and os.path.samefile(found, path)):
        raise UsageMistake(
            f"'{_short(place)}' cannot be imported: another module has the name '{_short(name)}'; rename the file."
        )
    return module


def _broken(name: str, error: BaseException) -> UsageMistake:
    return UsageMistake(f"module '{_short(name)}' cannot be imported: {_told(error)}.")


def _told(error: BaseException) -> str:
    """Say what an error in the user's module was, and where in its own code."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = ""
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}, line {error.lineno})"
    elif len(frames) > 1:
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})"
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {cut(shown(message), 300)}{shown(where)}"


def _texts(value: object, what: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UsageMistake(f"{what} is {_kind(value)}, not a list of texts.")
    return tuple(str(each) for each in value)


def _near(name: str, owner: object) -> str:
    words: Sequence[str] = [word for word in dir(owner) if not word.startswith("_") and callable(getattr(owner, word))]
    near = get_close_matches(name, words, n=3)
    return f"; did you mean {' or '.join(near)}" if near else ""


def _kind(value: object) -> str:
    noun = type(value).__name__
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _short(text: str) -> str:
    return cut(shown(text), 120)
