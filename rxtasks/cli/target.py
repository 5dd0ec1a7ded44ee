"""TARGETs of the command line: `module:function` or `file.py:function`, found as `python` would find them."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import attrs

from rxtasks.cli.text import cut, shown
from rxtasks.cli.usage import UsageMistake

__all__ = ["Defaults", "Target", "find"]


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
        """
        inputs = getattr(self.module, "default_inputs", None)
        if not callable(inputs):
            return None
        return Defaults(
            inputs=tuple(str(word) for word in inputs()),
            exclude=tuple(getattr(self.module, "default_exclude", ())),
            collect=getattr(self.module, "default_collect", None),
        )


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
        raise UsageMistake(f"{_short(spec)} is {_article(type(function).__name__)}, not a function.")
    return Target(module, function)


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
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise UsageMistake(
                f"no module '{_short(name)}' for {what}; run from the directory that holds it, install it, or name the"
                " file: path/to/file.py:function."
            ) from None
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> UsageMistake:
    """Say where in the module's own code its import failed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = ""
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}, line {error.lineno})"
    elif len(frames) > 1:
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})"
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return UsageMistake(
        f"module '{_short(name)}' cannot be imported: {type(error).__name__}: {cut(shown(message), 300)}{shown(where)}."
    )


def _near(name: str, owner: object) -> str:
    words: Sequence[str] = [word for word in dir(owner) if not word.startswith("_") and callable(getattr(owner, word))]
    near = get_close_matches(name, words, n=3)
    return f"; did you mean {' or '.join(near)}" if near else ""


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _short(text: str) -> str:
    return cut(shown(text), 120)
