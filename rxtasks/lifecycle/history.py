"""How a task came to where it is: each transition with who made it, why and when (Q-06).

::

    notes (what no event tells of) ──┐
                                     ├──> one line of transitions, by sequence
    status events ───────────────────┘

Nothing here is ever changed: notes and events are only appended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import attrs

from rxtasks.lifecycle.events import StatusEvent
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.status import TaskStatus

__all__ = ["Note", "Transition", "history_of"]


@attrs.frozen
class Note:
    """Something that happened to a task and that none of its events tells of."""

    #: Seq of the event that comes behind it.
    seq: int
    source: str
    target: str
    #: "client", "engine", "store" or "operator".
    actor: str
    reason: str | None
    time: datetime


@attrs.frozen
class Transition:
    """One entry of a task's history."""

    #: None: the task came into being.
    source: TaskStatus | None
    #: The same as `source` where something was done to the task that did not change its status (an update, a wish to cancel).
    target: TaskStatus
    #: "client", "engine", "store", "operator", or the id of the worker that reported it.
    actor: str
    reason: str | None
    time: datetime


#: What a transition is for, where its event has no error that says it.
_REASONS = {
    (TaskStatus.RUNNING, TaskStatus.PENDING): "given back to the queue",
    (TaskStatus.RUNNING, TaskStatus.SCHEDULED): "asked for by the handler (Reschedule)",
}
#: Errors that a worker cannot tell of itself.
_OF_THE_ENGINE = frozenset({f"rxtasks.errors.{name}" for name in ("ServiceStopped", "TaskTimeout", "WorkerCrashed")})


def history_of(
    created_at: datetime, options: TaskOptions, notes: Sequence[Note], events: Iterable[StatusEvent]
) -> list[Transition]:
    """Return the whole history, in order."""
    came = notes[0] if notes and notes[0].source == TaskStatus.CREATED and notes[0].actor != "client" else None
    found = [
        Transition(None, TaskStatus.CREATED, "client", None, created_at)
        if came is None
        else Transition(None, TaskStatus.CREATED, came.actor, came.reason, created_at)
    ]
    events = list(events)
    if not notes or notes[0].source != TaskStatus.CREATED:
        first = _first(options, notes, events)
        found.append(Transition(TaskStatus.CREATED, first, "client", None, created_at))
    waiting = list(notes)
    for event in events:
        while waiting and waiting[0].seq <= event.seq:
            _add(found, waiting.pop(0))
        before = found[-1].target
        reason = _REASONS.get((before, event.status)) if event.error is None else event.error.message
        found.append(Transition(before, event.status, _actor(event), reason, event.time))
    for note in waiting:
        _add(found, note)
    return found


def _first(options: TaskOptions, notes: Sequence[Note], events: Sequence[StatusEvent]) -> TaskStatus:
    """Return what a task was first, when it was pushed at once."""
    if notes and (not events or notes[0].seq <= events[0].seq):
        return _status(notes[0].source)
    if options.depends_on:
        return TaskStatus.BLOCKED
    timed = options.run_at is not None or options.delay or options.cron is not None
    return TaskStatus.SCHEDULED if timed else TaskStatus.PENDING


def _actor(event: StatusEvent) -> str:
    """Return who said so: the worker, or the engine where the worker could not."""
    error = event.error
    if event.worker_id is None or (error is not None and error.type in _OF_THE_ENGINE):
        return "engine"
    return event.worker_id


def _add(found: list[Transition], note: Note) -> None:
    found.append(Transition(_status(note.source), _status(note.target), note.actor, note.reason, note.time))


def _status(word: str) -> TaskStatus:
    try:
        return TaskStatus(word)
    except ValueError:  # a store's own word for a task that waits
        return TaskStatus.PENDING
