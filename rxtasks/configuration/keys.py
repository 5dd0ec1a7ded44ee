"""How a setting is spelt: dotted path, key in a file (snake_case or camelCase), environment variable, flag."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

__all__ = ["PREFIX", "camel", "nearest", "snake", "variable"]

#: Environment variables of settings begin so.
PREFIX: Final = "RXTASKS_"
_BOUNDARY: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def snake(key: str) -> str:
    """Return a key of a file in snake_case: pollIntervalMs and poll-interval-ms are poll_interval_ms."""
    return _BOUNDARY.sub("_", key).replace("-", "_").lower() if key[:1].islower() else key


def camel(name: str) -> str:
    """Return a name in snake_case as a key in camelCase."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def variable(path: str) -> str:
    """Return the environment variable of a setting by its dotted path."""
    return PREFIX + path.replace(".", "_").upper()


def nearest(word: str, words: Iterable[str], most: int = 1) -> list[str]:
    """Return the words most like this one, none if none is like it."""
    return difflib.get_close_matches(word.lower(), list(words), n=most, cutoff=0.6)
