"""What a pool says on stderr: written by a thread of its own, so that a terminal that stands still holds up nothing."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Final

__all__ = ["Narrator"]

#: Lines that wait for a slow reader; then the oldest go, and how many is told in their place.
MAX_LINES: Final = 10_000
#: Seconds that what is left has to be taken at the end.
_PATIENCE: Final = 2.0


class Narrator:
    """Writes lines to a descriptor, in their order; never raises and never waits, but at the end."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._lines: deque[str] = deque()
        self._lost = 0
        self._over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="rxtasks-narrator", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """Have a line written; any thread."""
        with self._changed:
            if len(self._lines) >= MAX_LINES:
                self._lines.popleft()
                self._lost += 1
            self._lines.append(line)
            self._changed.notify()

    def close(self) -> None:
        """Write what is left, as far as it is taken."""
        with self._changed:
            self._over = True
            self._changed.notify()
        until = time.monotonic() + _PATIENCE
        self._thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._lines or self._over):
                    self._changed.wait()
                if not self._lines:
                    return
                text = "".join(f"{line}\n" for line in self._lines)
                if self._lost:
                    text = f"rxtasks: {self._lost:,} lines were not shown: this terminal was too slow\n{text}"
                self._lines.clear()
                self._lost = 0
            # Not by sys.stderr: whoever holds its lock at the end of the interpreter holds up that.
            data = text.encode("utf-8", "backslashreplace")
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:  # the terminal has gone: nobody reads it any more
                continue
