"""Values that describe workers and the pool."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import attrs

from rxtasks.displayed import Displayed
from rxtasks.errors import SettingsError
from rxtasks.lifecycle.events import ProgressEvent
from rxtasks.lifecycle.options import ResourceLimits
from rxtasks.lifecycle.status import WorkerStatus
from rxtasks.pool.kinds import ISOLATIONS

__all__ = ["ISOLATIONS", "PoolStatus", "RunningTask", "WorkerInfo", "WorkerSpec"]


def _queues(value: tuple[str, ...] | list[str] | str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    # What is no collection is left to the check.
    return (value,) if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)


@attrs.frozen
class WorkerSpec:
    """So many workers of one kind."""

    count: int = 1
    isolation: str = "process"
    #: Names of the queues whose tasks they take; None = every queue.
    queues: tuple[str, ...] | None = attrs.field(default=None, converter=_queues)
    #: What each worker's process tree may use; None = the setting `limits`. Means nothing to threads.
    limits: ResourceLimits | None = None
    #: Tasks that one worker runs at once (async handlers).
    concurrency: int = 1

    def __attrs_post_init__(self) -> None:
        for name in ("count", "concurrency"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingsError(f"WorkerSpec.{name} is a whole number from 1, not {value!r}")
        if self.isolation not in ISOLATIONS:
            raise SettingsError(f"WorkerSpec.isolation is one of {', '.join(ISOLATIONS)}, not {self.isolation!r}")
        for queue in self.queues or ():
            if not isinstance(queue, str):
                raise SettingsError(f"WorkerSpec.queues holds names of queues, not {queue!r}")
        if self.limits is not None and not isinstance(self.limits, ResourceLimits):
            raise SettingsError(f"WorkerSpec.limits is a ResourceLimits or None, not {self.limits!r}")


@attrs.frozen
class RunningTask:
    """What a worker runs at one moment."""

    task_id: str
    name: str
    attempt: int
    #: The latest progress, None before the first.
    progress: ProgressEvent | None
    #: When this attempt began, None: that has not been heard yet.
    started_at: datetime | None = None


@attrs.frozen
class WorkerInfo(Displayed):
    """One worker at one moment.

    CPU, memory and disk are those of its whole process tree, as they were found when it was last looked at (once for each
    heartbeat). Memory is the proportional set size: what n processes share counts as 1/n in each, and objects that were put
    do not count. Until the first look it is the resident memory that the worker itself has told.
    """

    worker_id: str
    isolation: str
    pid: int | None
    status: WorkerStatus
    task_ids: tuple[str, ...]
    started_at: datetime
    last_heartbeat: datetime | None
    completed: int
    failed: int
    cpu_percent: float | None
    memory_bytes: int | None
    #: What it runs; `task_ids` has what was sent ahead to it too.
    running: tuple[RunningTask, ...] = ()
    #: Bytes of the files in the temp_dirs of what it runs.
    disk_bytes: int | None = None
    #: What its process tree may use; None = no limits. Those of the task that runs there come on top.
    limits: ResourceLimits | None = None


@attrs.frozen
class PoolStatus(Displayed):
    """The pool at one moment."""

    running: bool
    #: Workers that are idle or busy.
    active: int
    #: Workers in all, starting and stopping ones included.
    workers: int
    idle: int
    busy: int
    starting: int
    stopping: int
    #: Tasks that wait for a worker.
    pending: int
    running_tasks: int
    cpu_percent: float | None
    memory_bytes: int | None
    #: Seconds since the start; 0 while not running.
    uptime: float
    disk_bytes: int | None = None
    #: Why no new attempts are begun: pause(), or what the machine is short of (then one runs at a time). None = they are.
    paused: str | None = None
