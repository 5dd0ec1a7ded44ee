"""`rxtasks worker list`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from rxtasks.cli.codes import DONE
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.output import write_json_lines
from rxtasks.cli.place import configured, json_option, reach, store_options
from rxtasks.cli.worker.status import percent, size
from rxtasks.text import shown

__all__ = ["listing"]

_EPILOG = """\b
Examples:
  rxtasks worker list
  rxtasks worker list --json | jq -r 'select(.status == "busy").worker_id'
"""
_HEAD = ("WORKER", "STATUS", "PID", "DONE", "FAILED", "CPU", "MEMORY", "UP", "TASKS")


@click.command("list", epilog=_EPILOG, context_settings=CONTEXT)
@store_options
@json_option
def listing(store: str | None, config: Path | None, as_json: bool) -> int:
    """List the workers, one a line."""
    workers = reach(configured(store, config)).get("/v1/workers")["workers"]
    if as_json:
        write_json_lines(workers)
        return DONE
    now = datetime.now(UTC)
    rows = [_HEAD]
    for worker in workers:
        up = (now - datetime.fromisoformat(worker["started_at"])).total_seconds()
        rows.append(
            (
                worker["worker_id"],
                worker["status"],
                str(worker["pid"] or "-"),
                str(worker["completed"]),
                str(worker["failed"]),
                percent(worker["cpu_percent"]),
                size(worker["memory_bytes"]),
                f"{max(0.0, up):.0f}s",
                ",".join(worker["task_ids"][:3]) + (",..." if len(worker["task_ids"]) > 3 else "") or "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        print(shown("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()))
    return DONE
