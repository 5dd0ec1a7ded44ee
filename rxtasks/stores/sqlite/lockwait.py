"""Waiting for the write lock that another process has: patiently, and with word of who has it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from rxtasks.stores.sqlite.holders import holder_of

__all__ = ["LockWait"]

#: Milliseconds between two tries, as SQLite's own handler waits; the last goes on.
_PAUSES: Final = (1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100)
#: Seconds after which it is reported that somebody has it.
_PATIENCE: Final = 1.0


class LockWait:
    """The busy handler of one connection.

    Args:
        path: of the store.
        seconds: that it waits in all.
        report: told, once a wait, who keeps it waiting.
    """

    def __init__(self, path: str, seconds: float, report: Callable[[str], None] | None) -> None:
        self._path = path
        self._seconds = seconds
        self._report = report
        self._since = 0.0
        self._told = False
        #: Who had the lock when the last wait was given up.
        self.holder: str | None = None

    def __call__(self, tries: int) -> bool:
        """Wait a little and say whether to try again."""
        now = time.monotonic()
        if tries == 0:
            self._since, self._told = now, False
        waited = now - self._since
        if waited >= self._seconds:
            self.holder = holder_of(self._path)
            return False
        if waited >= _PATIENCE and not self._told and self._report is not None:
            self._told = True
            holder = holder_of(self._path) or "another process"
            self._report(
                f"{holder} has held the write lock of the store {self._path} for {waited:.0f} s;"
                f" waiting for {self._seconds - waited:.0f} s more"
            )
        time.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)] / 1000)
        return True
