"""The standard log levels, and which of them lie at or above one."""

from __future__ import annotations

from rxtasks.errors import SettingsError

__all__ = ["LEVELS", "levels_from"]

#: The standard levels, least first.
LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")


def levels_from(level: str | None) -> frozenset[str]:
    """Return the levels from `level` (any case) on; None = none.

    Raises:
        SettingsError: there is no such level.
    """
    if level is None:
        return frozenset()
    word = level.upper() if isinstance(level, str) else ""
    if word not in LEVELS:
        raise SettingsError(f"there is no log level {level!r}; levels: {', '.join(LEVELS)}")
    return frozenset(LEVELS[LEVELS.index(word) :])
