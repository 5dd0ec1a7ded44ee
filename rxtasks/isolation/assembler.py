"""Turns a worker's event rows into TaskEvents: the same ones whatever the isolation.

The table knows each assignment that was passed down, by token; rows name only the token. What the worker's process
writes to its file descriptors 1 and 2 (below Python's streams) is read by the parent and becomes log events of the task
that runs; each shifts the numbers of the rows after it by one, so that the task's seq stays contiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any

from rxtasks.clock import utc_from_us, utcs_from_us
from rxtasks.errors import ProtocolError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import (
    LogEvent,
    OutputEvent,
    ProgressEvent,
    TaskEvent,
    output_events,
    status_event,
    status_events,
)
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.pool.words import End, Occurrence, Run, Whole
from rxtasks.wire.message import END, LOG, OUTPUT, OUTPUTS, PROGRESS, RUNNING, WHOLE, Assignments, Events, FirstAttempts
from rxtasks.wire.outcome import shown_value

__all__ = ["EventAssembler"]

_RUNNING, _SUCCEEDED = TaskStatus.RUNNING, TaskStatus.SUCCEEDED
#: End(*fields) without the call of a Python function that a NamedTuple's own constructor is.
_end: Callable[[tuple[Any, ...]], End] = partial(tuple.__new__, End)
#: Forms of values that travel beside the rows.
_APART = ("p", "t")
#: Attempts for which columns do not pay.
_FEW = 4
_ENDS = {status.value: status for status in TaskStatus}


class EventAssembler:
    """Knows what its worker was assigned; makes events of its rows."""

    def __init__(self, worker_id: str, log: Callable[[str, str, str], None] | None = None) -> None:
        self.worker_id = worker_id
        #: Task and attempt by token, in the order of assignment; of first attempts the task alone. Not the assignments: tuples
        #: of atoms are nothing to the garbage collector.
        self._held: dict[int, str | tuple[str, int]] = {}
        #: Of those that are known to run: the seq of the last event.
        self._seqs: dict[int, int] = {}
        #: Of some: how many events were put in here, before the rows to come.
        self._shifts: dict[int, int] = {}
        #: Told (level, message, stream) of lines that belong to no task.
        self._log = log
        #: Set while something written to a file descriptor is left that must come before the end of the attempt that
        #: runs: gives it as (stream, line).
        self.rest: Callable[[], list[tuple[str, str]]] | None = None

    def assigned(self, tasks: Assignments) -> None:
        """These were sent to the worker."""
        held = self._held
        if isinstance(tasks, FirstAttempts):
            held.update(zip(tasks.tokens, tasks.task_ids, strict=True))
            return
        for task in tasks:
            held[task.token] = (task.task_id, task.attempt)

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
        held, seqs, shifts = self._held, self._seqs, self._shifts
        worker_id = self.worker_id
        blobs = iter(message.blobs)
        for row in message.rows:
            kind = row[0]
            if kind == WHOLE:
                self._take_whole(row, occurrences)
                continue
            token = row[1]
            task = held.get(token)
            if task is None:
                self._without_task(row, blobs)
                continue
            task_id, attempt = (task, 1) if isinstance(task, str) else task
            if self.rest is not None and kind == END and token in seqs:
                for stream, line in self.rest():
                    written = self.written(line, stream, row[3])
                    if written is not None:
                        add(written)
            seq = row[2]
            if shifts:
                seq += shifts.get(token, 0)
            if kind == RUNNING:
                seqs[token] = seq
                event: TaskEvent = status_event(task_id, seq, attempt, worker_id, utc_from_us(row[3]), _RUNNING)
                add((token, event, None, row[3]))
            elif kind == END:
                _, _, _, time_us, word, value, error, delay, ran_us = row
                del held[token]
                seqs.pop(token, None)
                if shifts:
                    shifts.pop(token, None)
                blob: bytes | None = None
                if value is not None:
                    # A tuple of atoms is nothing to the garbage collector; this one is kept for long.
                    value = tuple(value)
                    if value[0] in _APART:
                        blob = next(blobs)
                info: TaskErrorInfo | None = None
                error_blob: bytes | None = None
                error_object: BaseException | None = None
                if error is not None:
                    info = TaskErrorInfo.from_dict(error)
                    error_object = error.get("object")
                    if error.get("pickle"):
                        error_blob = next(blobs)
                event = status_event(
                    task_id,
                    seq,
                    attempt,
                    worker_id,
                    utc_from_us(time_us),
                    _ENDS[word],
                    None if value is None or info is not None else shown_value(value),
                    info,
                )
                add((token, event, _end((value, blob, error_blob, error_object, delay, ran_us)), time_us))
            elif kind == OUTPUTS:
                _, _, _, times, values, sizes = row
                seqs[token] = seq + len(times) - 1
                outputs = output_events(task_id, seq, attempt, worker_id, utcs_from_us(times), values)
                add(Run(token, outputs, sizes))
            elif kind == LOG:
                seqs[token] = seq
                _, _, _, time_us, level, text, stream, fields, size = row
                event = LogEvent(
                    task_id, seq, attempt, worker_id, utc_from_us(time_us), level, text, stream, fields or {}
                )
                add((token, event, None, size))
            elif kind == PROGRESS:
                seqs[token] = seq
                _, _, _, time_us, current, total, text, data = row
                event = ProgressEvent(
                    task_id, seq, attempt, worker_id, utc_from_us(time_us), current, total, text, data or {}
                )
                add((token, event, None, 0))
            elif kind == OUTPUT:
                seqs[token] = seq
                value = row[4]
                if value is not None and value[0] in _APART:
                    next(blobs)
                event = OutputEvent(task_id, seq, attempt, worker_id, utc_from_us(row[3]), shown_value(value))
                add((token, event, None, row[5]))
            else:
                raise ProtocolError(f"unknown kind of event row {kind!r}")
        return occurrences

    def _take_whole(self, row: list[Any], occurrences: list[Occurrence]) -> None:
        """Append the whole attempts of a row. None is known to run: what was written to a descriptor is not theirs."""
        _, tokens, seqs, begun, ended, values, rans = row
        held, worker_id = self._held, self.worker_id
        if not held.keys() >= {*tokens} or len({*tokens}) < len(tokens):
            # Of a worker that was given up, or out of its mind: one by one, and what is not known is left out.
            for token, *rest in zip(*row[1:], strict=True):
                if token in held:
                    self._take_whole([WHOLE, [token], *([item] for item in rest)], occurrences)
            return
        known, shifts = self._seqs, self._shifts
        if known or shifts:
            for token in tokens:
                known.pop(token, None)
                shifts.pop(token, None)
        # A tuple of atoms is nothing to the garbage collector; these are kept for long.
        results = [("j", value) for value in values]
        if len(tokens) < _FEW:
            firsts, lasts = [], []
            for token, seq, begun_us, ended_us, value in zip(tokens, seqs, begun, ended, values, strict=True):
                one = held.pop(token)
                task_id, attempt = (one, 1) if isinstance(one, str) else one
                firsts.append(status_event(task_id, seq, attempt, worker_id, utc_from_us(begun_us), _RUNNING))
                end = utc_from_us(ended_us)
                lasts.append(status_event(task_id, seq + 1, attempt, worker_id, end, _SUCCEEDED, value))
            occurrences.append(Whole(tokens, firsts, lasts, begun, ended, results, rans))
            return
        task_ids: list[Any] = list(map(held.pop, tokens))
        attempts = [1] * len(tokens)
        for at, task in enumerate(task_ids):
            if type(task) is tuple:
                task_ids[at], attempts[at] = task
        firsts = status_events(task_ids, seqs, attempts, worker_id, utcs_from_us(begun), _RUNNING, repeat(None))
        nexts = [seq + 1 for seq in seqs]
        lasts = status_events(task_ids, nexts, attempts, worker_id, utcs_from_us(ended), _SUCCEEDED, values)
        occurrences.append(Whole(tokens, firsts, lasts, begun, ended, results, rans))

    def _without_task(self, row: list[Any], blobs: Any) -> None:
        if row[0] == LOG and row[1] == 0 and self._log is not None:
            self._log(row[4], row[5], row[6])
        elif row[0] == END:
            if row[5] is not None and row[5][0] in _APART:
                next(blobs)
            if row[6] is not None and row[6].get("pickle"):
                next(blobs)
        elif row[0] == OUTPUT and row[4] is not None and row[4][0] in _APART:
            next(blobs)

    def written(self, text: str, stream: str, time_us: int) -> Occurrence | None:
        """Return a log event of the task that runs now for a line that was written to a file descriptor.

        None if no task runs; then the line is the worker's.
        """
        for token in self._seqs:
            task = self._held[token]
            task_id, attempt = (task, 1) if isinstance(task, str) else task
            self._shifts[token] = self._shifts.get(token, 0) + 1
            seq = self._seqs[token] = self._seqs[token] + 1
            level = "INFO" if stream == "stdout" else "WARNING"
            event = LogEvent(task_id, seq, attempt, self.worker_id, utc_from_us(time_us), level, text, stream)
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
        return bool(self._seqs)
