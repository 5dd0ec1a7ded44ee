"""`rxtasks worker status`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from rxtasks.cli.codes import DONE
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.output import write_json
from rxtasks.cli.place import configured, json_option, reach, store_options
from rxtasks.text import amount, cut, duration, shown

__all__ = ["page", "status", "worker_line"]

_EPILOG = """\b
Examples:
  rxtasks worker status
  rxtasks worker status --json | jq .pool.pending
"""
#: Characters of a task's name and of a message that are shown.
_NAME = 60
_GIGA, _MEGA = 2**30, 2**20


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@store_options
@json_option
def status(store: str | None, config: Path | None, as_json: bool) -> int:
    """Show the pool, what each worker does, and the queue."""
    found = reach(configured(store, config)).get("/v1/status")
    if as_json:
        write_json(found)
    else:
        print("\n".join(page(found, datetime.now(UTC))))
    return DONE


def page(found: dict[str, Any], now: datetime) -> list[str]:
    """Return the page that shows what /v1/status has answered."""
    pool = found["pool"]
    lines = ["Worker Pool Status", "==================", f"Mode: {shown(str(found['mode']))}"]
    state = _state(found)
    if state:
        lines.append(f"State: {state}")
    lines.append(f"Active: {pool['active']}")
    lines += [f"  - {worker_line(worker, now)}" for worker in found["workers"]]
    lines.append(f"Queue: {pool['pending']:,} pending, {pool['running_tasks']:,} running")
    lines.append(f"Resources: CPU {percent(pool['cpu_percent'])}, Memory {size(pool['memory_bytes'])}")
    return lines


def _state(found: dict[str, Any]) -> str:
    """Return what is not as usual."""
    if found.get("stopping"):
        return "stopping: running tasks may finish, no new ones begin"
    if not found["processing"]:
        return "processing is stopped"
    paused = found["pool"].get("paused")
    if not paused:
        return ""
    return "paused; go on with: rxtasks worker resume" if paused == "pause()" else f"paused: {shown(str(paused))}"


def worker_line(worker: dict[str, Any], now: datetime) -> str:
    """Return "worker-ID: busy (task ID, name, 42 %, 3.1 s)"."""
    line = f"worker-{worker['worker_id']}: {worker['status']}"
    running = [_running(task, now) for task in worker["running"]] if worker["status"] == "busy" else []
    return f"{line} ({'; '.join(running)})" if running else line


def _running(task: dict[str, Any], now: datetime) -> str:
    words = [f"task {task['task_id']}", cut(shown(str(task["name"])), _NAME)]
    progress = task.get("progress")
    if progress:
        fraction = progress.get("fraction")
        words.append(amount(progress["current"]) if fraction is None else f"{fraction * 100:.0f} %")
    started = task.get("started_at")
    if started:
        words.append(duration(max(0.0, (now - datetime.fromisoformat(started)).total_seconds())))
    return ", ".join(words)


def percent(value: float | None) -> str:
    """Return "45%", or "?" where it is not known."""
    return "?" if value is None else f"{value:.0f}%"


def size(value: int | None) -> str:
    """Return "1.2GB" or "80MB", or "?" where it is not known."""
    if value is None:
        return "?"
    return f"{value / _GIGA:.1f}GB" if value >= _GIGA else f"{value / _MEGA:.0f}MB"
