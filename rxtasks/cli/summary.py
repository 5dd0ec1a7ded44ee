"""What is said of a run when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rxtasks.cli.board import Board
from rxtasks.text import counted, duration

if TYPE_CHECKING:
    from rxtasks.observe.ledger import LedgerReport

__all__ = ["Facts", "lines"]

#: CPU seconds below which their ratio to the wall clock tells nothing: the kernel counts them in ticks of 0.01 s.
_TELLING = 0.1


@attrs.frozen
class Facts:
    """What the board does not know."""

    #: Seconds from the first submit to the last end.
    seconds: float
    #: CPU seconds of the workers (of this process, where the tasks ran in it).
    cpu_seconds: float
    workers: int
    isolation: str
    ledger: LedgerReport | None = None
    chaos: bool = False


def lines(board: Board, facts: Facts) -> list[str]:
    """Return the summary, one aligned "word  text" per line."""
    rows = [("tasks", _tasks(board)), ("time", _time(facts))]
    if facts.chaos or board.workers_lost:
        lost, again = counted(board.workers_lost, "worker"), counted(board.run_again, "task")
        rows.append(("workers", f"{lost} lost, {again} run again, {board.outstanding:,} lost"))
    if facts.ledger is not None:
        rows.append(("ledger", _ledger(facts.ledger)))
    if board.lines_lost:
        rows.append(("log", f"{counted(board.lines_lost, 'line')} not shown: standard error was slower than the tasks"))
    return [f"{word:<8}{text}" for word, text in rows]


def _tasks(board: Board) -> str:
    parts = [f"{board.succeeded:,} ok", f"{board.failed:,} failed"]
    if board.cancelled:
        parts.append(f"{board.cancelled:,} cancelled")
    if board.dropped:
        parts.append(f"{board.dropped:,} dropped before they ran")
    if board.unsent:
        parts.append(f"{counted(board.unsent, 'input')} never submitted")
    return f"{counted(board.ended, 'task')}: {', '.join(parts)}"


def _time(facts: Facts) -> str:
    where = "this process" if facts.isolation in ("inline", "thread") else counted(facts.workers, "worker")
    text = f"{duration(facts.seconds)}, CPU {duration(facts.cpu_seconds)} in {where}"
    if facts.seconds > 0 and facts.cpu_seconds >= _TELLING:
        text += f", speed-up {facts.cpu_seconds / facts.seconds:.2f}"
    return text


def _ledger(ledger: LedgerReport) -> str:
    lanes = ledger.lanes.values()
    parts = [f"{sum(getattr(lane, fate) for lane in lanes):,} {fate}" for fate in ("delivered", "conflated", "dropped")]
    pending = sum(lane.pending for lane in lanes)
    if pending:
        parts.append(f"{pending:,} not delivered")
    produced = sum(lane.produced for lane in lanes)
    return f"{counted(produced, 'event')} = {' + '.join(parts)}: {'exact' if ledger.exact else 'NOT exact'}"
