"""Calling a function with as many arguments as it takes: a hook need not name what it does not use."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rxtasks.errors import SettingsError

__all__ = ["check_fits", "takes"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_fits(function: Callable[..., Any], names: tuple[str, ...], what: str, *, filled: str | None = None) -> None:
    """Raise if the function needs other arguments than those that it will be called with.

    Args:
        names: what they are called, for the error.
        what: the hook's point, likewise.
        filled: a parameter that is filled otherwise (the TaskContext).

    Raises:
        SettingsError: it needs more, or by keyword.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # built in, and does not say
        return
    needed = [p for p in parameters if p.default is p.empty and p.name != filled]
    by_place = [p for p in needed if p.kind in _POSITIONAL]
    by_name = [p.name for p in needed if p.kind is p.KEYWORD_ONLY]
    if by_name or len(by_place) > len(names):
        got = f"({', '.join(names)})" if names else "no arguments"
        wants = ", ".join([*(p.name for p in by_place), *by_name])
        raise SettingsError(
            f"{what} is called with {got}, and {function!r} needs ({wants}); functools.partial binds them"
        )


def takes(function: Callable[..., Any], *, filled: str | None = None) -> int | None:
    """Return how many arguments the function takes by place, but for the one that is `filled` otherwise; None = any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in _POSITIONAL and p.name != filled for p in parameters)
