"""Turns a worker's event rows into TaskEvents: the same ones whatever the isolation.

The table knows each assignment that was passed down, by token; rows name only the token. What the worker's process
writes to its file descriptors 1 and 2 (below Python's streams) is read by the parent and becomes log events of the task
that runs; each shifts the numbers of the rows after it by one, so that the task's seq stays contiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from rxtasks.clock import utc_from_us
from rxtasks.errors import ProtocolError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.pool.words import End, Occurrence
from rxtasks.wire.message import END, LOG, OUTPUT, PROGRESS, RUNNING, Assignment, Events
from rxtasks.wire.outcome import shown_value

__all__ = ["EventAssembler"]

_RUNNING = TaskStatus.RUNNING
_ENDS = {status.value: status for status in TaskStatus}


@attrs.define(eq=False, repr=False)
class _Held:
    task_id: str
    attempt: int
    seq: int
    running: bool = False
    #: Events that were put in here, before the rows to come.
    shift: int = 0


class EventAssembler:
    """Knows what its worker was assigned; makes events of its rows."""

    def __init__(self, worker_id: str, log: Callable[[str, str, str], None] | None = None) -> None:
        self.worker_id = worker_id
        #: Tokens in the order of assignment.
        self._held: dict[int, _Held] = {}
        #: Told (level, message, stream) of lines that belong to no task.
        self._log = log
        #: Set while something written to a file descriptor is left that must come before the end of the attempt that
        #: runs: gives it as (stream, line).
        self.rest: Callable[[], list[tuple[str, str]]] | None = None

    def assigned(self, tasks: list[Assignment]) -> None:
        """These were sent to the worker."""
        held = self._held
        for task in tasks:
            held[task.token] = _Held(task.task_id, task.attempt, task.first_seq - 1)

    def taken_back(self, count: int) -> None:
        """The last `count` assignments will not be started."""
        for token in list(self._held)[len(self._held) - count :] if count else ():
            del self._held[token]

    def take(self, message: Events) -> list[Occurrence]:
        """Return the occurrences of the message's rows, in order.

        Raises:
            ProtocolError: a row does not fit what the worker was assigned.
        """
        occurrences: list[Occurrence] = []
        add = occurrences.append
        held = self._held
        worker_id = self.worker_id
        blobs = iter(message.blobs)
        for row in message.rows:
            kind = row[0]
            token = row[1]
            task = held.get(token)
            if task is None:
                self._without_task(row, blobs)
                continue
            if self.rest is not None and kind == END and task.running:
                for stream, line in self.rest():
                    written = self.written(line, stream, row[3])
                    if written is not None:
                        add(written)
            seq = row[2] + task.shift
            task.seq = seq
            if kind == RUNNING:
                task.running = True
                event: TaskEvent = StatusEvent(
                    task.task_id, seq, task.attempt, worker_id, utc_from_us(row[3]), _RUNNING
                )
                add((token, event, None, 0))
            elif kind == END:
                _, _, _, time_us, word, value, error, delay, ran_us = row
                del held[token]
                blob = next(blobs) if value is not None and value[0] == "p" else None
                info: TaskErrorInfo | None = None
                error_blob: bytes | None = None
                error_object: BaseException | None = None
                if error is not None:
                    info = TaskErrorInfo.from_dict(error)
                    error_object = error.get("object")
                    if error.get("pickle"):
                        error_blob = next(blobs)
                event = StatusEvent(
                    task.task_id,
                    seq,
                    task.attempt,
                    worker_id,
                    utc_from_us(time_us),
                    _ENDS[word],
                    None if value is None else shown_value(value),
                    info,
                )
                add((token, event, End(value, blob, error_blob, error_object, delay, ran_us), 0))
            elif kind == LOG:
                _, _, _, time_us, level, text, stream, fields, size = row
                event = LogEvent(
                    task.task_id, seq, task.attempt, worker_id, utc_from_us(time_us), level, text, stream, fields or {}
                )
                add((token, event, None, size))
            elif kind == PROGRESS:
                _, _, _, time_us, current, total, text, data = row
                event = ProgressEvent(
                    task.task_id, seq, task.attempt, worker_id, utc_from_us(time_us), current, total, text, data or {}
                )
                add((token, event, None, 0))
            elif kind == OUTPUT:
                value = row[4]
                if value is not None and value[0] == "p":
                    next(blobs)
                event = OutputEvent(task.task_id, seq, task.attempt, worker_id, utc_from_us(row[3]), shown_value(value))
                add((token, event, None, row[5]))
            else:
                raise ProtocolError(f"unknown kind of event row {kind!r}")
        return occurrences

    def _without_task(self, row: list[Any], blobs: Any) -> None:
        if row[0] == LOG and row[1] == 0 and self._log is not None:
            self._log(row[4], row[5], row[6])
        elif row[0] == END:
            if row[5] is not None and row[5][0] == "p":
                next(blobs)
            if row[6] is not None and row[6].get("pickle"):
                next(blobs)
        elif row[0] == OUTPUT and row[4] is not None and row[4][0] == "p":
            next(blobs)

    def written(self, text: str, stream: str, time_us: int) -> Occurrence | None:
        """Return a log event of the task that runs now for a line that was written to a file descriptor.

        None if no task runs; then the line is the worker's.
        """
        for token, task in self._held.items():
            if task.running:
                task.shift += 1
                task.seq += 1
                level = "INFO" if stream == "stdout" else "WARNING"
                event = LogEvent(
                    task.task_id, task.seq, task.attempt, self.worker_id, utc_from_us(time_us), level, text, stream
                )
                return token, event, None, -1
        if self._log is not None:
            self._log("INFO" if stream == "stdout" else "WARNING", text, stream)
        return None

    @property
    def holds(self) -> bool:
        """True while the worker has tasks that have not ended, begun or not."""
        return bool(self._held)

    @property
    def runs(self) -> bool:
        """True while a task is known to run."""
        return any(task.running for task in self._held.values())
