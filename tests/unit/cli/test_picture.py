"""The live area of the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rxtasks.cli.board import Board, Running
from rxtasks.cli.picture import picture


def drawn(board: Board, *, width: int = 100, height: int = 24) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(picture(board, 2.0, width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_running_task_has_a_line_and_there_is_a_total() -> None:
    """C-02: a live line per running task and a total line."""
    board = Board("f")
    board.total, board.succeeded, board.submitted = 8, 4, 6
    board.running = {
        "T1": Running("a.py", "W1", 1, 0.0, current=3, total=10, message="[bold]rows\x1b[2J"),
        "T2": Running("b.py", "W2", 2, 1.0),
    }
    text = drawn(board)
    assert "w1 a.py" in text and "3/10" in text and "[bold]rows\\x1b[2J" in text
    assert "w2 b.py" in text and "attempt 2" in text
    assert "total" in text and "4/8  2 running  0 failed" in text and "left" in text


def test_more_tasks_than_lines_are_counted() -> None:
    """W-15: a hundred workers do not fill the terminal."""
    board = Board("f")
    board.running = {f"T{n}": Running(f"{n}.py", f"W{n}", 1, float(n)) for n in range(100)}
    text = drawn(board, height=10)
    assert "and 94 more running" in text
    assert len(text.splitlines()) <= 9


@pytest.mark.parametrize("width", [5, 20, 40, 59, 60, 80, 100])
def test_a_line_stays_a_line_on_a_narrow_terminal(width: int) -> None:
    """C-02: a line per running task and a total line, however few the columns; what has no room is left out."""
    board = Board("f")
    board.total, board.succeeded, board.submitted = 1790, 1234, 1300
    board.running = {
        f"T{n}": Running(f"{n}/a/rather/long/path/to/a/file.py", f"W{n}", 1, 0.0, current=3, total=10, message="rows")
        for n in range(2)
    }
    lines = drawn(board, width=width).splitlines()
    assert len(lines) == 3
    if width >= 20:
        assert lines[0].startswith("w1 ") and "3/10" in lines[0]
        assert lines[2].startswith("total ") and "1,234/1,790" in lines[2]
    assert ("2 running  0 failed" in lines[2]) == (width >= 40)
