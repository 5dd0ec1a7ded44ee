"""The live area of the terminal: a line per running task and a total line."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rxtasks.cli.board import Board, Running
from rxtasks.text import amount, cut, duration, shown

__all__ = ["picture"]

#: Lines of running tasks that are shown at most.
_ROWS = 16


#: Columns below which a running task has no bar and no words of its own.
_NARROW = 60


def picture(board: Board, seconds: float, width: int, height: int) -> RenderableType:
    """Return what to show `seconds` after the start on a terminal of `width` columns and `height` lines."""
    rows = max(1, min(_ROWS, height - 4))
    running = sorted(board.running.copy().values(), key=lambda task: task.since)
    grid = Table.grid(padding=(0, 1))
    columns = (0, 2) if width < _NARROW else (0, 1, 2, 3)
    for _ in columns:
        grid.add_column(no_wrap=True, overflow="ellipsis")
    now = time.monotonic()
    for task in running[:rows]:
        cells = _task(board, task, now)
        grid.add_row(*(cells[column] for column in columns))
    parts: list[RenderableType] = [grid]
    if len(running) > rows:
        parts.append(Text(f"  and {len(running) - rows:,} more running", "dim", no_wrap=True, overflow="ellipsis"))
    parts.append(_total(board, seconds, len(running), width))
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


def _total(board: Board, seconds: float, running: int, width: int) -> RenderableType:
    """Return the total line: always one line, its bar as long as there is room for, in steps so that it stays calm."""
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
    text = "  ".join(words)
    room = min(30, (width - len("total ") - len(text) - 2) // 10 * 10)
    if room <= 0 or total == 0:
        return Text.assemble(("total ", "bold"), text, no_wrap=True, overflow="ellipsis")
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=total, completed=ended, width=room, pulse=total is None)
    grid.add_row(Text("total", "bold"), bar, Text(text, no_wrap=True, overflow="ellipsis"))
    return grid
