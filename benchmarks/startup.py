"""How long until a pool is ready, and until the first result; imports are measured by themselves (imports.py)."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor

from benchmarks.figures import at_most
from benchmarks.handlers import noop
from benchmarks.harness import Benchmark, Contender, Row

__all__ = ["BENCHMARK", "executor", "ours"]


def ours(workers: int) -> dict[str, float]:
    """Start a TaskService, fetch a first result, add a worker, and stop."""
    from rxtasks import TaskService, WorkerEvent

    began = time.perf_counter()
    service = TaskService(workers=workers)
    service.start()
    ready = time.perf_counter()
    service.submit(noop, 1).result(60)
    first = time.perf_counter()
    more = threading.Event()

    def see(event: WorkerEvent) -> None:
        if event.kind == "ready":
            more.set()

    service.pool.subscribe(see)
    asked = time.perf_counter()
    service.scale(workers + 1)
    if not more.wait(60):
        raise AssertionError("no worker was added")
    added = time.perf_counter()
    service.stop()
    stopped = time.perf_counter()
    return {
        "ready_ms": (ready - began) * 1000,
        "first_result_ms": (first - began) * 1000,
        "more_ms": (added - asked) * 1000,
        "stop_ms": (stopped - added) * 1000,
    }


def executor(method: str, workers: int = 2) -> dict[str, float]:
    """Fetch a first result from a new ProcessPoolExecutor whose processes start by `method`."""
    began = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method)) as peer:
        peer.submit(noop, 1).result(60)
        return {"first_result_ms": (time.perf_counter() - began) * 1000}


BENCHMARK = Benchmark(
    name="startup",
    question="start to ready, and to the first result",
    contenders=(
        Contender("2 workers", "benchmarks.startup:ours", {"workers": 2}),
        Contender("1 worker", "benchmarks.startup:ours", {"workers": 1}),
        Contender("8 workers", "benchmarks.startup:ours", {"workers": 8}),
        Contender("PPE, spawn", "benchmarks.startup:executor", {"method": "spawn"}),
        Contender("PPE, forkserver", "benchmarks.startup:executor", {"method": "forkserver"}),
    ),
    rows=(
        Row("2 workers ready", "ready_ms", ours="2 workers", bar=at_most(300, 60), unit="ms"),
        Row("1 worker ready", "ready_ms", ours="1 worker", bar=at_most(300, 60), unit="ms"),
        Row("8 workers ready", "ready_ms", ours="8 workers", unit="ms"),
        Row("one more worker", "more_ms", ours="2 workers", bar=at_most(100, 60), unit="ms"),
        Row("first result", "first_result_ms", ours="2 workers", peer="PPE, spawn", unit="ms"),
        Row("first result", "first_result_ms", ours="2 workers", peer="PPE, forkserver", unit="ms"),
        Row("stop of an idle pool", "stop_ms", ours="2 workers", bar=at_most(1000), unit="ms"),
    ),
    full={},
    quick={},
    warm_up=True,
)
