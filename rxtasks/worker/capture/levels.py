"""Level numbers to the standard names of log events."""

from __future__ import annotations

from typing import Final

__all__ = ["NAMES", "level_name"]

NAMES: Final = frozenset({"TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"})

_BY_NUMBER: Final = (
    (50, "CRITICAL"),
    (40, "ERROR"),
    (30, "WARNING"),
    (25, "SUCCESS"),
    (20, "INFO"),
    (10, "DEBUG"),
)
_KNOWN: Final = {5: "TRACE", **{number: name for number, name in _BY_NUMBER}}


def level_name(number: float) -> str:
    """Return the standard name of a level, of one in between that of the next lower."""
    known = _KNOWN.get(number)  # type: ignore[call-overload]
    if known is not None:
        return str(known)
    for least, name in _BY_NUMBER:
        if number >= least:
            return name
    return "TRACE"
