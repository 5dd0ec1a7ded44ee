"""Python's warnings, tapped at `warnings.showwarning`.

Python shows a warning once for each place in the code. For a task that must mean: once in this task, not once in this
worker; else what a task says would depend on which tasks ran here before. So after a task has warned, the places that
Python remembers are forgotten before the next one begins.
"""

from __future__ import annotations

import contextlib
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
        #: A task has warned since forget().
        self.seen = False

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
                self.seen = True
                fields = {"category": category.__name__, "filename": filename, "lineno": lineno}
                text = clean_text(f"{category.__name__}: {clean_text(message)}")
                tap.say(context, "WARNING", text, "warnings", tap.clean_fields(fields))
            else:
                original(message, category, filename, lineno, file, line)

        self._mine = showwarning
        warnings.showwarning = showwarning

    @property
    def in_place(self) -> bool:
        """False when somebody has put another one in place since (`warnings.catch_warnings`)."""
        return warnings.showwarning is self._mine

    def refresh(self) -> None:
        """Tap again what is there now."""
        if not self.in_place:
            self.install()

    def forget(self) -> None:
        """Have Python show again what it has shown before."""
        self.seen = False
        with contextlib.suppress(Exception):
            mutated = getattr(warnings, "_filters_mutated", None)
            if mutated is not None:
                mutated()
            else:  # Python 3.14
                with warnings._lock:  # type: ignore[attr-defined]
                    warnings._filters_mutated_lock_held()  # type: ignore[attr-defined]

    def uninstall(self) -> None:
        if warnings.showwarning is self._mine:
            warnings.showwarning = self._original
