"""What becomes of the tasks of a service that is no more (pure).

::

    Member, at the clock of now ──> standing ──> alive | dead | lapsed
    Held (a row of a dead one)  ──> recovered ──> Change, and the event that tells of it or None

- dead: its lock is free, or the machine has been started anew since. Nothing of it runs.
- lapsed: it has not renewed its lease; it may stand still (SIGSTOP) and go on later. Its claims are void by then.
- A task that was to be cancelled is cancelled. One that had not begun waits as before. One that ran is interrupted: that
  counts neither as a crash nor as an attempt of its own, and may happen `most` times.
"""

from __future__ import annotations

from enum import Enum

import attrs

from rxtasks.clock import utc_from_us
from rxtasks.errors import RxTasksError, ServiceStopped, TaskCancelled
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import StatusEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.base import Change
from rxtasks.wire.stored_errors import store_exception

__all__ = ["Held", "Here", "Member", "Standing", "recovered", "standing"]


class Standing(Enum):
    """What is known of a member."""

    ALIVE = "alive"
    DEAD = "dead"
    LAPSED = "lapsed"


@attrs.frozen
class Member:
    """One row of the services."""

    number: int
    id: str
    pid: int
    host: str
    boot: str
    #: Nanoseconds of its boot's clock, suspend counted, until which its claims hold.
    lease_ns: int


@attrs.frozen
class Here:
    """Who looks, and when."""

    host: str
    boot: str
    now_ns: int
    #: How long a lease lasts here, nanoseconds.
    lease_ns: int
    #: Who looks has not renewed its own lease in time: it stood still, or could not write, and so perhaps could the others.
    late: bool = False


def standing(member: Member, here: Here, *, free: bool, seen_ns: int | None) -> Standing:
    """Say what is to be thought of a member.

    Args:
        free: its lock was found free.
        seen_ns: when (here) its present lease was seen for the first time, None = never before.
    """
    if free or (member.host == here.host and member.boot != here.boot):
        return Standing.DEAD
    if here.late:
        return Standing.ALIVE
    if member.boot == here.boot:
        return Standing.LAPSED if member.lease_ns < here.now_ns else Standing.ALIVE
    # Another machine's clock: what counts is how long its lease has not moved.
    if seen_ns is not None and here.now_ns - seen_ns > here.lease_ns:
        return Standing.LAPSED
    return Standing.ALIVE


@attrs.frozen
class Held:
    """A task in the hands of a service that is no more, as the last commit left it."""

    token: int
    task_id: str
    status: TaskStatus
    attempt: int
    failures: int
    crashes: int
    interruptions: int
    next_seq: int
    worker_id: str | None
    due_us: int
    #: Asked to be cancelled: '' or the reason.
    cancel: str | None


def recovered(held: Held, most: int, now_us: int) -> tuple[Change, StatusEvent | None]:
    """Return what becomes of the task, and the event that says so if that is to be seen."""
    change = Change(
        held.token,
        held.task_id,
        held.status,
        held.attempt,
        held.failures,
        held.crashes,
        held.interruptions,
        held.next_seq,
        held.worker_id,
        release=True,
        due_us=held.due_us,
    )
    error: RxTasksError
    if held.cancel is not None:
        error = TaskCancelled(held.cancel or None)
        change.status = TaskStatus.CANCELLED
    elif held.status is not TaskStatus.RUNNING:
        return change, None
    else:
        change.interruptions += 1
        times = "" if change.interruptions == 1 else f", for the {change.interruptions}th time"
        error = ServiceStopped(f"the service that ran the task is gone{times}: its process was killed or stood still")
        change.status = TaskStatus.FAILED if change.interruptions >= most else TaskStatus.PENDING
    kind = type(error)
    info = TaskErrorInfo(f"{kind.__module__}.{kind.__qualname__}", str(error), kind.code)
    change.error = info
    change.raised = store_exception(error)
    change.due_us = 0
    if change.status.terminal:
        change.finished_us = now_us
    event = StatusEvent(
        held.task_id,
        held.next_seq,
        max(1, held.attempt),
        held.worker_id,
        utc_from_us(now_us),
        change.status,
        None,
        info,
    )
    change.next_seq = held.next_seq + 1
    return change, event
