"""sys.stdout and sys.stderr, tapped."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rxtasks.worker.capture.tap import Tap

__all__ = ["CapturedStream", "original_of"]

#: Modules that talk to a person at a terminal: what they write is theirs, not the task's.
_DEBUGGERS: Final = frozenset({"bdb", "cmd", "code", "pdb", "IPython.core.debugger", "IPython.terminal.debugger"})


def original_of(stream: Any) -> Any:
    """Return what a stream led to before it was tapped."""
    while isinstance(stream, CapturedStream):
        stream = stream.original
    return stream


class CapturedStream(io.TextIOBase):
    """Stands for a standard stream; what a task writes becomes lines of its log.

    Its file descriptor is the original's, so subprocesses may be given it.
    """

    def __init__(self, tap: Tap, name: str, original: Any) -> None:
        self.tap = tap
        self._stream = name
        self.original = original
        self._buffer = _Bytes(self)

    def write(self, text: str) -> int:
        """Take text, as any text stream does."""
        tap = self.tap
        if type(text) is not str:
            if not isinstance(text, str):
                raise TypeError(f"write() argument must be str, not {type(text).__name__}")
            record = getattr(text, "record", None)
            if record is not None and tap._lines.from_sink(record):
                return self._pass(text)
        if tap.muted.on:
            return self._pass(text)
        context = tap.live()
        if tap.worker_log is None and (context is None or sys._getframe(1).f_globals.get("__name__") in _DEBUGGERS):
            return self._pass(text)
        tap.text(context, self._stream, text)
        return len(text)

    def _pass(self, text: str) -> int:
        """Hand on what is not the task's, or has been captured as a record: elsewhere to the console, here nowhere."""
        if self.tap.worker_log is None and self.original is not None:
            self.original.write(text)
        return len(text)

    def writelines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self.original is not None:
            try:
                self.original.flush()
            except ValueError:  # closed
                if self.tap.live() is None:
                    raise

    def close(self) -> None:
        """Do nothing: a task must not close the stream of others."""

    def isatty(self) -> bool:
        return self.tap.live() is None and self.original is not None and bool(self.original.isatty())

    def fileno(self) -> int:
        if self.original is None:
            raise io.UnsupportedOperation("fileno")
        return int(self.original.fileno())

    def writable(self) -> bool:
        return True

    def reconfigure(self, **options: Any) -> None:
        if self.tap.worker_log is None and self.tap.live() is None and hasattr(self.original, "reconfigure"):
            self.original.reconfigure(**options)

    @property
    def buffer(self) -> Any:
        return self._buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.original, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return getattr(self.original, "errors", None) or "backslashreplace"

    @property
    def line_buffering(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"<{self._stream}>"

    @property
    def mode(self) -> str:
        return "w"

    def __getattr__(self, name: str) -> Any:
        if name == "original":
            raise AttributeError(name)
        return getattr(self.original, name)


class _Bytes(io.RawIOBase):
    """The `buffer` of a captured stream: bytes are read as UTF-8, what is none is escaped."""

    def __init__(self, stream: CapturedStream) -> None:
        self._text = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: Any) -> int:
        tap = self._text.tap
        raw = bytes(data)
        if tap.worker_log is None and tap.live() is None:
            target = getattr(self._text.original, "buffer", None)
            if target is not None:
                target.write(raw)
                return len(raw)
        self._text.write(self._decoder.decode(raw))
        return len(raw)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self._text.flush()

    def close(self) -> None:
        """Do nothing: a task must not close the stream of others."""

    def fileno(self) -> int:
        return self._text.fileno()

    def isatty(self) -> bool:
        return self._text.isatty()

    @property
    def raw(self) -> _Bytes:
        return self
