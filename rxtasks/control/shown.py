"""What answers show of workers, tasks and the pool, as JSON: no value of an argument, ever (rule 3)."""

from __future__ import annotations

import json
from typing import Any

import attrs
import orjson

from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import ProgressEvent, ValueRef
from rxtasks.lifecycle.history import Transition
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.pool.info import PoolStatus, WorkerInfo

__all__ = ["as_json", "show_record", "show_status", "show_transition", "show_worker"]


def as_json(value: Any) -> bytes:
    """Return a value as JSON in UTF-8."""
    try:
        return orjson.dumps(value, default=_other)
    except TypeError:  # a number of more than 64 bits, or a surrogate: what a task has returned
        return json.dumps(value, default=_other, allow_nan=False).encode()


def _other(value: Any) -> Any:
    isoformat = getattr(value, "isoformat", None)
    return str(value) if isoformat is None else isoformat()


def show_worker(info: WorkerInfo) -> dict[str, Any]:
    """Return a worker."""
    return {
        "worker_id": info.worker_id,
        "isolation": info.isolation,
        "pid": info.pid,
        "status": info.status.value,
        "task_ids": list(info.task_ids),
        "running": [
            {
                "task_id": task.task_id,
                "name": task.name,
                "attempt": task.attempt,
                "progress": _progress(task.progress),
                "started_at": getattr(task, "started_at", None),
            }
            for task in info.running
        ],
        "started_at": info.started_at,
        "last_heartbeat": info.last_heartbeat,
        "completed": info.completed,
        "failed": info.failed,
        "cpu_percent": info.cpu_percent,
        "memory_bytes": info.memory_bytes,
        "disk_bytes": info.disk_bytes,
        "limits": None if info.limits is None else attrs.asdict(info.limits),
    }


def show_status(status: PoolStatus) -> dict[str, Any]:
    """Return the pool's counts."""
    return attrs.asdict(status)


def _progress(event: ProgressEvent | None) -> dict[str, Any] | None:
    if event is None:
        return None
    return {
        "current": event.current,
        "total": event.total,
        "fraction": event.fraction,
        "message": event.message,
        "time": event.time,
    }


def _error(error: TaskErrorInfo | None, whole: bool) -> dict[str, Any] | None:
    if error is None:
        return None
    return error.to_dict() if whole else {"type": error.type, "message": error.message[:500], "code": error.code}


def show_record(record: TaskRecord, *, whole: bool = True) -> dict[str, Any]:
    """Return a task; of many (`whole` False) without result and traceback, which may be large."""
    shown: dict[str, Any] = {
        "task_id": record.task_id,
        "name": record.name,
        "status": record.status.value,
        "attempt": record.attempt,
        "crashes": record.crashes,
        "interruptions": record.interruptions,
        "priority": record.priority,
        "worker_id": record.worker_id,
        "progress": _progress(record.progress),
        "created_at": record.created_at,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "duration": record.duration,
        "queue": record.options.queue,
        "tags": list(record.tags),
        "schedule_id": record.schedule_id,
        "retry_of": record.retry_of,
        "error": _error(record.error, whole),
    }
    if whole:
        value = record.result
        if isinstance(value, ValueRef):
            shown["result"] = None
            shown["result_ref"] = {"type": value.type, "size": value.size, "preview": value.preview}
        else:
            shown["result"] = value
    return shown


def show_transition(step: Transition) -> dict[str, Any]:
    """Return one entry of a task's history."""
    return {
        "source": None if step.source is None else step.source.value,
        "target": step.target.value,
        "actor": step.actor,
        "reason": step.reason,
        "time": step.time,
    }
