"""A result that a durable store cannot hold: the task fails, and what it returned is not lost (Q-09)."""

from __future__ import annotations

from typing import Any

from rxtasks.errors import PayloadError
from rxtasks.wire.kept import kept_path
from rxtasks.wire.payload import describe, dump_value
from rxtasks.worker.attempt import Ending
from rxtasks.worker.ending import failed

__all__ = ["unstored"]


def unstored(value: Any, error: PayloadError, folder: str, task_id: str, *, in_process: bool, limit: int) -> Ending:
    """Return the end of an attempt whose result was refused with `error`; the store keeps the result as a file."""
    try:
        blob = dump_value(value, what="result", limit=limit)
    except PayloadError as other:
        text = f"{error}. It could not be kept as a file either: {other}"
        return failed(PayloadError(text, error.path), in_process=in_process, durable=True)
    path = kept_path(folder, task_id)
    text = f"{error}. It was kept as {path}: pickle.load() opens it, where you trust what ran the task"
    ending = failed(PayloadError(text, error.path), in_process=in_process, durable=True)
    ending.value, ending.blob = ["p", len(blob), *describe(value)], blob
    return ending
