"""Task logs from a level on, also written to the caller's stderr; never holds up anybody."""

from __future__ import annotations

import sys
import threading
from collections import deque

from rxtasks.lifecycle.events import LogEvent
from rxtasks.observe.levels import levels_from

__all__ = ["Echo"]

#: Lines that may wait for a slow stderr; older ones are dropped and counted.
_MOST = 1000


class Echo:
    """Writes log events of at least `level` to stderr, on a thread of its own that lives while there are any."""

    def __init__(self, level: str | None) -> None:
        self.levels = levels_from(level)
        self._lines: deque[LogEvent] = deque(maxlen=_MOST)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._put = 0
        self._written = 0

    def put(self, event: LogEvent) -> None:
        """Write the event soon; drops the oldest when a thousand wait."""
        with self._lock:
            self._lines.append(event)
            self._put += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rxtasks-echo", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._lines:
                    self._thread = None
                    return
                event = self._lines.popleft()
                dropped = self._put - self._written - len(self._lines) - 1
                self._written = self._put - len(self._lines)
            text = "".join(ch if ch.isprintable() or ch == "\t" else f"\\x{ord(ch):02x}" for ch in event.message)
            line = f"{event.time:%H:%M:%S} {event.level:<8} {event.task_id[-6:]} {text}\n"
            if dropped > 0:
                line = f"({dropped} lines not shown: stderr is slow)\n{line}"
            try:
                sys.stderr.write(line)
                sys.stderr.flush()
            except (OSError, ValueError, AttributeError):
                pass

    def finish(self, timeout: float) -> None:
        """Wait until all lines are written, at most `timeout` seconds."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
