"""The words for where a task and a worker stand."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["TaskStatus", "WorkerStatus"]


class TaskStatus(StrEnum):
    """Where a task stands; a plain word equal to it is accepted wherever one is."""

    CREATED = "created"  #: stored, not queued yet
    PENDING = "pending"  #: waits for a worker
    SCHEDULED = "scheduled"  #: waits for its time
    BLOCKED = "blocked"  #: waits for other tasks
    RUNNING = "running"
    RETRYING = "retrying"  #: an attempt ended; the next one waits for its time
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """True for succeeded, failed and cancelled: nothing follows them."""
        return self in _TERMINAL


_TERMINAL = frozenset({TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED})


class WorkerStatus(StrEnum):
    """Where a worker stands."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
