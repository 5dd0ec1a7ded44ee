"""rxtasks: run tasks anywhere and observe everything they do as one reactive stream.

This module holds the public names and nothing else. Each is imported from its home on first use, so that a module of
handlers can say `from rxtasks import task` without loading reactivex into every worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine
    from rxtasks.errors import (
        LogTruncated,
        PayloadError,
        ProtocolError,
        QueueFull,
        ResourceError,
        RxTasksError,
        ServiceStopped,
        SettingsError,
        StoreError,
        SubscriberStalled,
        TaskCancelled,
        TaskFailed,
        TaskTimeout,
        UnknownHandler,
        UnknownTask,
        WorkerCrashed,
        WorkerStartError,
    )
    from rxtasks.futures.executor import TaskExecutor
    from rxtasks.isolation.base import Worker
    from rxtasks.isolation.proxy import WorkerProxyObservable
    from rxtasks.lifecycle.errorinfo import TaskErrorInfo
    from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent, ValueRef
    from rxtasks.lifecycle.options import ResourceLimits, TaskOptions
    from rxtasks.lifecycle.retry import RetryPolicy
    from rxtasks.lifecycle.secret import Secret
    from rxtasks.lifecycle.signals import Cancelled, Reschedule, Retry
    from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
    from rxtasks.lifecycle.task import TaskRecord, TaskRequest
    from rxtasks.observe.bus import TaskEventBus
    from rxtasks.observe.completion import as_completed
    from rxtasks.observe.tracker import TaskTracker
    from rxtasks.pool.events import WorkerEvent
    from rxtasks.pool.info import PoolStatus, WorkerInfo, WorkerSpec
    from rxtasks.pool.pool import WorkerPool
    from rxtasks.reactive.aiterate import aiterate
    from rxtasks.reactive.iterate import iterate
    from rxtasks.service import TaskService
    from rxtasks.wire.handle import Handle
    from rxtasks.worker.context import TaskContext, current_task
    from rxtasks.worker.hooks import AttemptOutcome
    from rxtasks.worker.registry import task

__version__ = "0.1.0"

__all__ = [
    "AttemptOutcome",
    "Cancelled",
    "Handle",
    "LogEvent",
    "LogTruncated",
    "OutputEvent",
    "PayloadError",
    "PoolStatus",
    "ProgressEvent",
    "ProtocolError",
    "QueueFull",
    "Reschedule",
    "ResourceError",
    "ResourceLimits",
    "Retry",
    "RetryPolicy",
    "RxTasksError",
    "Secret",
    "ServiceStopped",
    "SettingsError",
    "StatusEvent",
    "StoreError",
    "SubscriberStalled",
    "TaskCancelled",
    "TaskContext",
    "TaskEngine",
    "TaskErrorInfo",
    "TaskEvent",
    "TaskEventBus",
    "TaskExecutor",
    "TaskFailed",
    "TaskOptions",
    "TaskRecord",
    "TaskRequest",
    "TaskService",
    "TaskStatus",
    "TaskTimeout",
    "TaskTracker",
    "UnknownHandler",
    "UnknownTask",
    "ValueRef",
    "Worker",
    "WorkerCrashed",
    "WorkerEvent",
    "WorkerInfo",
    "WorkerPool",
    "WorkerProxyObservable",
    "WorkerSpec",
    "WorkerStartError",
    "WorkerStatus",
    "aiterate",
    "as_completed",
    "current_task",
    "iterate",
    "task",
]

#: Where each name lives, below "rxtasks."; what is not here lives in rxtasks.errors.
_HOMES = {
    "AttemptOutcome": "worker.hooks",
    "Cancelled": "lifecycle.signals",
    "Handle": "wire.handle",
    "LogEvent": "lifecycle.events",
    "OutputEvent": "lifecycle.events",
    "PoolStatus": "pool.info",
    "ProgressEvent": "lifecycle.events",
    "Reschedule": "lifecycle.signals",
    "ResourceLimits": "lifecycle.options",
    "Retry": "lifecycle.signals",
    "RetryPolicy": "lifecycle.retry",
    "Secret": "lifecycle.secret",
    "StatusEvent": "lifecycle.events",
    "TaskContext": "worker.context",
    "TaskEngine": "engine.engine",
    "TaskErrorInfo": "lifecycle.errorinfo",
    "TaskEvent": "lifecycle.events",
    "TaskEventBus": "observe.bus",
    "TaskExecutor": "futures.executor",
    "TaskOptions": "lifecycle.options",
    "TaskRecord": "lifecycle.task",
    "TaskRequest": "lifecycle.task",
    "TaskService": "service",
    "TaskStatus": "lifecycle.status",
    "TaskTracker": "observe.tracker",
    "ValueRef": "lifecycle.events",
    "Worker": "isolation.base",
    "WorkerEvent": "pool.events",
    "WorkerInfo": "pool.info",
    "WorkerPool": "pool.pool",
    "WorkerProxyObservable": "isolation.proxy",
    "WorkerSpec": "pool.info",
    "WorkerStatus": "lifecycle.status",
    "aiterate": "reactive.aiterate",
    "as_completed": "observe.completion",
    "current_task": "worker.context",
    "iterate": "reactive.iterate",
    "task": "worker.registry",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'rxtasks' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"rxtasks.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
