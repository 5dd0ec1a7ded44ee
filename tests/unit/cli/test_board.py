"""The board folds a run's events into what is shown of it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from rxtasks.cli.board import LINES, Board
from rxtasks.cli.lines import coloured, plain
from rxtasks.cli.summary import Facts, lines
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, ProgressEvent, StatusEvent
from rxtasks.lifecycle.status import TaskStatus as S
from rxtasks.observe.ledger import Lane, LedgerReport
from rxtasks.pool.events import WorkerEvent

SOON = 20.0
NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


class Story:
    """Tells a board what happens to one task."""

    def __init__(self, board: Board, task_id: str = "T1", label: str = "a.py") -> None:
        self.board, self.task_id, self.seq, self.attempt, self.worker = board, task_id, 0, 0, "W1"
        board.expect(task_id, 0, label)

    def _common(self) -> tuple[Any, ...]:
        self.seq += 1
        return self.task_id, self.seq, max(1, self.attempt), self.worker, NOW

    def status(self, status: S, **more: Any) -> Story:
        if status is S.RUNNING:
            self.attempt += 1
        self.board.take(StatusEvent(*self._common(), status, **more))
        return self

    def log(self, message: str, level: str = "INFO", stream: str = "log") -> Story:
        self.board.take(LogEvent(*self._common(), level, message, stream))
        return self

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> Story:
        self.board.take(ProgressEvent(*self._common(), current, total, message))
        return self


def test_a_task_is_running_between_its_first_running_and_its_end() -> None:
    """C-02: a live line per running task."""
    board = Board("f")
    story = Story(board).status(S.RUNNING).progress(3, 10, "rows")
    running = board.running["T1"]
    assert (running.label, running.worker_id, running.current, running.total, running.message) == (
        "a.py",
        "W1",
        3,
        10,
        "rows",
    )
    story.status(S.SUCCEEDED, result=1)
    assert not board.running
    assert (board.succeeded, board.ended, board.outstanding) == (1, 1, 0)


def test_events_of_other_tasks_count_for_nothing() -> None:
    """C-02: only what this run submitted is counted."""
    board = Board("f")
    story = Story(board)
    story.task_id = "other"
    story.status(S.RUNNING).log("x").status(S.SUCCEEDED)
    assert (board.ended, len(board.running), len(board.lines)) == (0, 0, 0)


def test_a_failure_is_told_with_its_traceback_three_times() -> None:
    """C-02: merged logs; later failures take one line each."""
    board = Board("f")
    error = TaskErrorInfo("ValueError", "bad row", traceback='Traceback\n  File "x.py"\nValueError: bad row\n')
    for number in range(5):
        Story(board, f"T{number}", f"{number}.py").status(S.RUNNING).status(S.FAILED, error=error)
    told = [line.message for line in board.lines]
    assert told.count("failed: ValueError: bad row") == 5
    assert told.count("Traceback") == 3
    assert board.failed == 5


def test_log_lines_below_the_level_are_left_out() -> None:
    """C-06: filter by level."""
    board = Board("f", "WARNING")
    Story(board).status(S.RUNNING).log("fine").log("odd", "WARNING").log("raw", "INFO", "stdout")
    assert [line.message for line in board.lines] == ["odd"]


def test_a_line_says_where_it_comes_from_and_is_harmless() -> None:
    """C-06: source tag; what a task prints cannot move the cursor or add lines or markup."""
    board = Board("measure")
    Story(board, label="a\x1b.py").status(S.RUNNING).log("one\ntwo \x1b[2J [red]x", "INFO", "stdout")
    text = plain(board.lines[0])
    assert text.endswith("INFO    w1 measure(a\\x1b.py) stdout | one\\ntwo \\x1b[2J [red]x")
    assert coloured(board.lines[0]).plain == text


def test_the_ring_of_lines_drops_the_oldest_and_counts() -> None:
    """C-06: a slow terminal blocks nobody; ring of 10,000 lines with a drop count."""
    board = Board("f")
    story = Story(board).status(S.RUNNING)
    for number in range(LINES + 5):
        story.log(str(number))
    assert (len(board.lines), board.lines_lost, board.lines[0].message) == (LINES, 5, "5")


def test_a_full_ring_is_waited_for_where_there_is_patience() -> None:
    """C-06: a file gets every line; nobody waits twice for a reader that has stopped."""
    board = Board("f")
    board.patience = SOON
    for number in range(LINES):
        board.say(str(number))
    putting = threading.Thread(target=board.say, args=("the last",))
    putting.start()
    putting.join(0.1)
    assert putting.is_alive() and board.pressed.is_set()
    taken = board.take_lines()
    putting.join(SOON)
    taken += board.take_lines()
    assert ([line.message for line in taken][-1], len(taken), board.lines_lost) == ("the last", LINES + 1, 0)

    board.patience = 0.01
    for number in range(LINES + 5):
        board.say(str(number))
    assert (len(board.lines), board.lines_lost) == (LINES, 5)


def test_a_task_that_runs_again_after_a_crash_is_counted_a_retry_is_not() -> None:
    """W-07: "2 tasks run again" counts consequences of lost workers only."""
    board = Board("f")
    crashed = Story(board, "T1").status(S.RUNNING)
    board.take_pool(WorkerEvent("failed", "W0", NOW, "never became ready: the start tells"))
    board.take_pool(WorkerEvent("ready", "W1", NOW))
    board.take_pool(WorkerEvent("failed", "W1", NOW, "killed by SIGKILL"))
    crashed.worker = "W2"
    crashed.status(S.RUNNING).status(S.SUCCEEDED)
    Story(board, "T2").status(S.RUNNING).status(S.RETRYING).status(S.RUNNING).status(S.SUCCEEDED)
    Story(board, "T3").status(S.RUNNING).status(S.PENDING).status(S.RUNNING).status(S.SUCCEEDED)
    assert (board.run_again, board.workers_lost, board.succeeded) == (2, 1, 3)
    assert any(line.message.startswith("the worker was lost") for line in board.lines)
    summary = lines(board, Facts(1.0, 1.5, 2, "process", chaos=True))
    assert "workers 1 worker lost, 2 tasks run again, 0 lost" in summary


def test_what_had_not_started_when_the_run_was_interrupted_is_dropped_not_failed() -> None:
    """W-05: Ctrl-C drains: running tasks finish, the rest is dropped, and it says so."""
    board = Board("f")
    running, waiting = Story(board, "T1").status(S.RUNNING), Story(board, "T2")
    board.draining = True
    waiting.status(S.FAILED, error=TaskErrorInfo("rxtasks.errors.ServiceStopped", "stopped"))
    running.status(S.SUCCEEDED)
    board.unsent = 7
    assert (board.succeeded, board.failed, board.dropped) == (1, 0, 1)
    assert lines(board, Facts(1.0, 0.0, 2, "process"))[0] == (
        "tasks   2 tasks: 1 ok, 0 failed, 1 dropped before they ran, 7 inputs never submitted"
    )


def test_the_end_of_each_task_is_passed_on_with_its_number() -> None:
    """C-02: --collect gets the results in the order of the inputs."""
    seen: list[tuple[int, str]] = []
    board = Board("f", on_end=lambda number, event: seen.append((number, event.status)))
    board.expect("T9", 4, "x")
    board.take(StatusEvent("T9", 1, 1, None, NOW, S.CANCELLED))
    assert seen == [(4, "cancelled")]
    assert board.label("T9") == "T9", "nothing is kept of a task that has ended"


@pytest.mark.parametrize(("workers", "text"), [(1, "1 worker"), (2, "2 workers")])
def test_the_summary_has_time_and_speed_up(workers: int, text: str) -> None:
    """C-02: seconds, CPU time and speed-up."""
    summary = lines(Board("f"), Facts(10.0, 18.5, workers, "process"))
    assert summary[1] == f"time    10.0 s, CPU 18.5 s in {text}, speed-up 1.85"


def test_a_run_too_short_for_the_clock_has_no_speed_up() -> None:
    """C-02: one tick of CPU time in 2 ms is no speed-up of 5."""
    assert lines(Board("f"), Facts(0.002, 0.01, 1, "process"))[1] == "time    0.00 s, CPU 0.01 s in 1 worker"


def test_the_summary_has_the_ledger() -> None:
    """L-05: produced = delivered + conflated + dropped, over all lanes."""
    report = LedgerReport(Lane(6, 6), Lane(3, 2, 0, 1), Lane(1000, 10, 990), Lane())
    assert lines(Board("f"), Facts(1.0, 0.0, 2, "process", report))[-1] == (
        "ledger  1,009 events = 18 delivered + 990 conflated + 1 dropped: exact"
    )
    wrong = LedgerReport(Lane(6, 5), Lane(), Lane(2, 1, 0, 0, 1), Lane())
    assert lines(Board("f"), Facts(1.0, 0.0, 2, "process", wrong))[-1] == (
        "ledger  8 events = 6 delivered + 0 conflated + 0 dropped + 1 not delivered: NOT exact"
    )
