"""A worker as it is believed to be, and the place that it fills."""

from __future__ import annotations

import sys
from typing import Any

import attrs

from rxtasks.lifecycle.status import WorkerStatus
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.limits import Excess, Usage, Watch
from rxtasks.stores.base import Claim, Lane

__all__ = ["Place", "WorkerState"]


@attrs.define(eq=False, repr=False)
class WorkerState:
    """One worker as it is believed to be."""

    worker_id: str
    spec: WorkerSpec
    lane: Lane
    started_us: int
    status: WorkerStatus = WorkerStatus.STARTING
    #: Idle or busy, as the pool's stream was last told.
    told: WorkerStatus | None = None
    pid: int | None = None
    #: What it was assigned and has not ended, in order.
    assigned: dict[int, Claim] = attrs.field(factory=dict)
    #: Estimated microseconds of what is assigned.
    load_us: int = 0
    #: Assignments taken back that it has not dropped yet; nothing is assigned meanwhile.
    owes: int = 0
    #: A TakeBack is under way.
    taking: bool = False
    #: When it last got work while idle, or ended a task (monotonic).
    since_ns: int = 0
    #: Keys of the functions and of the objects that were put that it knows.
    functions: set[str] = attrs.field(factory=set)
    completed: int = 0
    failed: int = 0
    beat_us: int | None = None
    cpu_seconds: float = 0.0
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    #: Holds a task that crashed before: it gets nothing beside it.
    exclusive: bool = False
    #: Why it is being killed ("" = it is not).
    doom: str = ""
    #: It has been killed because it took too long to leave.
    hurried: bool = False
    #: Text of its own StartFailed.
    start_error: str | None = None
    was_ready: bool = False
    #: Why it cannot be relied on any more; it is killed for that.
    fault: str | None = None
    #: Its channel is closed or carried garbage: it gets nothing more, and is being killed.
    broken: bool = False
    #: Attempts that have ended here, and how many of them make it worn.
    ended: int = 0
    lasts: int = sys.maxsize
    #: Attempts that it may be given in all; 0 = none before it has taken over from the worker that it is to replace.
    allowed: int = sys.maxsize
    #: Why it is to be replaced, "tasks" or "memory" ("" = it is not), and from when on (monotonic).
    worn: str = ""
    due_ns: int = 0
    #: Resident bytes after the last attempt that left it above max_memory; the same after its first attempt, else 0.
    worn_bytes: int = 0
    heavy_bytes: int = 0
    #: What its process tree used at the last look, and when that was (monotonic); None: nobody has looked.
    usage: Usage | None = None
    usage_ns: int = 0
    #: The same at the look before which the percent of the CPU is counted from.
    before: tuple[int, Usage] | None = None
    #: Its limits beside what it uses; None: it has none.
    watch: Watch | None = None
    #: It has said that it is ready, and its limits are about to be set: the process number that it said.
    ready_pid: int | None = None
    #: An instruction that waits until the limits of its task are set (pool.words.SendAssign).
    waits: Any = None
    #: It is throttled, and whether that is for good.
    throttled: bool = False
    lasting: bool = False
    #: Over which limit it is being killed, and the tokens of what ran at that moment.
    excess: Excess | None = None
    culprits: frozenset[int] = frozenset()

    @property
    def used_memory(self) -> int | None:
        """Memory of its process tree, or as long as nobody has looked, what it said of itself."""
        return self.memory_bytes if self.usage is None else self.usage.memory_bytes

    @property
    def left(self) -> int:
        """How many attempts it may be given yet."""
        return self.allowed - self.ended - len(self.assigned)

    @property
    def able(self) -> bool:
        """True when it may be given work, now or when it has caught up."""
        serves = self.status is WorkerStatus.IDLE or self.status is WorkerStatus.BUSY
        return serves and not (self.doom or self.broken)


@attrs.define(eq=False, repr=False)
class Place:
    """A worker that the pool wants to have."""

    number: int
    spec: WorkerSpec
    worker_id: str | None = None
    #: Who takes over from that worker as soon as it is ready.
    successor: str | None = None
    #: No successor is started before that (monotonic).
    not_before_ns: int = 0
    #: Failures to become ready, in a row.
    failures: int = 0
    #: Workers, in a row, that were above max_memory after their first attempt.
    heavy: int = 0
    given_up: bool = False
