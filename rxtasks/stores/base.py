"""The store contract: who holds a task, and what is known of it.

::

    enqueue ──> queued ──claim──> held under a token ──commit(change)──> held on | queued again | ended

Rules for every store
- A *claim* hands a task to one engine under a fresh token; each later write names the token and changes nothing when it is
  no longer the row's (a zombie's late result). `fence` grows with every claim of the store.
- Everything comes in batches; tasks that have nothing to tell but their success come as columns (Successes), which a store
  may take one by one (`each_change`). `commit` calls back when the batch is as durable as the store can make it; only then may
  its events be published. Memory calls back before it returns.
- `enqueue`, `get`, `list`, `update` and `delete` may be called from any thread; `claim`, `claim_one` and `commit` from one
  thread at a time.
- Order is by priority (higher first), then by the store's own sequence.
- What waits behind a gate (stores/gates.py) costs a claim nothing. What depends on a task is released, or to be cancelled
  (Claim.asked), in the same step as that task's end, and so is the next occurrence of a schedule put in; `listeners` are told.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import attrs

from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import ProgressEvent, TaskEvent
from rxtasks.lifecycle.history import Note
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.stores.gates import Bound, Gate
from rxtasks.stores.listeners import Listeners
from rxtasks.stores.waits import Service, Waits
from rxtasks.wire.outcome import Outcome

if TYPE_CHECKING:
    from rxtasks.stores.membership import Membership

__all__ = [
    "HEADS",
    "Asked",
    "Change",
    "Claim",
    "Counts",
    "Damaged",
    "DurableStore",
    "Ending",
    "Envelope",
    "Lane",
    "Related",
    "Store",
    "Successes",
    "each_change",
]


#: Priorities that `heads` tells of.
HEADS: Final = 20


@attrs.frozen
class Related:
    """How a task relates to others; its dependencies are in its options."""

    #: What holds it back though it is due, in the order in which it passes them.
    gates: tuple[Gate, ...] = ()
    #: Which schedule it is an occurrence of.
    schedule_id: str | None = None
    #: Which ended task it repeats, because an operator wants it to; and why.
    retry_of: str | None = None
    reason: str | None = None


@final
@attrs.define(eq=False, repr=False)
class Envelope:
    """The part of a task that never changes. Not frozen for speed; nobody changes it."""

    task_id: str
    name: str
    #: Key of the function, and what a worker needs to find it: "module:qualname" or a pickle.
    function: str
    ref: str | None
    blob: bytes | None
    #: Form of the arguments (wire.message.Assignment.form) and the arguments.
    form: str
    payload: Any
    options: TaskOptions
    created_us: int
    trace: str | None = None
    #: Microseconds of the wall clock before which it does not run; 0 = at once.
    due_us: int = 0
    #: Store without queueing (status created).
    hold: bool = False
    #: Objects that were put and that the arguments refer to (wire.handle.Put); they live as long as this.
    puts: tuple[Any, ...] = ()
    #: The store's own sequence of arrival, which a store may note here; nobody else reads it.
    number: int = 0
    #: How it relates to other tasks; None = it has no dependencies, gates or schedule.
    related: Related | None = None


@final
@attrs.define(eq=False, repr=False)
class Claim:
    """A task in the hands of one engine: what it was when it was claimed, and the engine's own notes from then on."""

    #: These three never change: a store may go by the claim that it has handed out.
    token: int
    fence: int
    envelope: Envelope
    #: Attempts started, attempts that ended by exception, by crash, by interruption.
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    interruptions: int = 0
    #: Seq of the next event.
    next_seq: int = 1
    status: TaskStatus = TaskStatus.PENDING
    #: Last checkpoint, pickled.
    restored: bytes | None = None
    #: Its cancel has been asked for: '' or the reason.
    asked: str | None = None
    #: Results of its steps, by name, in their stored form.
    steps: dict[str, bytes] | None = None
    # -- the engine's notes; a store neither sets nor reads them --
    #: The worker that holds it (pool.state.WorkerState), None while none does.
    worker: Any = None
    #: Estimated run time, microseconds, as it was counted in the worker's load.
    load_us: int = 0
    #: Credit of its logs and outputs (wire.credit.ReceiveCredit), made with the first of them.
    credit: Any = None
    #: Why it is being ended from outside (engine.ending.Ending), None = it is not.
    ending: Any = None
    #: When its soft timeout is over (monotonic); set with each assignment, and anew when the attempt is known to have begun.
    soft_ns: int = 0
    started_us: int | None = None
    progress: ProgressEvent | None = None
    #: Its change in the batch that is being made.
    change: Change | None = None


@attrs.define(eq=False, repr=False)
class Change:
    """The new state of a claimed task; the store applies it if `token` is still the row's."""

    token: int
    task_id: str
    status: TaskStatus
    attempt: int
    failures: int
    crashes: int
    interruptions: int
    next_seq: int
    worker_id: str | None = None
    started_us: int | None = None
    finished_us: int | None = None
    #: The claim ends with this change (the task has ended or is queued again).
    release: bool = False
    #: Wall-clock microseconds before which it does not run again (retrying, scheduled).
    due_us: int = 0
    #: The result in row form (wire.message) and its pickle.
    value: Sequence[Any] | None = None
    blob: bytes | None = None
    error: TaskErrorInfo | None = None
    progress: ProgressEvent | None = None
    #: A checkpoint to keep for the next attempt.
    checkpoint: bytes | None = None
    #: Results of steps to keep for the next attempt: (name, stored form).
    steps: list[tuple[str, bytes]] | None = None
    #: The exception with which it failed, as a durable store keeps it (rxtasks.wire.stored_errors).
    raised: bytes | None = None


@attrs.define(repr=False)
class Successes:
    """Claimed tasks whose first attempt succeeded, and of which no change was committed before: an item for each in each list.

    Of short tasks nearly all are such, and they come by the hundred: a store may take all of them in one go, or `each_change`
    of them one by one, with the same result.
    """

    worker_id: str
    tokens: list[int]
    task_ids: list[str]
    started_us: list[int]
    finished_us: list[int]
    #: The results in row form (wire.message), all of form "j".
    values: Sequence[Sequence[Any]]


def each_change(changes: Iterable[Change | Successes]) -> Iterator[Change]:
    """Yield the changes one by one, also those of Successes: first attempts, with one event before the last."""
    for change in changes:
        if isinstance(change, Change):
            yield change
            continue
        columns = (change.tokens, change.task_ids, change.started_us, change.finished_us, change.values)
        for token, task_id, started_us, finished_us, value in zip(*columns, strict=True):
            yield Change(
                token,
                task_id,
                TaskStatus.SUCCEEDED,
                attempt=1,
                failures=0,
                crashes=0,
                interruptions=0,
                next_seq=3,
                worker_id=change.worker_id,
                started_us=started_us,
                finished_us=finished_us,
                release=True,
                value=value,
            )


@attrs.frozen
class Ending:
    """How a task ended, as a durable store keeps it."""

    status: TaskStatus
    #: The result in row form, and what it refers to (tagged JSON); of one that failed its exception (stored_errors).
    value: Sequence[Any] | None = None
    stored: bytes | None = None
    error: TaskErrorInfo | None = None

    def outcome(self) -> Outcome:
        """Return it for whoever waits for the result."""
        if self.status is TaskStatus.SUCCEEDED:
            return Outcome(self.status, self.value, self.stored, self.error)
        return Outcome(self.status, self.value, None, self.error, raised=self.stored)


@attrs.frozen
class Damaged:
    """A task whose record cannot be read (damaged, or of a later version), and that was set aside for it."""

    task_id: str
    name: str
    reason: str
    #: When it was found.
    time: datetime


class Asked(Enum):
    """What a store found when a task was to be cancelled."""

    #: It waited, and is claimed for it.
    CLAIMED = 1
    #: An engine of this store object has it.
    HELD = 2
    #: Another service has it, and will be told.
    ELSEWHERE = 3
    ENDED = 4


@attrs.frozen
class Lane:
    """Which tasks a kind of worker takes: those that ask for its isolation or none, of its queues (None = every queue)."""

    isolation: str
    queues: frozenset[str] | None = None

    def takes(self, isolation: str | None, queue: str | None) -> bool:
        """Say whether a task with these options may run here."""
        return (isolation is None or isolation == self.isolation) and (
            self.queues is None or (queue or "default") in self.queues
        )


@attrs.frozen
class Counts:
    """How many tasks wait: pending ones that may run now, and ones that wait for their time."""

    pending: int
    scheduled: int
    #: Those that wait for others to end.
    blocked: int = 0


class Store(Protocol):
    """What an engine needs of a store."""

    #: What is acknowledged survives the process.
    durable: bool
    #: Told when a commit has made other tasks claimable.
    listeners: Listeners

    def enqueue(self, tasks: Sequence[Envelope]) -> list[str | None]:
        """Take the tasks in; for each, None if it is new, or the id of the task that stands for it (same id, or same
        dedup_key and not ended).

        Raises:
            ServiceStopped: the store takes nothing any more.
            QueueFull: with a bound on waiting tasks, when it is reached; then none is taken.
            SettingsError: a dependency is not there, or tasks depend on each other in a circle; then none is taken.
        """
        ...

    def claim(self, lane: Lane, limit: int, now_us: int) -> list[Claim]:
        """Hand over at most `limit` due tasks that the lane takes, in order."""
        ...

    def claim_one(self, task_id: str) -> Claim | None:
        """Hand over this task if it waits (whatever for), else return None."""
        ...

    def commit(
        self,
        changes: Sequence[Change | Successes],
        events: list[TaskEvent],
        done: Callable[[list[int], BaseException | None], None],
    ) -> None:
        """Apply the changes and keep the events, then call done(tokens refused, error or None)."""
        ...

    def next_due(self) -> int | None:
        """Return the wall-clock microseconds at which the next task that waits for its time is due."""
        ...

    def waiting(self) -> list[str]:
        """Return the ids of all tasks that wait (created ones not included)."""
        ...

    def close(self) -> list[str]:
        """Take nothing more from now on and return `waiting()`; both in one step."""
        ...

    def reopen(self) -> None:
        """Take tasks again, after close()."""
        ...

    def counts(self) -> Counts:
        """Return how many tasks wait."""
        ...

    def heads(self) -> dict[int, int]:
        """Return, for each priority of tasks that may run now (at most HEADS, the highest first), since when the first of
        them in its queue has waited: microseconds of the wall clock.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def get(self, task_id: str) -> TaskRecord | None:
        """Return the record of this task, or None."""
        ...

    def list(
        self,
        *,
        status: TaskStatus | None = None,
        name: str | None = None,
        tag: str | None = None,
        worker: str | None = None,
        created_before_us: int | None = None,
        limit: int = 100,
        after: str | None = None,
        newest: bool = False,
    ) -> list[TaskRecord]:
        """Return records in the order of arrival (`newest`: in the opposite order), from behind the task `after`."""
        ...

    def first(self, status: TaskStatus, limit: int) -> builtins.list[str]:
        """Return the ids of at most `limit` tasks that wait with this status: those that go first, as far as that costs
        nothing. Never looks at all tasks.
        """
        ...

    def update(self, task_id: str, *, priority: int | None = None, due_us: int | None = None) -> bool:
        """Change a waiting task; False if it does not wait."""
        ...

    def notes(self, task_id: str) -> Sequence[Note]:
        """Return what happened to the task and none of its events tells of, in order (see rxtasks.lifecycle.history)."""
        ...

    def waits(self, task_id: str) -> Waits:
        """Return what the task waits for; what is not known here is nothing."""
        ...

    def request(self, task_id: str) -> Envelope | None:
        """Return the task as it was put in, with its arguments; None: they are not held any more, or there is none.

        Raises:
            StoreError: it cannot be read.
        """
        ...

    def retries(self, task_ids: Collection[str]) -> dict[str, str]:
        """Return the newest retry of each of these tasks that has any."""
        ...

    def forget(self, task_ids: Collection[str]) -> builtins.list[str]:
        """Forget those of these tasks that have ended, with all that was kept of them; return which."""
        ...

    def prune(self, finished_before_us: int, limit: int) -> int:
        """Forget at most `limit` tasks that ended before then, the oldest first, with all that was kept of them; return how
        many. Not those whose end others still wait for.
        """
        ...

    def occurrence(self, schedule_id: str, after: str | None = None) -> str | None:
        """Return the id of the schedule's occurrence that has not ended; None: there is none, or no such schedule.

        With `after`: of the one that came behind that occurrence, ended or not, as long as both are kept.
        """
        ...

    def stuck(self, task_ids: Collection[str], now_us: int) -> set[str]:
        """Return which of these tasks nothing here will let run: those that are created only, occurrences of a schedule
        before their time, and those that depend on such tasks.
        """
        ...

    def end_schedule(self, schedule_id: str) -> str | None:
        """Let nothing follow the schedule's present occurrence; return that one's id, or None."""
        ...

    def delete(self, task_id: str) -> bool:
        """Forget an ended task; False if it has not ended or is not known."""
        ...


class DurableStore(Store, Protocol):
    """What an engine needs of a store that outlives it: nothing on the engine's own thread may wait for a disk."""

    #: Called with each sentence on a fault, or on the end of one, from any thread; the engine sets it.
    report: Callable[[str], None]

    @property
    def trouble(self) -> str | None:
        """What keeps the store from taking and keeping tasks; None: nothing does."""
        ...

    def join(self, *, lease: float, max_interruptions: int) -> Membership:
        """Register the service that has this store object among those that have the store open; waits for the disk. `release`
        ends it.

        Args:
            lease: seconds for which its claims hold without being renewed.
            max_interruptions: after so many a task of a service that is no more fails.

        Raises:
            StoreError: it cannot be registered.
            SettingsError: a service that runs has this store object already.
        """
        ...

    def rebound(self, bounds: Sequence[Bound]) -> None:
        """Let these bounds count for what waits at a gate already; waits for the disk.

        Raises:
            StoreError: they could not be written.
        """
        ...

    @property
    def joined(self) -> bool:
        """Say whether a service that runs has this store object."""
        ...

    def claim_later(
        self,
        lane: Lane,
        limit: int,
        now_us: int,
        done: Callable[[list[Claim], int | None, BaseException | None], None],
    ) -> None:
        """Do as claim without waiting for a disk, then call done(claims, when the next task is due, error or None)."""
        ...

    def cancel_later(
        self,
        task_id: str,
        reason: str | None,
        unbegun: bool,
        done: Callable[[Asked | None, Claim | None, BaseException | None], None],
        *,
        actor: str = "client",
    ) -> None:
        """Write down that the task is to be cancelled, then call done(what was found or None, its claim if it waited,
        error or None).

        With `unbegun`, a task that an engine has is left alone, and what was found is told. `actor`: who wants it (Note.actor).
        """
        ...

    def services(self) -> Sequence[Service]:
        """Return the services that share the store."""
        ...

    def damaged(self, limit: int = 100) -> list[Damaged]:
        """Return the tasks that cannot be read and were set aside."""
        ...

    def backup(self, path: str) -> int:
        """Copy the store into a new file at the absolute `path`, while it is in use; return its size in bytes.

        Raises:
            SettingsError: there is something at `path`.
            StoreError: it could not be read or written.
        """
        ...

    def vacuum(self) -> int:
        """Give the room of what was forgotten back to the file system; return how many bytes.

        Raises:
            StoreError: it could not be done; nothing has changed.
        """
        ...

    def check(self) -> Sequence[str]:
        """Return what is wrong with the store, one sentence each."""
        ...

    def like(self, part: str, limit: int) -> builtins.list[str]:
        """Return the ids that begin or end with `part`, at most `limit`."""
        ...

    def tally(self) -> dict[TaskStatus, int]:
        """Return how many tasks there are of each status; those of which there is none are left out. Reads all of them."""
        ...

    def migrate(self) -> tuple[int, int]:
        """Bring the store to the newest schema that is known here; return the versions of before and now (0 = there was none).

        Raises:
            StoreError: it belongs to another program or a newer rxtasks, or could not be written; nothing has changed.
        """
        ...

    def count_damaged(self) -> int:
        """Return how many there are, or were when that could be read."""
        ...

    def readmit(self, task_id: str) -> bool:
        """Put a task that was set aside back into the queue; False: it was not.

        Raises:
            StoreError: it still cannot be read.
        """
        ...

    def ending(self, task_id: str) -> Ending | None:
        """Return how the task ended; None: it has not, or there is none."""
        ...

    def events(self, task_id: str, from_seq: int = 1) -> list[TaskEvent]:
        """Return the task's events from `from_seq` on, in order: at least one if there is any, and not very many."""
        ...

    def release(self) -> None:
        """Finish what was asked for and let go of the store's resources; the next call takes them again."""
        ...
