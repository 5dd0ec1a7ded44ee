"""What is called in a forked child. A program of its own: only its main thread lives when it forks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])

_PROGRAM = """
import os, sys
from rxtasks.forking import no_longer, put_right

class Thing:
    def __init__(self, name, error=None):
        self.name, self.error = name, error
        put_right(self)
    def after_fork(self):
        os.write(1, f"{self.name}\\n".encode())
        if self.error is not None:
            raise self.error

def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)

things = [Thing("a", ValueError("a cannot")), Thing("b"), Thing("c"), Thing("gone")]
no_longer(things[2])
no_longer(things[2])
del things[3]
fork()
os.write(1, b"again\\n")
things.clear()
fork()
"""


def test_what_lives_is_put_right_in_a_forked_child_whatever_else_fails() -> None:
    """W-10: each thing that is alive and enlisted, once; an error of one is shown and stops no other."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env={"PYTHONPATH": ROOT}, capture_output=True, text=True, timeout=60
    )
    *first, again = done.stdout.split("\n", 2)
    assert (["a", "b"], "again\n") == (sorted(first), again)
    assert 0 == done.returncode
    assert 1 == done.stderr.count("ValueError: a cannot")
