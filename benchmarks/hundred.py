"""A hundred workers and ten thousand tasks in one pool (W-15), and what a heartbeat costs (W-06)."""

from __future__ import annotations

import os
import time

from benchmarks.figures import at_most
from benchmarks.handlers import noop
from benchmarks.harness import Benchmark, Contender, Row
from benchmarks.procfs import cpu_seconds, proportional_bytes, tree

__all__ = ["BENCHMARK", "heartbeat", "pool"]

#: Seconds between the heartbeats that are measured, and between those of a pool as it comes.
_OFTEN = 0.1
_USUAL = 5.0


def pool(workers: int, tasks: int, seconds: float) -> dict[str, float]:
    """Start so many workers, run so many tasks, be idle for `seconds`, and stop."""
    from rxtasks import TaskService

    began = time.perf_counter()
    service = TaskService(workers=workers)
    service.start()
    ready = time.perf_counter()
    for tracker in [service.submit(noop, number) for number in range(tasks)]:
        tracker.result(120)
    ran = time.perf_counter()
    pids = tree(os.getpid())
    infos = service.workers()
    if len(infos) != workers:
        raise AssertionError(f"{len(infos)} workers are not {workers}")
    memory = sum(proportional_bytes(info.pid or 0) for info in infos) / workers
    before, idle = cpu_seconds(pids), time.perf_counter()
    time.sleep(seconds)
    used, elapsed = cpu_seconds(pids) - before, time.perf_counter() - idle
    stop = time.perf_counter()
    report = service.stop()
    stopped = time.perf_counter()
    if report.unfinished:
        raise AssertionError(f"{len(report.unfinished)} tasks were cut off")
    return {
        "ready_ms": (ready - began) * 1000,
        "tasks_s": tasks / (ran - ready),
        "idle_mb": memory / 2**20,
        "idle_percent": 100 * used / elapsed,
        "each_percent": 100 * used / elapsed / workers,
        "stop_ms": (stopped - stop) * 1000,
    }


def heartbeat(workers: int, seconds: float, tasks: int = 0) -> dict[str, float]:
    """Have so many idle workers beat often; what all processes take for one beat of one worker, the look at it included."""
    from rxtasks import TaskService

    beats = 0

    def see(event: object) -> None:
        nonlocal beats
        beats += getattr(event, "kind", "") == "heartbeat"

    with TaskService(workers=workers, heartbeat=_OFTEN) as service:
        service.pool.subscribe(see)
        service.start()
        pids = tree(os.getpid())
        before, counted = cpu_seconds(pids), beats
        time.sleep(seconds)
        used, heard = cpu_seconds(pids) - before, beats - counted
    if heard < workers:
        raise AssertionError(f"{heard} heartbeats of {workers} workers")
    return {"beat_ms": 1000 * used / heard, "beat_percent": 100 * used / heard / _USUAL}


BENCHMARK = Benchmark(
    name="hundred",
    question="100 workers and 10,000 tasks; what a heartbeat costs",
    contenders=(
        Contender("100 workers", "benchmarks.hundred:pool", {"workers": 100}),
        Contender("4 workers", "benchmarks.hundred:pool", {"workers": 4}),
        Contender("heartbeats", "benchmarks.hundred:heartbeat", {"workers": 4}),
    ),
    rows=(
        Row("100 workers ready", "ready_ms", ours="100 workers", unit="ms"),
        Row("10,000 tasks, tasks/s", "tasks_s", ours="100 workers", peer="4 workers"),
        Row("PSS of an idle worker", "idle_mb", ours="100 workers", peer="4 workers", unit="MB"),
        Row("idle pool of 100", "idle_percent", ours="100 workers", unit="% of a core"),
        Row("each of its workers", "each_percent", ours="100 workers", bar=at_most(1), unit="% of a core"),
        Row("stop of an idle 100", "stop_ms", ours="100 workers", bar=at_most(5000), unit="ms"),
        Row("stop of an idle 4", "stop_ms", ours="4 workers", bar=at_most(1000), unit="ms"),
        Row("a heartbeat's CPU", "beat_ms", ours="heartbeats", bar=at_most(10), unit="ms"),
        Row("one each 5 s", "beat_percent", ours="heartbeats", bar=at_most(1), unit="% of a core"),
    ),
    full={"tasks": 10_000, "seconds": 8.0},
    quick={"tasks": 300, "seconds": 1.0},
    max_runs=3,
)
