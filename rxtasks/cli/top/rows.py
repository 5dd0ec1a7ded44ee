"""What the panes of `rxtasks top` show, made of what was seen: text alone, escaped (security rule 6)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rxtasks.cli.top.feed import Seen
from rxtasks.cli.worker.status import percent, size
from rxtasks.text import amount, cut, duration, shown

__all__ = ["QUEUE", "WORKERS", "headline", "queue_rows", "worker_rows"]

#: Heads of the panes.
WORKERS = ("WORKER", "STATUS", "TASK", "DONE", "TIME", "CPU", "MEMORY")
QUEUE = ("TASK", "NAME", "STATUS", "DONE", "SINCE")
_NAME = 40


def headline(seen: Seen) -> str:
    """Return the line at the top: the store, the state, the counts, the resources."""
    found = seen.status
    if found is None:
        return shown(seen.trouble or "")
    pool = found["pool"]
    state = "running"
    if found.get("stopping"):
        state = "stopping"
    elif not found["processing"]:
        state = "processing is stopped"
    elif pool.get("paused"):
        state = "paused" if pool["paused"] == "pause()" else f"paused: {pool['paused']}"
    if seen.trouble is not None:
        return shown(f"NO CONNECTION: {seen.trouble}")
    words = [
        state,
        f"{pool['active']} workers, {pool['busy']} busy",
        f"{pool['pending']:,} pending, {pool['running_tasks']:,} running",
        f"CPU {percent(pool['cpu_percent'])}, memory {size(pool['memory_bytes'])}",
        f"{found['mode']}, pid {found['pid']}, up {duration(pool['uptime'])}",
    ]
    return shown(" | ".join(words))


def worker_rows(seen: Seen) -> list[tuple[str, tuple[str, ...]]]:
    """Return the workers: the id, and the cells of its row."""
    if seen.status is None:
        return []
    now = datetime.now(UTC)
    return [(worker["worker_id"], _worker(worker, now)) for worker in seen.status["workers"]]


def _worker(worker: dict[str, Any], now: datetime) -> tuple[str, ...]:
    running = worker["running"] if worker["status"] == "busy" else []
    task = running[0] if running else {}
    more = f" +{len(running) - 1}" if len(running) > 1 else ""
    return (
        shown(worker["worker_id"][-8:]),
        shown(worker["status"]),
        cut(shown(str(task.get("name", ""))), _NAME) + more,
        _progress(task.get("progress")),
        _since(task.get("started_at"), now),
        percent(worker["cpu_percent"]),
        size(worker["memory_bytes"]),
    )


def queue_rows(seen: Seen) -> list[tuple[str, tuple[str, ...]]]:
    """Return the tasks: the id, and the cells of its row."""
    now = datetime.now(UTC)
    return [
        (
            task["task_id"],
            (
                shown(task["task_id"][-8:]),
                cut(shown(str(task["name"])), _NAME),
                shown(task["status"]),
                _progress(task.get("progress")),
                _since(task.get("created_at"), now),
            ),
        )
        for task in seen.tasks
    ]


def _progress(progress: dict[str, Any] | None) -> str:
    if not progress:
        return ""
    fraction = progress.get("fraction")
    return amount(progress["current"]) if fraction is None else f"{fraction * 100:.0f} %"


def _since(moment: str | None, now: datetime) -> str:
    return "" if not moment else duration(max(0.0, (now - datetime.fromisoformat(moment)).total_seconds()))
