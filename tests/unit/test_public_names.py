"""The package's public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rxtasks

CONTRACT = [
    "task",
    "TaskContext",
    "current_task",
    "TaskOptions",
    "TaskRequest",
    "TaskRecord",
    "TaskStatus",
    "RetryPolicy",
    "ResourceLimits",
    "WorkerSpec",
    "TaskEvent",
    "StatusEvent",
    "LogEvent",
    "ProgressEvent",
    "OutputEvent",
    "TaskErrorInfo",
    "TaskService",
    "TaskEngine",
    "TaskTracker",
    "TaskEventBus",
    "TaskExecutor",
    "Worker",
    "WorkerPool",
    "WorkerProxyObservable",
    "WorkerEvent",
    "WorkerInfo",
    "WorkerStatus",
    "PoolStatus",
    "iterate",
    "aiterate",
    "as_completed",
    "Secret",
    "Retry",
    "Reschedule",
    "Cancelled",
    "TaskFailed",
    "TaskCancelled",
    "TaskTimeout",
    "WorkerCrashed",
    "WorkerStartError",
    "PayloadError",
    "ProtocolError",
    "StoreError",
    "UnknownTask",
    "UnknownHandler",
    "QueueFull",
    "LogTruncated",
    "SubscriberStalled",
    "ServiceStopped",
    "SettingsError",
    "RxTasksError",
]


@pytest.mark.parametrize("name", sorted({*CONTRACT, *rxtasks.__all__}))
def test_a_public_name_is_there(name: str) -> None:
    """The names that the contract lists can be imported from rxtasks, and are listed."""
    assert getattr(rxtasks, name).__name__ == name
    assert name in rxtasks.__all__ and name in dir(rxtasks)


def test_another_name_is_an_attribute_error() -> None:
    """A wrong name is told as for any module."""
    with pytest.raises(AttributeError, match="module 'rxtasks' has no attribute 'Taskservice'"):
        _ = rxtasks.Taskservice


def test_a_module_of_handlers_does_not_load_reactivex() -> None:
    """Decision 14: `from rxtasks import task` stays cheap in every worker."""
    code = (
        "import sys\nfrom rxtasks import task, TaskContext, Retry, RetryPolicy\n"
        "@task\ndef f(x: int, ctx: TaskContext) -> int: return x\n"
        "print([m for m in ('reactivex', 'loguru', 'psutil', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
