"""The standard library's logging, tapped where every record passes on its way to the handlers.

Not a handler on the root logger: then `logging.basicConfig` in a user's module would do nothing, and loggers that do
not propagate would be missed. Handlers that were there before still get each record, with the console muted in a
worker, because the line is in the task's log already.

A root logger left at its default WARNING is opened to INFO, so that what tasks log at INFO is seen. Records of
others below WARNING are kept from the handlers that were there, as before.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from rxtasks.worker.capture.levels import level_name
from rxtasks.worker.failure import format_traceback
from rxtasks.worker.normalise import clean_text, short_repr

if TYPE_CHECKING:
    from rxtasks.worker.capture.tap import Tap

__all__ = ["Records"]

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Records:
    """The tap of logging."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._original: Any = None
        self._mine: Any = None
        self._root_level: int | None = None

    def install(self) -> None:
        original = self._original = logging.Logger.callHandlers
        tap = self._tap

        def callHandlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            context = tap.live()
            if context is not None or tap.worker_log is not None:
                tap.say(
                    context, level_name(record.levelno), _message(record), "logging", tap.clean_fields(_fields(record))
                )
            if self._was_hidden(logger, record):
                return
            before, tap.muted.on = tap.muted.on, context is not None or tap.worker_log is not None
            try:
                original(logger, record)
            finally:
                tap.muted.on = before

        self._mine = callHandlers
        logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign, assignment]
        root = logging.getLogger()
        if root.level == logging.WARNING:
            self._root_level = root.level
            root.setLevel(logging.INFO)

    def uninstall(self) -> None:
        if logging.Logger.callHandlers is self._mine:
            logging.Logger.callHandlers = self._original  # type: ignore[method-assign]
        root = logging.getLogger()
        if self._root_level is not None and root.level == logging.INFO:
            root.setLevel(self._root_level)
        self._root_level = None

    def _was_hidden(self, logger: logging.Logger, record: logging.LogRecord) -> bool:
        """Say whether only the opened root level let this record pass."""
        level = self._root_level
        if level is None or record.levelno >= level:
            return False
        root = logging.getLogger()
        if root.level != logging.INFO:
            return False
        at: logging.Logger | None = logger
        while at is not None:
            if at.level:
                return at is root
            at = at.parent
        return False


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:
        text = f"{record.msg} {short_repr(record.args)}"
    if record.exc_info:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is not None:
            text = f"{text}\n{format_traceback(error).rstrip()}"
    elif record.exc_text:
        text = f"{text}\n{record.exc_text}"
    if record.stack_info:
        text = f"{text}\n{record.stack_info}"
    return clean_text(text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if record.name != "root":
        fields["logger"] = record.name
    return fields
