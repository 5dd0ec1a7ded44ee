"""Handlers that use much, for the tests of limits."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from typing import Any

from rxtasks import TaskContext, task

_MB = 1_000_000


@task
def hoard_until_killed(ctx: TaskContext) -> None:
    """Take 5 MB after the other, and touch it, without end."""
    kept = []
    while True:
        kept.append(os.urandom(1000) * 5000)
        time.sleep(0.005)


def hoard(megabytes: int) -> int:
    """Take so much, and give it back."""
    return len(os.urandom(1000) * (1000 * megabytes)) // _MB


def hoard_and_wait(megabytes: int, path: str, ctx: TaskContext) -> int:
    """Take so much, say so, and keep it until the file exists."""
    kept = os.urandom(1000) * (1000 * megabytes)
    ctx.emit("here")
    while not os.path.exists(path):
        time.sleep(0.002)
    return len(kept) // _MB


def hoard_in_child() -> None:
    """Have a child that takes memory without end."""
    text = "import os, time\nkept = []\nwhile True:\n    kept.append(os.urandom(1000) * 5000); time.sleep(0.005)"
    subprocess.run([sys.executable, "-c", text])
    threading.Event().wait()


def hoard_after_fork(ctx: TaskContext) -> None:
    """Have a daemon of a session of its own that takes memory without end."""
    if os.fork() == 0:
        os.setsid()
        hoard_until_killed(ctx)
    threading.Event().wait()


def write_until_killed(ctx: TaskContext) -> None:
    """Write 2 MB after the other into temp_dir without end."""
    number = 0
    while True:
        number += 1
        (ctx.temp_dir / f"part-{number}").write_bytes(os.urandom(2 * _MB))
        time.sleep(0.005)


def burn_until(path: str, ctx: TaskContext) -> str:
    """Compute until the file exists."""
    ctx.emit("here")
    while not os.path.exists(path):
        sum(range(1000))
    return path


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def data_limit() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_DATA)


def own_groups() -> dict[str, str]:
    """Return this process's control groups, by controller."""
    with open("/proc/self/cgroup") as file:
        return {name: line.split(":")[2].strip() for line in file for name in line.split(":")[1].split(",")}


def total_of(array: Any) -> float:
    return float(array.sum())


def many_threads(count: int) -> int:
    """Start so many threads at once; each reserves 8 MB of address space."""
    go = threading.Event()
    threads = [threading.Thread(target=go.wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    return count
