"""The live area of the terminal: a line per running task and a total line."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rxtasks.cli.board import Board, Running
from rxtasks.cli.text import amount, cut, duration, shown

__all__ = ["picture"]

#: Lines of running tasks that are shown at most.
_ROWS = 16


def picture(board: Board, seconds: float, height: int) -> RenderableType:
    """Return what to show `seconds` after the start on a terminal of `height` lines."""
    rows = max(1, min(_ROWS, height - 4))
    running = sorted(board.running.copy().values(), key=lambda task: task.since)
    grid = Table.grid(padding=(0, 1))
    for _ in range(4):
        grid.add_column(no_wrap=True, overflow="ellipsis")
    now = time.monotonic()
    for task in running[:rows]:
        grid.add_row(*_task(board, task, now))
    parts: list[RenderableType] = [grid]
    if len(running) > rows:
        parts.append(Text(f"  and {len(running) - rows:,} more running", "dim"))
    parts.append(_total(board, seconds, len(running)))
    return Group(*parts)


def _task(board: Board, task: Running, now: float) -> tuple[RenderableType, ...]:
    worker = "" if task.worker_id is None else f"{board.worker(task.worker_id)} "
    name = Text(f"{worker}{cut(shown(task.label), 40)}", "cyan")
    if task.total is not None and task.total > 0:
        bar: RenderableType = ProgressBar(total=task.total, completed=min(task.current, task.total), width=20)
        figure = f"{amount(task.current)}/{amount(task.total)}"
    else:
        bar = Text("")
        figure = amount(task.current) if task.current else ""
    again = f" attempt {task.attempt}" if task.attempt > 1 else ""
    words = cut(shown(task.message), 60) if task.message else ""
    return name, bar, Text(f"{figure} {duration(now - task.since)}{again}".strip()), Text(words, "dim")


def _total(board: Board, seconds: float, running: int) -> RenderableType:
    ended, total = board.ended, board.total
    rate = ended / seconds if seconds > 0 else 0.0
    words = [
        f"{ended:,}" if total is None else f"{ended:,}/{total:,}",
        f"{running:,} running",
        f"{board.failed:,} failed",
    ]
    words.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
    words.append(duration(seconds))
    if board.draining:
        words.append("stopping")
    elif total is not None and ended and ended < total:
        words.append(f"{duration((total - ended) / rate)} left")
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        Text("total", "bold"),
        ProgressBar(total=total, completed=ended, width=30, pulse=total is None) if total != 0 else Text(""),
        Text("  ".join(words)),
    )
    return grid
