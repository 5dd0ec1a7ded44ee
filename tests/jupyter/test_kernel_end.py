"""A kernel that ends while tasks run."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jupyter.kernel import SOON, Kernel

#: Two tasks that never end by themselves, one with a child process, and one that waits.
BUSY = """
import reactivex.operators as ops
from rxtasks import *
def stuck(ctx: TaskContext):
    import subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    ctx.emit(child.pid)
    child.wait()
service = TaskService(workers=2, echo=None)
tasks = [service.submit(stuck) for _ in range(3)]
for one in tasks[:2]: one.outputs.pipe(ops.first()).run()
"""


@pytest.mark.parametrize("end", [Kernel.restart, Kernel.shut_down, Kernel.kill])
def test_no_process_is_left(end: Callable[[Kernel], None], tmp_path: Path) -> None:
    """N-01, W-10: neither a worker, nor what a task had started, nor what workers come from."""
    with Kernel(tmp_path) as kernel:
        kernel.run(BUSY)
        handles = [os.pidfd_open(pid) for pid in kernel.descendants()]
        assert 4 <= len(handles)
        end(kernel)
        for handle in handles:
            assert select.select([handle], [], [], SOON)[0], "a process is left"
            os.close(handle)
