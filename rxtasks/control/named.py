"""The schemas that have a name in the description: what tasks, workers and answers look like."""

from __future__ import annotations

from typing import Any, Final

from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.info import ISOLATIONS

__all__ = ["NAMED", "OPTIONS", "TASK_ID", "listing", "ref", "value"]


def ref(name: str) -> dict[str, Any]:
    """Return a reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def listing(key: str, of: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the schema of an object that has a list."""
    return _object({key: {"type": "array", "items": of}, **more})


def value(key: str, of: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that has one value."""
    return _object({key: of})


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


_TEXT: Final = {"type": "string"}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_COUNT: Final = {"type": "integer", "minimum": 0}
_MAYBE_COUNT: Final = {"type": ["integer", "null"]}
_MAYBE_NUMBER: Final = {"type": ["number", "null"]}
_TIME: Final = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Final = {"type": ["string", "null"], "format": "date-time"}
_ANY: Final[dict[str, Any]] = {}

#: An id that a path can carry.
TASK_ID: Final = {
    "type": "string",
    "minLength": 1,
    "maxLength": 200,
    "pattern": "^[A-Za-z0-9][A-Za-z0-9._:~-]*$",
    "x-in-words": "begins with a letter or digit, and has letters, digits and . _ : ~ - only",
}
_WORD: Final = {"type": ["string", "null"], "minLength": 1, "maxLength": 1000}
_WORDS: Final = {"type": "array", "maxItems": 1000, "items": {"type": "string", "maxLength": 1000}}

#: The fields of TaskOptions, as JSON has them.
OPTIONS: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "description": "Fields of TaskOptions; what is left out is as the handler's own options say.",
    "properties": {
        "name": _WORD,
        "priority": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
        "delay": {"type": ["number", "null"], "minimum": 0, "maximum": 1e9, "description": "Seconds."},
        "run_at": {"type": ["string", "null"], "format": "date-time"},
        "cron": _WORD,
        "tz": _WORD,
        "timeout": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1e9, "description": "Seconds."},
        "grace": {"type": "number", "minimum": 0, "maximum": 1e9, "description": "Seconds."},
        "retry": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "max_attempts": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
                "backoff": {"type": "string", "enum": ["exponential", "fixed"]},
                "base": {"type": "number", "minimum": 0, "maximum": 1e9},
                "cap": {"type": "number", "minimum": 0, "maximum": 1e9},
                "jitter": {"type": "string", "enum": ["full", "none"]},
                "retry_on": _WORDS,
                "give_up_on": _WORDS,
            },
        },
        "max_crashes": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
        "dedup_key": _WORD,
        "depends_on": _WORDS,
        "on_dependency_failure": {"type": "string", "enum": ["cancel", "run"]},
        "lock": _WORD,
        "max_running": {"type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000},
        "rate": {
            "type": ["string", "null"],
            "pattern": "^[1-9][0-9]{0,8} ?/ ?(s|sec|second|m|min|minute|h|hour|d|day)$",
            "x-in-words": 'is a number of tasks a unit of time, as "100/s", "10/min" or "5/h"',
        },
        "queue": _WORD,
        "isolation": {"type": ["string", "null"], "enum": [*ISOLATIONS, None]},
        "limits": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {
                "cpu_percent": {"type": ["number", "null"], "exclusiveMinimum": 0},
                "memory_bytes": {"type": ["integer", "null"], "exclusiveMinimum": 0},
                "disk_bytes": {"type": ["integer", "null"], "exclusiveMinimum": 0},
                "over_limit": {"type": "string", "enum": ["warn", "throttle", "kill"]},
            },
        },
        "tags": _WORDS,
    },
}

_PROGRESS: Final = {
    **_object(
        {
            "current": {"type": "number"},
            "total": _MAYBE_NUMBER,
            "fraction": _MAYBE_NUMBER,
            "message": _MAYBE_TEXT,
            "time": _TIME,
        }
    ),
    "type": ["object", "null"],
}

_TASK: Final = {
    "task_id": _TEXT,
    "name": _TEXT,
    "status": {"type": "string", "enum": [str(status) for status in TaskStatus]},
    "attempt": _COUNT,
    "crashes": _COUNT,
    "interruptions": _COUNT,
    "priority": {"type": "integer"},
    "worker_id": _MAYBE_TEXT,
    "progress": _PROGRESS,
    "created_at": _TIME,
    "started_at": _MAYBE_TIME,
    "finished_at": _MAYBE_TIME,
    "duration": _MAYBE_NUMBER,
    "queue": _MAYBE_TEXT,
    "tags": {"type": "array", "items": _TEXT},
    "schedule_id": _MAYBE_TEXT,
    "retry_of": _MAYBE_TEXT,
    "error": {
        "type": ["object", "null"],
        "properties": {"type": _TEXT, "message": _TEXT, "code": {"type": ["string", "integer", "null"]}},
        "required": ["type", "message", "code"],
    },
}

_POOL: Final = {
    "running": {"type": "boolean"},
    "active": _COUNT,
    "workers": _COUNT,
    "idle": _COUNT,
    "busy": _COUNT,
    "starting": _COUNT,
    "stopping": _COUNT,
    "pending": _COUNT,
    "running_tasks": _COUNT,
    "cpu_percent": _MAYBE_NUMBER,
    "memory_bytes": _MAYBE_COUNT,
    "uptime": {"type": "number"},
    "disk_bytes": _MAYBE_COUNT,
    "paused": _MAYBE_TEXT,
}

#: By name.
NAMED: Final[dict[str, Any]] = {
    "Error": value(
        "error",
        _object(
            {
                "code": {"type": "string", "description": "A stable word for programs."},
                "message": _TEXT,
                "hint": {"type": "string", "description": 'What to try; "" if nothing.'},
            }
        ),
    ),
    "TaskOptions": OPTIONS,
    "Task": _object(
        {**_TASK, "result": _ANY, "result_ref": _object({"type": _TEXT, "size": _COUNT, "preview": _TEXT})},
        optional=("result_ref",),
    ),
    "TaskSummary": _object(_TASK),
    "Worker": _object(
        {
            "worker_id": _TEXT,
            "isolation": {"type": "string", "enum": [*ISOLATIONS]},
            "pid": _MAYBE_COUNT,
            "status": {"type": "string", "enum": [str(status) for status in WorkerStatus]},
            "task_ids": {"type": "array", "items": _TEXT},
            "running": {
                "type": "array",
                "items": _object(
                    {
                        "task_id": _TEXT,
                        "name": _TEXT,
                        "attempt": _COUNT,
                        "progress": _PROGRESS,
                        "started_at": _MAYBE_TIME,
                    }
                ),
            },
            "started_at": _TIME,
            "last_heartbeat": _MAYBE_TIME,
            "completed": _COUNT,
            "failed": _COUNT,
            "cpu_percent": _MAYBE_NUMBER,
            "memory_bytes": _MAYBE_COUNT,
            "disk_bytes": _MAYBE_COUNT,
            "limits": {"type": ["object", "null"]},
        }
    ),
    "PoolStatus": _object(_POOL),
    "Status": _object(
        {
            "pid": _COUNT,
            "mode": _TEXT,
            "store": _TEXT,
            "version": _TEXT,
            "started_at": _TIME,
            "processing": {"type": "boolean", "description": "Its workers run, or start."},
            "stopping": {"type": "boolean", "description": "The process is about to end."},
            "pool": ref("PoolStatus"),
            "workers": {"type": "array", "items": ref("Worker")},
        }
    ),
    "Health": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
    "Transition": _object(
        {"source": _MAYBE_TEXT, "target": _TEXT, "actor": _TEXT, "reason": _MAYBE_TEXT, "time": _TIME}
    ),
}
