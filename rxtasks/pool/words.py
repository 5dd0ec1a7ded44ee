"""The words between the pure core and what drives it: stimuli in, instructions out.

An instruction is a request. What is believed changes only when its outcome comes back as a stimulus; stimuli about
workers, commands or batches that are not known (any more) are normal input and change nothing.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs

from rxtasks.lifecycle.events import TaskEvent
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.info import WorkerSpec
from rxtasks.stores.base import Change, Claim, Lane
from rxtasks.wire.message import Assignment, Define, Message, Report
from rxtasks.wire.outcome import Outcome



@attrs.frozen
class Now:
    """The two clocks at one moment: one that never goes back (ns), and the wall's (us); and a random number in [0, 1)."""

    mono_ns: int
    wall_us: int
    chance: float = 0.5


# -- stimuli ----------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class End:
    """How an attempt ended, beside its StatusEvent."""

    value: list[Any] | None
    blob: bytes | None
    error_blob: bytes | None
    error_object: BaseException | None
    #: Seconds until the next attempt (retrying) or the time asked for (scheduled).
    delay: float | None
    ran_us: int


#: One event of a task as a worker reported it: claim token, event, end of the attempt or None, bytes of a log or output
#: (-1: it takes no credit).
Occurrence: TypeAlias = tuple[int, TaskEvent, End | None, int]


@attrs.frozen
class WorkArrived:
    """Tasks were put into the store."""


@attrs.frozen
class Claimed:
    """The answer to ClaimTasks; `next_due_us` is when the next waiting task is due."""

    lane: Lane
    asked: int
    claims: list[Claim]
    next_due_us: int | None


@attrs.frozen
class ClaimFailed:
    """The store could not answer ClaimTasks."""

    lane: Lane
    error: str


@attrs.frozen
class Happened:
    """A worker reported what its tasks did."""

    worker_id: str
    occurrences: list[Occurrence]
    #: Progress events that the worker overwrote before they were sent.
    conflated: int = 0


@attrs.frozen
class Reported:
    """A worker sent any other report."""

    worker_id: str
    report: Report


@attrs.frozen
class Spawned:
    """The worker's process or thread exists."""

    worker_id: str
    pid: int | None


@attrs.frozen
class SpawnFailed:
    """The worker's process or thread could not be made."""

    worker_id: str
    error: str


@attrs.frozen
class Broken:
    """The worker's channel is closed or carries garbage; its process may still live."""

    worker_id: str
    reason: str


@attrs.frozen
class Exited:
    """The worker is confirmed gone and its channel is read to the end.

    `unstarted` is how many of its assignments, from the last one back, it had not begun.
    """

    worker_id: str
    exit_code: int | None
    signal: int | None
    unstarted: int
    #: The last lines that it wrote to its standard error.
    tail: str = ""
    #: A thread that cannot be ended: it runs on, fenced.
    abandoned: bool = False


@attrs.frozen
class TakenBack:
    """So many assignments, from the last one back, will not be started by the worker.

    With `settled` it may be given new ones at once; else when it has reported that many as Dropped.
    """

    worker_id: str
    count: int
    settled: bool


@attrs.frozen
class Committed:
    """The batch is as durable as the store makes it; changes of the `refused` tokens were not applied."""

    batch: int
    refused: list[int]


@attrs.frozen
class CommitFailed:
    """The batch is not in the store."""

    batch: int
    error: str


@attrs.frozen
class CancelAsked:
    """A caller wants the task to end; the answer to `ticket` is whether it had not ended yet."""

    ticket: int
    task_id: str
    reason: str | None
    #: The task if it waited in the store and is now held for this.
    claim: Claim | None


@attrs.frozen
class Swept:
    """What waited in the store when it was closed, now held."""

    claims: list[Claim]


@attrs.frozen
class DeliveryChanged:
    """Subscribers are behind by more than the buffer (full), or have caught up."""

    full: bool


@attrs.frozen
class ScaleAsked:
    """A caller wants `count` workers of the first kind."""

    ticket: int
    count: int


@attrs.frozen
class PauseAsked:
    """A caller wants no new attempts (paused), or wants them again."""

    paused: bool


@attrs.frozen
class CommandAsked:
    """A caller sends every worker a command that it acknowledges: "ping" or "hook"."""

    ticket: int
    name: str
    hook: str = ""
    blob: bytes | None = None


@attrs.frozen
class StopAsked:
    """A caller stops the engine. What waits: "fail" (ServiceStopped), "cancel", or "keep" in the store."""

    force: bool
    drain_ns: int
    waiting: str


@attrs.frozen
class Spares:
    """Fresh ids for workers to come."""

    ids: list[str]


@attrs.frozen
class Tick:
    """All input has been read; timers may fire."""


Stimulus: TypeAlias = (
    WorkArrived
    | Claimed
    | ClaimFailed
    | Happened
    | Reported
    | Spawned
    | SpawnFailed
    | Broken
    | Exited
    | TakenBack
    | Committed
    | CommitFailed
    | CancelAsked
    | Swept
    | DeliveryChanged
    | ScaleAsked
    | PauseAsked
    | CommandAsked
    | StopAsked
    | Spares
    | Tick
)

# -- instructions -----------------------------------------------------------------------------------------------------


@attrs.frozen
class ClaimTasks:
    """Claim at most `limit` tasks for the lane."""

    lane: Lane
    limit: int


@attrs.frozen
class SpawnWorker:
    """Make a worker of this kind."""

    worker_id: str
    spec: WorkerSpec


@attrs.frozen
class SendAssign:
    """Send these assignments, the functions they need before them."""

    worker_id: str
    defines: list[Define]
    tasks: list[Assignment]


@attrs.frozen
class SendCommand:
    """Send any other command."""

    worker_id: str
    command: Message


@attrs.frozen
class TakeBack:
    """Take back what the worker has not begun."""

    worker_id: str


@attrs.frozen
class KillWorker:
    """End the worker's whole process tree: SIGTERM, or with force SIGKILL."""

    worker_id: str
    force: bool


@attrs.frozen
class CloseWorker:
    """The worker is not needed any more; free what is held for it."""

    worker_id: str
    error: str | None = None


@attrs.frozen
class CommitBatch:
    """Write the changes and events; the outcome carries the batch's number."""

    batch: int
    changes: list[Change]
    events: list[TaskEvent]


@attrs.frozen
class Publish:
    """Settle the outcomes, then hand the events to delivery; `size` is their bytes.

    `conflated` progress events were produced too, but overwritten in their worker.
    """

    events: list[TaskEvent]
    outcomes: list[tuple[str, Outcome]]
    size: int
    conflated: int = 0


@attrs.frozen
class Announce:
    """Show this on the pool's stream."""

    event: WorkerEvent


@attrs.frozen
class Answer:
    """The answer to a caller's ticket."""

    ticket: int
    value: Any


@attrs.frozen
class SweepStore:
    """Close the store and hold everything that waits."""


@attrs.frozen
class PoolReady:
    """The first start is over: every worker is ready, or `error` says why not."""

    error: str | None


@attrs.frozen
class Finished:
    """Nothing is left to do: the driver ends."""


Instruction: TypeAlias = (
    ClaimTasks
    | SpawnWorker
    | SendAssign
    | SendCommand
    | TakeBack
    | KillWorker
    | CloseWorker
    | CommitBatch
    | Publish
    | Announce
    | Answer
    | SweepStore
    | PoolReady
    | Finished
)
