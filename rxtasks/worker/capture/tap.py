"""The taps of one process, set and taken out together, and the rule that finds the task a line belongs to."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from rxtasks.forking import put_right
from rxtasks.worker.capture import warned
from rxtasks.worker.capture.lines import Lines
from rxtasks.worker.capture.records import Records
from rxtasks.worker.capture.streams import CapturedStream, original_of
from rxtasks.worker.context import CURRENT, TaskContext
from rxtasks.worker.normalise import FIELDS_LIMIT, clean_text, data_copy

__all__ = ["Tap", "WorkerLog"]

#: Takes (level, message, stream, fields) of what no task said.
WorkerLog = Callable[[str, str, str, "dict[str, Any] | None"], None]

#: Characters of one line of output; a longer one is split (a character is at most four bytes).
LINE_LIMIT: Final = 64 * 1024
_LEVELS: Final = {"stdout": "INFO", "stderr": "WARNING"}


class _Muted(threading.local):
    #: True while handlers that were there before write what has been captured as a record already.
    on = False


class Tap:
    """Taps stdout, stderr, logging, loguru and warnings of this process.

    Args:
        worker_log: takes what no task said, in a worker process. None: this is the caller's process, and such lines
            go where they always went.
    """

    def __init__(self, worker_log: WorkerLog | None) -> None:
        self.worker_log = worker_log
        self.muted = _Muted()
        #: Between install() and uninstall(); else the streams only pass on.
        self.active = False
        #: Held to put taps in and to take them out: attempts begin on many threads, and anyone may import loguru.
        self.setting = threading.RLock()
        self._lock = threading.RLock()
        self._loose: dict[str, list[str]] = {}
        self.stdout: CapturedStream | None = None
        self.stderr: CapturedStream | None = None
        self._records = Records(self)
        self._lines = Lines(self)
        self._warned = warned.Warned(self)
        put_right(self)

    def after_fork(self) -> None:
        """In a forked child: whoever held a lock is not here."""
        self.setting = threading.RLock()
        self._lock = threading.RLock()

    def install(self) -> None:
        """Set the taps."""
        with self.setting:
            self.stdout = CapturedStream(self, "stdout", original_of(sys.stdout or sys.__stdout__))
            self.stderr = CapturedStream(self, "stderr", original_of(sys.stderr or sys.__stderr__))
            sys.stdout, sys.stderr = self.stdout, self.stderr
            self.active = True
            self._records.install()
            self._warned.install()
            self._lines.install()

    def uninstall(self) -> None:
        """Take the taps out and put back what was there; what somebody else has replaced since is left alone."""
        with self.setting:
            self.active = False
            for name in ("stdout", "stderr"):
                there = getattr(sys, name)
                if isinstance(there, CapturedStream) and there.tap is self:
                    setattr(sys, name, there.original)
            self._lines.uninstall()
            self._warned.uninstall()
            self._records.uninstall()

    def begin(self) -> None:
        """Make sure at the start of an attempt that the taps are still in."""
        if self._warned.seen:
            self._warned.forget()
        if sys.stdout is self.stdout and sys.stderr is self.stderr and self._lines.in_place and self._warned.in_place:
            return
        with self.setting:
            if self.active:  # else taken out meanwhile: this attempt has been abandoned
                if not self._in_place:
                    self._streams_again()
                self._lines.refresh()
                self._warned.refresh()

    @property
    def _in_place(self) -> bool:
        return sys.stdout is self.stdout and sys.stderr is self.stderr

    def _streams_again(self) -> None:
        """Somebody replaced a stream: in a worker put ours back, elsewhere tap what is there now.

        With a new object: whoever replaced the stream will put back the one that was there, and that must still lead
        to where it led.
        """
        for name in ("stdout", "stderr"):
            there = getattr(sys, name)
            if self.worker_log is None and not (isinstance(there, CapturedStream) and there.tap is self):
                there = CapturedStream(self, name, there)
                setattr(sys, name, there)
            if self.worker_log is None:
                setattr(self, name, there)
            else:
                setattr(sys, name, getattr(self, name))

    def finish(self, context: TaskContext) -> None:
        """Put the lines of an attempt that have no end yet."""
        partial = context._partial
        if partial:
            with self._lock:
                rest = [(stream, "".join(parts)) for stream, parts in partial.items() if parts]
                partial.clear()
            for stream, text in rest:
                self._line(context, stream, text)

    def logger(self, context: TaskContext) -> Any:
        """Return the loguru logger of a task."""
        return self._lines.logger(context)

    # -- from the taps --

    def live(self) -> TaskContext | None:
        """Return the context of the task that runs here and now."""
        context = CURRENT.get()
        return context if context is not None and self.active and not context._way.closed else None

    def text(self, context: TaskContext | None, stream: str, text: str) -> None:
        """Take text written to a stream: whole lines go on, the rest waits for its line end."""
        with self._lock:
            if context is None:
                store = self._loose
            else:
                found = context._partial
                store = found if found is not None else {}
                context._partial = store
            parts = store.get(stream)
            if parts is None:
                parts = store[stream] = []
            if "\n" not in text:
                parts.append(text)
                if len(text) < LINE_LIMIT and (len(parts) & 63 or sum(map(len, parts)) < LINE_LIMIT):
                    return
                lines = ["".join(parts)]
                parts.clear()
            else:
                lines = text.split("\n")
                rest = lines.pop()
                if parts:
                    lines[0] = "".join(parts) + lines[0]
                    parts.clear()
                if rest:
                    parts.append(rest)
        for line in lines:
            self._line(context, stream, line)

    def _line(self, context: TaskContext | None, stream: str, line: str) -> None:
        if line.endswith("\r"):
            line = line[:-1]
        level = _LEVELS[stream]
        if len(line) <= LINE_LIMIT // 4 or (len(line) <= LINE_LIMIT and line.isascii()):
            self.say(context, level, clean_text(line), stream, None)
            return
        step = LINE_LIMIT if line.isascii() else LINE_LIMIT // 4
        for start in range(0, len(line), step):
            self.say(context, level, clean_text(line[start : start + step]), stream, None)

    def say(
        self, context: TaskContext | None, level: str, message: str, stream: str, fields: dict[str, Any] | None
    ) -> None:
        """Put a line into the task's log, or the worker's. `message` and `fields` are clean."""
        if context is not None and context._way.log(level, message, stream, fields):
            return
        if self.worker_log is not None:
            self.worker_log(level, message, stream, fields)

    def clean_fields(self, fields: dict[str, Any]) -> dict[str, Any] | None:
        """Return fields made sendable, None where there are none."""
        return data_copy(fields, FIELDS_LIMIT) if fields else None
