"""Shows a run on standard error while it goes on: the tasks' lines, and on a terminal what runs now.

One thread does all the writing, so that neither the tasks' events nor the feeder ever wait for a terminal: lines wait
in the board's ring meanwhile, and the oldest are dropped and counted when it is full. A file or a pipe is waited for, so
that it has every line, but not for ever: its reader may have stopped (a pager).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, TextIO

from rxtasks.cli.board import Board
from rxtasks.cli.lines import coloured, plain
from rxtasks.text import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

__all__ = ["Screen"]

#: Seconds between two looks at the board.
_REFRESH = 0.2
#: Seconds that tasks are held up for a file or a pipe that takes no lines; less than a subscriber may stall.
_PATIENCE = 2.0
#: Seconds between two plain lines about progress where there is no terminal.
_REPORT = 10.0


class Screen:
    """A context manager that shows `board` while it is entered; on a terminal with a live area at the bottom."""

    def __init__(self, board: Board, stream: TextIO | None = None) -> None:
        self._board = board
        self._stream = stream if stream is not None else sys.stderr
        self._over = False
        self._console: Console | None = None
        self._live: Live | None = None
        self._started = time.monotonic()
        self._next_report = self._started + _REPORT
        if self._stream.isatty():
            self._open_live()
        else:
            board.patience = _PATIENCE
        self._thread = threading.Thread(target=self._work, name="rxtasks-screen", daemon=True)

    def __enter__(self) -> Screen:
        self._started = time.monotonic()
        self._next_report = self._started + _REPORT
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._board.pressed.set()
        self._thread.join()

    def abandon(self) -> None:
        """Show the cursor again, and nothing else: the process is about to end without more ado."""
        if self._live is not None:
            with contextlib.suppress(OSError, ValueError):
                os.write(self._stream.fileno(), b"\x1b[?25h\n")

    def _open_live(self) -> None:
        from rich.console import Console
        from rich.live import Live

        from rxtasks.cli.picture import picture

        self._picture = picture
        self._console = Console(file=self._stream, markup=False, highlight=False, emoji=False)
        if self._console.is_dumb_terminal:
            self._console = None
            return
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def _work(self) -> None:
        try:
            if self._live is not None:
                self._live.start()
            while not self._over:
                self._board.pressed.wait(_REFRESH)
                self._board.pressed.clear()
                self._show()
            self._show()
            if self._live is not None:
                self._live.stop()
            self._stream.flush()
        except (OSError, ValueError):
            # The terminal is gone: the run goes on without it.
            self._board.patience = 0.0
            return

    def _show(self) -> None:
        for line in self._board.take_lines():
            if self._console is not None:
                self._console.print(coloured(line), soft_wrap=True)
            else:
                self._stream.write(plain(line) + "\n")
        if self._live is not None:
            width, height = self._live.console.size
            seconds = time.monotonic() - self._started
            self._live.update(self._picture(self._board, seconds, width, height), refresh=True)
            return
        if time.monotonic() >= self._next_report:
            self._next_report += _REPORT
            self._report()
        self._stream.flush()

    def _report(self) -> None:
        board = self._board
        of = "" if board.total is None else f" of {board.total:,}"
        self._stream.write(
            f"{counted(board.ended, 'task')}{of} done, {len(board.running):,} running, {board.failed:,} failed\n"
        )
