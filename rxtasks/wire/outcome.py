"""How a task ended, and what `result()` makes of it in the caller's thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs

from rxtasks.errors import PayloadError, TaskCancelled, TaskFailed
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import ValueRef
from rxtasks.lifecycle.signals import Cancelled
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.wire.framing import Buffer
from rxtasks.wire.payload import load_exception, loads

__all__ = ["Ended", "Outcome", "RemoteTraceback", "outcome_of", "shown_value"]

_UNSET: Any = object()


class RemoteTraceback(Exception):
    """The cause of an exception that was raised elsewhere; its text is the traceback as it was there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return self.text


def shown_value(value: Sequence[Any] | None) -> Any:
    """Return what an event shows of a value in row form: the JSON value itself, or a ValueRef.

    Forms: see rxtasks.wire.message. An object handed over in one process has the form
    ["o", object, type, preview] or, where it is exact JSON, ["o", object, type, preview, copy].
    """
    if value is None:
        return None
    form = value[0]
    if form == "j":
        return value[1]
    if form == "p" or form == "t":
        return ValueRef(value[2], value[1], value[3])
    return value[4] if len(value) > 4 else ValueRef(value[2], 0, value[3])


@attrs.define(slots=True)
class Outcome:
    """The end of a task as the core knows it. Nothing is unpickled before result() is called."""

    status: TaskStatus
    #: The value in row form (see rxtasks.wire.message); None = no value.
    value: Sequence[Any] | None = None
    #: The value of form "p" (pickled) or "t" (tagged JSON): bytes, or a view of the memory file in which it came.
    blob: Buffer | None = None
    error: TaskErrorInfo | None = None
    #: dump_exception of the handler's exception.
    error_blob: bytes | None = None
    #: The exception itself, where it is in this process already.
    error_object: BaseException | None = None
    #: store_exception of it, of a durable store.
    raised: bytes | None = None
    _loaded: Any = attrs.field(default=_UNSET, init=False, repr=False, eq=False)

    @property
    def plain(self) -> bool:
        """True when it is a success with nothing beside a JSON value (or none)."""
        value = self.value
        return (
            self.status is TaskStatus.SUCCEEDED
            and self.blob is None
            and (value is None or (value[0] == "j" and type(value[1]) is not ValueRef))
        )

    def event_value(self) -> Any:
        """Return what the StatusEvent shows: the JSON value, or a ValueRef that stands for it."""
        return shown_value(self.value)

    def result(self) -> Any:
        """Return the task's result, the same object at each call.

        Raises:
            TaskCancelled: it was cancelled.
            Exception: it failed: the handler's own exception where it can be rebuilt here, with a RemoteTraceback as
                its cause where it came from elsewhere; else TaskFailed, which shows it.
            PayloadError: it succeeded, but its value cannot be rebuilt here.
        """
        if self.status == TaskStatus.SUCCEEDED:
            value = self.value
            if value is None:
                return None
            if value[0] not in ("p", "t") and not isinstance(value[1], ValueRef):
                return value[1]
            if self._loaded is _UNSET:
                if self.blob is None:
                    raise PayloadError("the result is no longer held here", "result")
                if value[0] == "t":
                    from rxtasks.wire.tagged import load_tagged

                    self._loaded = load_tagged(bytes(self.blob))
                else:
                    self._loaded = loads(self.blob, what="result")
            return self._loaded
        error = self.exception()
        assert error is not None
        try:
            raise error
        finally:
            del error, self  # the traceback holds this frame: no cycle through it

    def exception(self) -> BaseException | None:
        """Return what result() raises because of how the task ended; None if it succeeded."""
        if self.status == TaskStatus.SUCCEEDED:
            return None
        if self._loaded is _UNSET:
            self._loaded = self._cancellation() if self.status == TaskStatus.CANCELLED else self._failure()
        error: BaseException = self._loaded
        return error

    def _cancellation(self) -> BaseException:
        known, info = self.error_object, self.error
        if isinstance(known, TaskCancelled):
            return known
        if isinstance(known, Cancelled):
            return TaskCancelled(known.reason)
        if info is not None and isinstance(info.details, dict) and "reason" in info.details:
            return TaskCancelled(info.details["reason"])
        said = "" if info is None else info.message
        plain = str(TaskCancelled())
        if said in ("", "cancelled", plain):
            return TaskCancelled()
        return TaskCancelled(said.removeprefix(f"{plain}: "))

    def _failure(self) -> BaseException:
        if isinstance(self.error_object, Exception):
            return self.error_object
        info = self.error or TaskErrorInfo(type="RuntimeError", message=f"the task ended as {self.status}")
        error = None
        if self.raised is not None:
            from rxtasks.wire.stored_errors import restore_exception

            error = restore_exception(self.raised, info)
        elif self.error_blob is not None:
            error = load_exception(self.error_blob, info)
        if error is None:
            error = TaskFailed(info)
        if info.traceback:
            error.__cause__ = RemoteTraceback(info.traceback)
        return error


#: How a task ended, on its way from the core to whoever waits. Most succeed with a JSON value or none: then it is that
#: value in row form (see rxtasks.wire.message), which costs no object.
Ended: TypeAlias = Outcome | Sequence[Any] | None


def outcome_of(ended: Ended) -> Outcome:
    """Return it as an Outcome."""
    return ended if isinstance(ended, Outcome) else Outcome(TaskStatus.SUCCEEDED, ended)
