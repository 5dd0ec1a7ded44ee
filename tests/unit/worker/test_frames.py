"""Reading the frames of other threads while threads come and go and garbage has finalizers."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from rxtasks.worker import stacks

#: As many calls as are needed to stand still with near certainty where the collector is let in.
_CALLS = 300

_PROGRAM = f"""
import gc, os, threading
from types import SimpleNamespace
from rxtasks.worker.stacks import stack_parts

class Gives:
    "Garbage in a cycle, whose finalizer gives the interpreter away."
    def __init__(self):
        self.me = self
    def __del__(self):
        os.stat("/")

over = threading.Event()

def churn():
    while not over.is_set():
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

def stand(depth):
    stand(depth - 1) if depth else over.wait()

threads = [threading.Thread(target=stand, args=(3,)) for _ in range(100)]
threads += [threading.Thread(target=churn) for _ in range(3)]
for thread in threads:
    thread.start()
attempt = SimpleNamespace(task=None, assignment=SimpleNamespace(task_id="x"))
gc.set_threshold(30)
for _ in range({_CALLS}):
    for _ in range(40):
        Gives()
    assert stack_parts({{1: attempt}}, 1, others=True) is not None
over.set()
print("told", {_CALLS})
"""


def test_a_process_whose_stacks_are_read_goes_on(tmp_path: Path) -> None:
    """C-03: no collection of garbage gets in between, which up to Python 3.11 stops the process for ever."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=Path(stacks.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert f"told {_CALLS}\n" == done.stdout, done.stderr


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch, collects: bool) -> None:
    """C-03: also where the call fails."""
    seen: list[bool] = []

    def fail() -> None:
        seen.append(gc.isenabled())
        raise MemoryError

    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        assert stacks._current_frames()
        assert gc.isenabled() is collects
        monkeypatch.setattr(sys, "_current_frames", fail)
        with pytest.raises(MemoryError):
            stacks._current_frames()
        assert gc.isenabled() is collects and seen == [False]
    finally:
        (gc.enable if before else gc.disable)()
