"""Signals of a run: the third ends the process at once."""

from __future__ import annotations

import pty
import subprocess
import sys

import pytest

from rxtasks.cli.board import Board
from rxtasks.cli.screen import Screen

PROGRAM = """
import signal
from queue import SimpleQueue
from rxtasks.cli.interrupts import Interrupts

with Interrupts(SimpleQueue(), lambda: print("left", flush=True)) as interrupts:
    for _ in range(3):
        print(interrupts.count, flush=True)
        signal.raise_signal(signal.SIGINT)
    print("not reached", flush=True)
"""


def test_the_third_signal_ends_the_process_and_says_so_before() -> None:
    """W-05: whatever holds the run up; exit 130."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "0\n1\n2\nleft\n", "")


def test_a_terminal_that_is_abandoned_has_its_cursor_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-05: the shell of a user who has left by force is usable."""
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as terminal, open(ours, "rb", buffering=0) as shown:
        monkeypatch.setenv("TERM", "xterm")
        Screen(Board("f"), terminal).abandon()
        assert b"\x1b[?25h" in shown.read(64)
