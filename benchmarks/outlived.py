"""How long what handlers have left outlives the caller's process after its SIGKILL; and its worker after that one's."""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import at_most
from benchmarks.harness import Benchmark, Contender, Row

__all__ = ["BENCHMARK", "ours", "parent"]

_ROOT = str(Path(__file__).resolve().parent.parent)
_PROGRAM = "import sys; from benchmarks.outlived import parent; parent(sys.argv[1], int(sys.argv[2]))"


def leave(kind: str) -> None:
    """Leave processes of this kind behind, and stay."""
    from rxtasks import current_task

    if kind == "daemons":
        for _ in range(5):
            subprocess.run(["sh", "-c", "setsid sleep 1000 > /dev/null 2>&1 &"], check=True)
    elif kind == "stopped":
        for _ in range(5):
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            os.kill(child.pid, signal.SIGSTOP)
        signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65))
    context = current_task()
    assert context is not None
    context.emit("here")
    time.sleep(1000)


def parent(kind: str, workers: int) -> None:
    """Run in the process that is killed: say when every worker is busy and has left what it leaves."""
    import threading

    from rxtasks import OutputEvent, TaskService

    left = threading.Semaphore(0)
    service = TaskService(workers=workers, echo=None)
    service.events.subscribe(lambda event: left.release() if isinstance(event, OutputEvent) else None)
    for _ in range(workers):
        service.submit(leave, kind)
    for _ in range(workers):
        left.acquire()
    print(json.dumps([info.pid for info in service.workers()]), flush=True)
    threading.Event().wait()


def ours(kind: str, workers: int, kills: int) -> dict[str, float]:
    """Kill the callers of `kills` services, one after the other."""
    from rxtasks.worker.children import descendants

    milliseconds = []
    for _ in range(kills):
        command = [sys.executable, "-c", _PROGRAM, kind, str(workers)]
        caller = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_ROOT)
        assert caller.stdout is not None
        pids = json.loads(caller.stdout.readline())
        below = [os.pidfd_open(pid) for pid in descendants(caller.pid)]
        if len(below) <= len(pids):
            raise AssertionError(f"{len(below)} processes are no guardian and {len(pids)} workers")
        poll = select.poll()
        for pidfd in below:
            poll.register(pidfd, select.POLLIN)
        began = time.perf_counter()
        caller.kill()
        alive = set(below)
        while alive:
            for pidfd, _ in poll.poll(60_000):
                poll.unregister(pidfd)
                alive.discard(pidfd)
            if time.perf_counter() - began > 60:
                raise AssertionError(f"{len(alive)} of {len(below)} processes outlive their caller")
        milliseconds.append((time.perf_counter() - began) * 1000)
        caller.communicate()
        for pidfd in below:
            os.close(pidfd)
    return {"median_ms": statistics.median(milliseconds), "highest_ms": max(milliseconds)}


_KINDS = {"2 busy workers": ("nothing", 2), "with 10 daemons": ("daemons", 2), "with 10 stopped, deaf": ("stopped", 2)}

BENCHMARK = Benchmark(
    name="outlived",
    question="SIGKILL of the caller to the end of everything that descends from it",
    contenders=tuple(
        Contender(name, "benchmarks.outlived:ours", {"kind": kind, "workers": workers})
        for name, (kind, workers) in _KINDS.items()
    ),
    rows=tuple(Row(name, "highest_ms", ours=name, bar=at_most(2000), unit="ms") for name in _KINDS),
    full={"kills": 5},
    quick={"kills": 1},
)
