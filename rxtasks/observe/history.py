"""What a tracker keeps of a task's logs and outputs for subscribers that come late, with its bounds (R6).

| what     | bound                                 |
|----------|---------------------------------------|
| statuses | all (two per attempt)                 |
| logs     | the last LINES, at most BYTES in all  |
| outputs  | the last LINES, at most BYTES in all  |
| progress | the latest                            |
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, OutputEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.weight import weigh

__all__ = ["BYTES", "LINES", "Packed", "Tail", "unpack_status"]

#: A status event without its task's id, as a plain tuple: the garbage collector stops looking at a tuple of strings and
#: numbers, and a tracker that is kept for long has two of them or more.
Packed = tuple[int, int, str | None, datetime, str, Any, TaskErrorInfo | None]

#: Logs, and outputs, that are kept of a task.
LINES: Final = 1_000
#: Bytes of each; see weigh().
BYTES: Final = 2**20

#: Bytes of an event beside its text (rxtasks.observe.weight).
_BASE: Final = 200
#: Bytes of the text or value of an event that needs no weighing: LINES such events are within BYTES.
_LIGHT: Final = BYTES // LINES - _BASE

_E = TypeVar("_E", LogEvent, OutputEvent)

_STATUS: Final = {status.value: status for status in TaskStatus}


def unpack_status(task_id: str, packed: Packed) -> StatusEvent:
    """Return an event equal to the one that was packed."""
    seq, attempt, worker_id, time, status, result, error = packed
    return StatusEvent(task_id, seq, attempt, worker_id, time, _STATUS[status], result, error)


class _Ring(Generic[_E]):
    """The last events of one kind. One thread adds; others may copy at any time."""

    __slots__ = ("events", "lost", "size", "sizes")

    def __init__(self) -> None:
        self.events: deque[_E] = deque(maxlen=LINES)
        #: The weight of each, and of all. Not kept while all have been so light that LINES of them are within BYTES.
        self.sizes: deque[int] | None = None
        self.size = 0
        #: Seq of the last event that had to go; 0 = none had to.
        self.lost = 0

    def add(self, event: _E, size: int) -> None:
        events = self.events
        if len(events) == LINES:
            self.lost = events[0].seq
        if self.sizes is None and 0 <= size <= _LIGHT:
            events.append(event)
        else:
            self._weigh_in(event, size)

    def extend(self, events: list[_E], sizes: list[int]) -> None:
        """Do as add for each."""
        if self.sizes is not None or min(sizes) < 0 or max(sizes) > _LIGHT:
            for event, size in zip(events, sizes, strict=True):
                self.add(event, size)
            return
        held = self.events
        gone = len(held) + len(events) - LINES
        if gone > 0:
            self.lost = (held[gone - 1] if gone <= len(held) else events[gone - len(held) - 1]).seq
        held.extend(events)

    def _weigh_in(self, event: _E, size: int) -> None:
        events, sizes = self.events, self.sizes
        if sizes is None:
            # As if each of those before had been as heavy as a light one may be.
            sizes = self.sizes = deque([_BASE + _LIGHT] * len(events), LINES)
            self.size = len(events) * (_BASE + _LIGHT)
        if len(sizes) == LINES:
            self.size -= sizes[0]
        weight = _BASE + size if size >= 0 else weigh(event)
        events.append(event)
        sizes.append(weight)
        self.size += weight
        while self.size > BYTES and len(events) > 1:
            self.lost = events.popleft().seq
            self.size -= sizes.popleft()


class Tail:
    """The last logs and outputs of a task."""

    __slots__ = ("logs", "outputs")

    def __init__(self) -> None:
        self.logs: _Ring[LogEvent] = _Ring()
        self.outputs: _Ring[OutputEvent] = _Ring()

    def add(self, event: TaskEvent, size: int = -1) -> None:
        """Keep `event` if it is a log or an output; `size` is its bytes, -1 = not known."""
        kind = type(event)
        if kind is LogEvent:
            self.logs.add(event, size)  # type: ignore[arg-type]
        elif kind is OutputEvent:
            self.outputs.add(event, size)  # type: ignore[arg-type]

    def add_run(self, events: list[Any], sizes: list[int]) -> None:
        """Keep `events`, logs only or outputs only; `sizes` are their bytes, -1 = not known."""
        (self.logs if type(events[0]) is LogEvent else self.outputs).extend(events, sizes)

    @property
    def lost(self) -> int:
        """Return the seq of the last event that is no longer held; 0 when all are."""
        return max(self.logs.lost, self.outputs.lost)
