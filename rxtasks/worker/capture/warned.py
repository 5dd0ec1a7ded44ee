"""Python's warnings, tapped at `warnings.showwarning`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TextIO

from rxtasks.worker.normalise import clean_text

if TYPE_CHECKING:
    from rxtasks.worker.capture.tap import Tap

__all__ = ["Warned"]


class Warned:
    """The tap of warnings."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._original: Any = None
        self._mine: Any = None

    def install(self) -> None:
        original = self._original = warnings.showwarning
        tap = self._tap

        def showwarning(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            context = tap.live()
            if file is None and (context is not None or tap.worker_log is not None):
                fields = {"category": category.__name__, "filename": filename, "lineno": lineno}
                text = clean_text(f"{category.__name__}: {clean_text(message)}")
                tap.say(context, "WARNING", text, "warnings", tap.clean_fields(fields))
            else:
                original(message, category, filename, lineno, file, line)

        self._mine = showwarning
        warnings.showwarning = showwarning

    def uninstall(self) -> None:
        if warnings.showwarning is self._mine:
            warnings.showwarning = self._original
