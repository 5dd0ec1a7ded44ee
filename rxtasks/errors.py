"""Every exception that rxtasks raises, as one tree.

::

    RxTasksError
    |-- what the caller asked for cannot be
    |   |-- SettingsError        a setting, option or argument that is wrong (also a ValueError)
    |   |-- UnknownTask          no task of that id (also a LookupError)
    |   |-- UnknownHandler       no function of that name (also a LookupError)
    |   |-- QueueFull            a bound on waiting tasks is reached
    |   |-- LogTruncated         events from that seq are no longer held
    |   `-- ServiceStopped       the service has stopped, or stopped before the task ended
    |-- how a task ended
    |   |-- TaskFailed           the handler raised something that cannot be rebuilt here
    |   |-- TaskCancelled        cancelled (also a concurrent.futures.CancelledError)
    |   |-- TaskTimeout          ran longer than its timeout and grace
    |   |-- WorkerCrashed        its worker process died under it
    |   `-- PayloadError         a value that cannot travel (also a TypeError)
    `-- the machinery
        |-- WorkerStartError     a worker could not be started
        |-- ResourceError        a worker's resource could not be built
        |-- ProtocolError        a channel carried something that is no message
        |-- StoreError           the store refused or failed
        `-- SubscriberStalled    a subscriber took nothing for too long and was detached

Each carries its facts as attributes and survives pickling with them.
"""

from __future__ import annotations

from concurrent.futures import CancelledError as _FutureCancelled
from typing import TYPE_CHECKING, Any

from rxtasks.displayed import Displayed

if TYPE_CHECKING:
    from rxtasks.lifecycle.errorinfo import TaskErrorInfo

__all__ = [
    "LogTruncated",
    "PayloadError",
    "ProtocolError",
    "QueueFull",
    "ResourceError",
    "RxTasksError",
    "ServiceStopped",
    "SettingsError",
    "StoreError",
    "SubscriberStalled",
    "TaskCancelled",
    "TaskFailed",
    "TaskTimeout",
    "UnknownHandler",
    "UnknownTask",
    "WorkerCrashed",
    "WorkerStartError",
]


def _rebuild(cls: type[RxTasksError], state: dict[str, Any], args: tuple[Any, ...]) -> RxTasksError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class RxTasksError(Displayed, Exception):
    """The root of all rxtasks exceptions."""

    #: A stable word for programs; TaskErrorInfo.code of a task that ended with this error.
    code: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.__dict__), self.args)


class SettingsError(RxTasksError, ValueError):
    """A setting, option or argument is wrong; the message names it and what is accepted."""

    code = "SETTINGS"


class UnknownTask(RxTasksError, LookupError):
    """No task of this id is known to the service (or it was forgotten after `retain`)."""

    code = "UNKNOWN_TASK"

    def __init__(self, task_id: str) -> None:
        super().__init__(f"no task {task_id!r} here; it was never submitted, was deleted, or is older than `retain`")
        self.task_id = task_id


class UnknownHandler(RxTasksError, LookupError):
    """A task names a function that is not registered or cannot be imported where it should run."""

    code = "UNKNOWN_HANDLER"


class QueueFull(RxTasksError):
    """The bound on waiting tasks (max_queue, max_pending) is reached; submit later or raise the bound."""

    code = "QUEUE_FULL"


class LogTruncated(RxTasksError):
    """The events asked for are no longer held; `first_seq` is the first that still is."""

    code = "LOG_TRUNCATED"

    def __init__(self, first_seq: int) -> None:
        super().__init__(f"events before seq {first_seq} are no longer held; ask from_seq={first_seq} or later")
        self.first_seq = first_seq


class ServiceStopped(RxTasksError):
    """The service stopped before the task ended, or is stopped and takes no tasks until start()."""

    code = "SERVICE_STOPPED"

    def __init__(self, message: str = "the service stopped before the task ended") -> None:
        super().__init__(message)


class TaskFailed(RxTasksError):
    """The handler raised an exception that cannot be rebuilt here; `error` shows it."""

    code = "TASK_FAILED"

    def __init__(self, error: TaskErrorInfo) -> None:
        super().__init__(f"{error.type}: {error.message}")
        self.error = error


class TaskCancelled(RxTasksError, _FutureCancelled):
    """The task was cancelled; `reason` is what the canceller said, or None."""

    code = "CANCELLED"

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(f"the task was cancelled: {reason}" if reason else "the task was cancelled")
        self.reason = reason


class TaskTimeout(RxTasksError):
    """The attempt ran longer than its soft timeout and the grace after it.

    `elapsed`, `soft` and `hard` are seconds; hard is soft plus grace. Not a TimeoutError: that is what
    `result(timeout)` raises when the caller's own wait is over.
    """

    code = "TASK_TIMEOUT"

    def __init__(self, elapsed: float, soft: float, hard: float) -> None:
        super().__init__(
            f"the attempt ran {elapsed:.3g} s; its timeout is {soft:.3g} s and it was stopped at {hard:.3g} s"
            " (timeout + grace); raise TaskOptions.timeout, or checkpoint and end sooner"
        )
        self.elapsed = elapsed
        self.soft = soft
        self.hard = hard


class WorkerCrashed(RxTasksError):
    """The worker died while the task ran in it, `max_crashes` times.

    `exit_code` is set when it exited, `signal` when a signal killed it; `reason` says the likely cause. Where it was killed
    because it was over a limit (ResourceLimits), `resource` is "memory", "disk" or "cpu", with what was `used` and the
    `limit`, in bytes or percent; else they are None.
    """

    code = "WORKER_CRASHED"
    resource: str | None = None
    used: float | None = None
    limit: float | None = None

    def __init__(
        self, worker_id: str, exit_code: int | None = None, signal: int | None = None, reason: str | None = None
    ) -> None:
        how = f"signal {signal}" if signal is not None else f"exit code {exit_code}"
        super().__init__(
            f"worker {worker_id} died with {how} while the task ran in it" + (f": {reason}" if reason else "")
        )
        self.worker_id = worker_id
        self.exit_code = exit_code
        self.signal = signal
        self.reason = reason


class PayloadError(RxTasksError, TypeError):
    """A value cannot travel to or from the worker; `path` is where in the value the culprit is."""

    code = "PAYLOAD"

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class WorkerStartError(RxTasksError):
    """A worker could not be started; the message holds its own error text."""

    code = "WORKER_START"


class ResourceError(RxTasksError):
    """The factory of a worker's resource failed; `name` is the resource, `worker_id` the worker, the cause what it raised."""

    code = "RESOURCE"

    def __init__(self, name: str, worker_id: str | None, why: str) -> None:
        super().__init__(f"resource {name!r} of worker {worker_id} could not be built: {why}; see resources=")
        self.name = name
        self.worker_id = worker_id


class ProtocolError(RxTasksError):
    """A channel carried bytes that are no message, or a message out of order."""

    code = "PROTOCOL"


class StoreError(RxTasksError):
    """The store refused or failed an operation."""

    code = "STORE"


class SubscriberStalled(RxTasksError):
    """A subscriber held its stream for longer than stall_timeout and was detached.

    `first_undelivered_seq` is the seq of the first event it did not get (None for streams without one).
    """

    code = "SUBSCRIBER_STALLED"

    def __init__(self, first_undelivered_seq: int | None = None) -> None:
        super().__init__(
            "this subscriber held the stream for longer than stall_timeout and was detached"
            + (
                f" (first event not delivered: seq {first_undelivered_seq})"
                if first_undelivered_seq is not None
                else ""
            )
            + "; put slow work behind deliver_on, buffer_bounded, latest or batch"
        )
        self.first_undelivered_seq = first_undelivered_seq
