"""How long a stop takes: of idle pools, small and large, and by force of one that holds the interpreter in C code."""

from __future__ import annotations

import ctypes
import time

from benchmarks.figures import at_most
from benchmarks.harness import Benchmark, Contender, Row

__all__ = ["BENCHMARK", "ours"]


def hold(seconds: int) -> None:
    """Keep the interpreter to itself."""
    ctypes.PyDLL(None).sleep(seconds)


def ours(workers: int, busy: bool, stops: int) -> dict[str, float]:
    """Start and stop `stops` pools; return the longest stop."""
    from rxtasks import TaskService

    milliseconds = []
    for _ in range(stops):
        service = TaskService(workers=workers, echo=None)
        service.start()
        trackers = [service.submit(hold, 600) for _ in range(workers if busy else 0)]
        end = time.monotonic() + 60
        while service.status().busy < len(trackers):
            if time.monotonic() > end:
                raise AssertionError("not every worker is busy")
            time.sleep(0.005)
        began = time.perf_counter()
        service.stop(force=busy)
        milliseconds.append((time.perf_counter() - began) * 1000)
    return {"highest_ms": max(milliseconds)}


BENCHMARK = Benchmark(
    name="stop",
    question="stop() to its return",
    contenders=(
        Contender("idle, 4 workers", "benchmarks.stop:ours", {"workers": 4, "busy": False}),
        Contender("idle, 100 workers", "benchmarks.stop:ours", {"workers": 100, "busy": False}),
        Contender("force, 4 in C code", "benchmarks.stop:ours", {"workers": 4, "busy": True}),
    ),
    rows=(
        Row("idle, 4 workers", "highest_ms", ours="idle, 4 workers", bar=at_most(1000), unit="ms"),
        Row("idle, 100 workers", "highest_ms", ours="idle, 100 workers", bar=at_most(5000), unit="ms"),
        Row("force, 4 in C code", "highest_ms", ours="force, 4 in C code", bar=at_most(1000), unit="ms"),
    ),
    full={"stops": 3},
    quick={"stops": 1},
    max_runs=2,
)
