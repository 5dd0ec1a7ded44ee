"""What the memory store keeps of a task (see its essay): an Envelope, a Claim, a Row or, once it has ended, a tuple."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias, final

import attrs
import orjson

from rxtasks.clock import utc_from_us
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import ProgressEvent, ValueRef
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, TaskOptions
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.stores.base import Change, Claim, Envelope
from rxtasks.stores.gates import Gate

__all__ = ["ATOMS", "Ended", "Kept", "Links", "Row", "Waiting", "ended_of", "record_of", "row_of", "short"]

#: Bytes of JSON up to which the result of an ended task is kept when nobody holds its tracker.
_KEPT_RESULT = 1024

#: Types of results that take no room to speak of.
ATOMS = frozenset({type(None), bool, int, float})


@final
@attrs.define(eq=False, repr=False)
class Links:
    """How a task relates to others (see memory_relations)."""

    gates: tuple[Gate, ...] = ()
    schedule_id: str | None = None
    retry_of: str | None = None
    #: At which of its gates it waits; all passed: their number; -1: it is not among them.
    level: int = -1
    #: Its mark at each gate, 0 = none.
    marks: list[int] = attrs.field(factory=list)
    #: It has its places at all gates.
    held: bool = False
    #: It has passed all gates, and waits for its turn in a rate.
    aside: bool = False
    #: Unfinished tasks that it depends on.
    needs: set[str] = attrs.field(factory=set)
    #: When it is due once it is not blocked any more.
    due_us: int = 0


@final
@attrs.define(eq=False, repr=False)
class Row:
    """A task of which there is more to say than that it came. Of one that has ended, only to be looked at."""

    #: None once the task has ended; what a record needs of it stays.
    envelope: Envelope | None
    task_id: str
    name: str
    options: TaskOptions
    created_us: int
    number: int
    status: TaskStatus
    priority: int
    #: Token of the claim that holds the task, 0 = none.
    token: int = 0
    #: Grows whenever the row is queued anew, so that older entries of the heap are passed over.
    place: int = 0
    #: The deque in which it waits; entries in others are old and passed over.
    queue: deque[Waiting] | None = None
    due_us: int = 0
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    interruptions: int = 0
    next_seq: int = 1
    worker_id: str | None = None
    started_us: int | None = None
    finished_us: int | None = None
    value: Sequence[Any] | None = None
    error: TaskErrorInfo | None = None
    progress: ProgressEvent | None = None
    checkpoint: bytes | None = None
    #: Why it is to be cancelled instead of run.
    asked: str | None = None
    #: Results of its steps, by name.
    steps: dict[str, bytes] | None = None
    #: How it relates to other tasks; None = not at all.
    links: Links | None = None


#: An ended task: number, name, status, attempt, crashes, interruptions, priority, worker_id, progress, created_us, started_us,
#: finished_us, value, error, options (None: the default ones). Mostly atoms: such a tuple is nothing to the garbage collector.
Ended: TypeAlias = tuple[Any, ...]
Waiting: TypeAlias = Envelope | Row
Kept: TypeAlias = Envelope | Claim | Row | Ended


def ended_of(change: Change, number: int, name: str, priority: int, created_us: int, options: TaskOptions) -> Ended:
    """Return what is kept of a task that ends with this change, and was that before."""
    value = change.value
    if value is not None and not (value[0] == "j" and type(value[1]) in ATOMS):
        value = short(value)
    return (
        number,
        name,
        change.status._value_,
        change.attempt,
        change.crashes,
        change.interruptions,
        priority,
        change.worker_id,
        change.progress,
        created_us,
        change.started_us,
        change.finished_us,
        value,
        # That of an attempt before, in a task that has succeeded, is history.
        change.error,
        None if options is DEFAULT_OPTIONS else options,
    )


def short(value: Sequence[Any]) -> Sequence[Any]:
    """Return what of a result is kept with the record: JSON up to 1 KiB, else a reference."""
    form = value[0]
    if form == "j":
        body = value[1]
    elif form == "o" and len(value) > 4:
        body = value[4]
    elif form == "o":
        return ["r", 0, value[2], value[3]]
    else:
        return ["r", value[1], value[2], value[3]]
    if body is not None and type(body) not in (bool, int, float):
        text = orjson.dumps(body)
        if len(text) > _KEPT_RESULT:
            return ["r", len(text), type(body).__name__, repr(body)[:200]]
    return value if form == "j" else ["j", body]


def _shown(value: Sequence[Any] | None) -> Any:
    if value is None:
        return None
    return value[1] if value[0] == "j" else ValueRef(value[2], value[1], value[3])


def row_of(kept: Kept, task_id: str = "") -> Row:
    """Return what is kept of a task as a row; a new one, unless it is one. `task_id` is needed for one that has ended."""
    if isinstance(kept, Row):
        return kept
    if isinstance(kept, tuple):
        (
            number,
            name,
            word,
            attempt,
            crashes,
            interruptions,
            priority,
            worker_id,
            progress,
            *times,
            value,
            error,
            options,
        ) = kept
        created_us, started_us, finished_us = times
        row = Row(None, task_id, name, options or DEFAULT_OPTIONS, created_us, number, TaskStatus(word), priority)
        row.attempt, row.crashes, row.interruptions = attempt, crashes, interruptions
        row.worker_id, row.progress, row.value, row.error = worker_id, progress, value, error
        row.started_us, row.finished_us = started_us, finished_us
        return row
    task, token = (kept.envelope, kept.token) if isinstance(kept, Claim) else (kept, 0)
    options = task.options
    number, pending = task.number, TaskStatus.PENDING
    return Row(task, task.task_id, task.name, options, task.created_us, number, pending, options.priority, token)


def record_of(row: Row) -> TaskRecord:
    return TaskRecord(
        task_id=row.task_id,
        name=row.name,
        status=row.status,
        attempt=row.attempt,
        crashes=row.crashes,
        interruptions=row.interruptions,
        priority=row.priority,
        worker_id=row.worker_id,
        progress=row.progress,
        created_at=utc_from_us(row.created_us),
        started_at=None if row.started_us is None else utc_from_us(row.started_us),
        finished_at=None if row.finished_us is None else utc_from_us(row.finished_us),
        result=_shown(row.value),
        error=row.error,
        options=row.options,
        tags=row.options.tags,
        schedule_id=None if row.links is None else row.links.schedule_id,
        retry_of=None if row.links is None else row.links.retry_of,
    )
