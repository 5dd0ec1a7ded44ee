"""What a pool of four costs while nothing is asked of it: CPU of the whole process tree, heartbeats included."""

from __future__ import annotations

import os
import time

from benchmarks.figures import at_most
from benchmarks.handlers import noop
from benchmarks.harness import OURS, Benchmark, Contender, Row
from benchmarks.procfs import cpu_seconds, tree

__all__ = ["BENCHMARK", "ours"]


def ours(seconds: float, settle: float) -> dict[str, float]:
    """Let a pool that has worked be idle for `seconds`."""
    from rxtasks import TaskService

    with TaskService(workers=4) as service:
        service.start()
        service.events.subscribe(lambda event: None)
        for tracker in [service.submit(noop, number) for number in range(100)]:
            tracker.result(60)
        time.sleep(settle)
        pids = tree(os.getpid())
        before, began = cpu_seconds(pids), time.perf_counter()
        time.sleep(seconds)
        used, elapsed = cpu_seconds(pids) - before, time.perf_counter() - began
    if len(pids) < 5:
        raise AssertionError(f"{len(pids)} processes are no parent and four workers")
    return {"cpu_percent": 100 * used / elapsed}


BENCHMARK = Benchmark(
    name="idle",
    question="CPU of an idle pool of four, percent of one core",
    contenders=(Contender(OURS, "benchmarks.idle:ours"),),
    rows=(Row("idle pool of 4", "cpu_percent", bar=at_most(1, 0.2), unit="% of a core"),),
    full={"seconds": 12.0, "settle": 1.0},
    quick={"seconds": 1.0, "settle": 0.2},
)
