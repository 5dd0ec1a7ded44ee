"""A worker that ends with all that is below it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rxtasks.worker import children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

_PROGRAM = """
import subprocess, sys
from multiprocessing.shared_memory import SharedMemory
from rxtasks.worker.children import kill_everything
made = SharedMemory(create=True, size=4096)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
print(made.name, child.pid, flush=True)
sys.stdin.readline()
kill_everything()
"""


def test_shared_memory_goes_with_a_worker_that_ends_itself() -> None:
    """W-10: multiprocessing's tracker is left to remove it; everything else is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        cwd=Path(children.__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    name, pid = process.stdout.readline().split()
    memory, child = Path("/dev/shm") / name, psutil.Process(int(pid))
    assert memory.exists()
    process.communicate("\n", timeout=30)
    assert 70 == process.returncode
    until = time.monotonic() + 30
    while memory.exists() or (child.is_running() and child.status() != psutil.STATUS_ZOMBIE):
        assert time.monotonic() < until, "the memory or the child is still there"
        time.sleep(0.005)
