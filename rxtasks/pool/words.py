"""The words between the pure core and what drives it: stimuli in, instructions out.

An instruction is a request. What is believed changes only when its outcome comes back as a stimulus; stimuli about
workers, commands or batches that are not known (any more) are normal input and change nothing.

They are named tuples: as frozen as attrs classes, and forty of them import in 4 ms instead of 20.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.lifecycle.options import ResourceLimits
from rxtasks.lifecycle.status import WorkerStatus
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.limits import Excess, Usage
from rxtasks.pool.pressure import Reading
from rxtasks.stores.base import Change, Claim, Lane, Successes
from rxtasks.wire.message import Assignments, Define, Message, Report
from rxtasks.wire.outcome import Ended


class Now(NamedTuple):
    """The two clocks at one moment: one that never goes back (ns), and the wall's (us); and a random number in [0, 1)."""

    mono_ns: int
    wall_us: int
    chance: float = 0.5


# -- stimuli ----------------------------------------------------------------------------------------------------------


class End(NamedTuple):
    """How an attempt ended, beside its StatusEvent."""

    value: Sequence[Any] | None
    blob: bytes | None
    error_blob: bytes | None
    error_object: BaseException | None
    #: Seconds until the next attempt (retrying) or the time asked for (scheduled).
    delay: float | None
    ran_us: int


class Run(NamedTuple):
    """Outputs of one task that followed each other, at least one; `sizes` are their bytes."""

    token: int
    events: list[TaskEvent]
    sizes: list[int]


class Whole(NamedTuple):
    """Attempts of which nothing had been told before they succeeded: one or more, none twice; an item for each in each list."""

    tokens: list[int]
    begun: list[StatusEvent]
    ended: list[StatusEvent]
    #: Microseconds since the epoch of the two.
    begun_us: list[int]
    ended_us: list[int]
    #: The results in row form.
    values: Sequence[Sequence[Any]]
    rans_us: list[int]


#: One event of a task as a worker reported it: claim token, event, end of the attempt or None, and a number: bytes of a log
#: or output (-1: it takes no credit), microseconds since the epoch of a status (its time; 0: see the event). Or several
#: outputs, or whole attempts.
Occurrence: TypeAlias = tuple[int, TaskEvent, End | None, int] | Run | Whole


def events_of(occurrence: Occurrence) -> list[TaskEvent]:
    """Return the events of an occurrence, in order."""
    if isinstance(occurrence, Run):
        return occurrence.events
    if isinstance(occurrence, Whole):
        return [event for pair in zip(occurrence.begun, occurrence.ended, strict=True) for event in pair]
    return [occurrence[1]]


def ended_in(occurrence: Occurrence) -> list[int]:
    """Return the tokens of the attempts that end with the occurrence."""
    if isinstance(occurrence, Run):
        return []
    if isinstance(occurrence, Whole):
        return occurrence.tokens
    return [] if occurrence[2] is None else [occurrence[0]]


class WorkArrived(NamedTuple):
    """Tasks were put into the store."""


class Claimed(NamedTuple):
    """The answer to ClaimTasks; `next_due_us` is when the next waiting task is due."""

    lane: Lane
    asked: int
    claims: list[Claim]
    next_due_us: int | None


class ClaimFailed(NamedTuple):
    """The store could not answer ClaimTasks."""

    lane: Lane
    error: str


class Happened(NamedTuple):
    """A worker reported what its tasks did."""

    worker_id: str
    occurrences: list[Occurrence]
    #: Progress events that the worker overwrote before they were sent.
    conflated: int = 0


class Reported(NamedTuple):
    """A worker sent any other report."""

    worker_id: str
    report: Report


class Spawned(NamedTuple):
    """The worker's process or thread exists."""

    worker_id: str
    pid: int | None


class SpawnFailed(NamedTuple):
    """The worker's process or thread could not be made."""

    worker_id: str
    error: str


class Broken(NamedTuple):
    """The worker's channel is closed or carries garbage, or it must not go on; its process may still live."""

    worker_id: str
    reason: str
    #: No doing of the tasks that run there.
    blameless: bool = False


class Exited(NamedTuple):
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
    #: The limit of memory, bytes, at which the kernel killed a process of it; 0: it did not.
    killed_at: int = 0


class TakenBack(NamedTuple):
    """So many assignments, from the last one back, will not be started by the worker.

    With `settled` it may be given new ones at once; else when it has reported that many as Dropped.
    """

    worker_id: str
    number: int
    settled: bool


class Committed(NamedTuple):
    """The batch is as durable as the store makes it; changes of the `refused` tokens were not applied."""

    batch: int
    refused: list[int]


class CommitFailed(NamedTuple):
    """The batch is not in the store."""

    batch: int
    error: str


class CancelAsked(NamedTuple):
    """A caller wants the task to end; the answer to `ticket` is whether it had not ended yet."""

    ticket: int
    task_id: str
    reason: str | None
    #: The task if it waited in the store and is now held for this.
    claim: Claim | None
    #: Leave a task alone that has begun.
    unbegun: bool = False


class Swept(NamedTuple):
    """What waited in the store when it was closed, now held."""

    claims: list[Claim]


class DeliveryChanged(NamedTuple):
    """Subscribers are behind by more than the buffer (full), or have caught up."""

    full: bool


class ScaleAsked(NamedTuple):
    """A caller wants `wanted` workers of the first kind."""

    ticket: int
    wanted: int


class PauseAsked(NamedTuple):
    """A caller wants no new attempts (paused), or wants them again."""

    paused: bool


class CommandAsked(NamedTuple):
    """A caller sends every worker a command that it acknowledges: "ping", "checkpoint" (for all that runs) or "hook".

    A hook is called by its name, with the pickled arguments in `blob`; `define` is the Define that makes it known.
    """

    ticket: int
    name: str
    hook: str = ""
    blob: bytes | None = None
    define: Any = None
    #: Nanoseconds after which those that have not answered are named; None = as long as it takes.
    within_ns: int | None = None


class HookAsked(NamedTuple):
    """A caller adds a hook (`define`), or takes the one of that key out (None); all workers acknowledge it."""

    ticket: int
    key: str
    define: Define | None
    within_ns: int | None = None


class RestartAsked(NamedTuple):
    """A caller wants another worker in the place of this one, which ends what it runs.

    The answer is the id of the other one, "" where there is none, or None where the pool does not know the worker (any more).
    """

    ticket: int
    worker_id: str
    #: The id of the other one, if it is made for this.
    by: str


class KillAsked(NamedTuple):
    """A caller wants this worker's process tree ended at once; the answer is whether it is, or None as of RestartAsked."""

    ticket: int
    worker_id: str


class StopAsked(NamedTuple):
    """A caller stops the engine. What waits: "fail" (ServiceStopped), "cancel", or "keep" in the store."""

    force: bool
    drain_ns: int
    waiting: str


class Disowned(NamedTuple):
    """The store took this engine for dead and gave its tasks to others: claims with tokens up to `fence` are void."""

    fence: int


class LeaseChanged(NamedTuple):
    """This engine's lease has lapsed, so that others may take its tasks, or holds again."""

    lapsed: bool


class Spares(NamedTuple):
    """Fresh ids for workers to come."""

    ids: list[str]


class Tick(NamedTuple):
    """All input has been read; timers may fire."""


class Gone(NamedTuple):
    """Nobody holds this object any more that was put."""

    key: str


class Measured(NamedTuple):
    """What the process trees of some workers use."""

    looks: list[tuple[str, Usage]]


class Limited(NamedTuple):
    """The outcome of LimitWorker: by what means the limits are kept, and what the worker uses now (None: not known)."""

    worker_id: str
    how: str
    usage: Usage | None


class Throttled(NamedTuple):
    """The outcome of ThrottleWorker: by what means, and whether that is for good."""

    worker_id: str
    on: bool
    how: str
    lasting: bool
    excess: Excess | None = None


class MachineRead(NamedTuple):
    """What the machine has left."""

    reading: Reading


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
    | HookAsked
    | RestartAsked
    | KillAsked
    | StopAsked
    | Disowned
    | LeaseChanged
    | Spares
    | Gone
    | Measured
    | Limited
    | Throttled
    | MachineRead
    | Tick
)

# -- instructions -----------------------------------------------------------------------------------------------------


class ClaimTasks(NamedTuple):
    """Claim at most `limit` tasks for the lane."""

    lane: Lane
    limit: int


class SpawnWorker(NamedTuple):
    """Make a worker of this kind."""

    worker_id: str
    spec: WorkerSpec
    #: The worker that it is to take over from: what that one has loaded is loaded before it is ready. None: nobody.
    heir_of: str | None = None
    #: Hooks and resources that it is told of before it sets itself up.
    defines: Sequence[Define] = ()


class SendAssign(NamedTuple):
    """Send these assignments, the functions they need before them."""

    worker_id: str
    defines: list[Define]
    tasks: Assignments


class SendCommand(NamedTuple):
    """Send any other command."""

    worker_id: str
    command: Message


class TakeBack(NamedTuple):
    """Take back what the worker has not begun."""

    worker_id: str


class KillWorker(NamedTuple):
    """End the worker's whole process tree: SIGTERM, or with force SIGKILL."""

    worker_id: str
    force: bool


class CloseWorker(NamedTuple):
    """The worker is not needed any more; free what is held for it."""

    worker_id: str
    error: str | None = None


class LimitWorker(NamedTuple):
    """Keep the worker's process tree within these limits and no others (none: lift them)."""

    worker_id: str
    limits: tuple[ResourceLimits, ...]
    #: Bytes of memory below which it need not be known exactly how much it uses; None: it need not be known at all.
    above: float | None = -1.0


class ThrottleWorker(NamedTuple):
    """Let everybody else have the CPU before the worker's process tree, or no longer."""

    worker_id: str
    on: bool
    #: What for.
    excess: Excess | None = None


class CommitBatch(NamedTuple):
    """Write the changes and events; the outcome carries the batch's number."""

    batch: int
    changes: list[Change | Successes]
    events: list[TaskEvent]


class Publish(NamedTuple):
    """Settle the outcomes, then hand the events to delivery; `sizes` are their bytes, `size` is all of them.

    `conflated` progress events were produced too, but overwritten in their worker. `wholes` are attempts whose outcomes are
    not in `outcomes`, each with the place of its first event in `events`, where the two of each follow each other.
    """

    events: list[TaskEvent]
    sizes: list[int]
    outcomes: list[tuple[str, Ended]]
    size: int
    conflated: int = 0
    wholes: Sequence[tuple[int, Whole]] = ()


class Announce(NamedTuple):
    """Show this on the pool's stream."""

    event: WorkerEvent


class ShowTurned(NamedTuple):
    """Show on the pool's stream that this worker is busy or idle, since `wall_us`: for a short task twice, mostly to nobody."""

    worker_id: str
    status: WorkerStatus
    wall_us: int


class Answer(NamedTuple):
    """The answer to a caller's ticket."""

    ticket: int
    value: Any


class SweepStore(NamedTuple):
    """Close the store and hold everything that waits."""


class PoolReady(NamedTuple):
    """The first start is over: every worker is ready, or `error` says why not."""

    error: str | None


class Finished(NamedTuple):
    """Nothing is left to do: the driver ends."""


Instruction: TypeAlias = (
    ClaimTasks
    | SpawnWorker
    | SendAssign
    | SendCommand
    | TakeBack
    | KillWorker
    | CloseWorker
    | LimitWorker
    | ThrottleWorker
    | CommitBatch
    | Publish
    | Announce
    | ShowTurned
    | Answer
    | SweepStore
    | PoolReady
    | Finished
)
