"""How long from submit to result, one task at a time, with the pool warm and every event observed.

Peers that have to be installed make fewer trips where they are slow (peers.py).
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from benchmarks.figures import at_most, percentile
from benchmarks.handlers import noop
from benchmarks.harness import OURS, Benchmark, Contender, Row
from benchmarks.peers import PEER_LABELS, open_peer, peer_contenders

__all__ = ["BENCHMARK", "executor", "ours", "peer", "pool"]

_WORKERS = 2
_WARM_UP = 100


def ours(tasks: int) -> dict[str, float]:
    """Submit to a TaskService and wait for tracker.result()."""
    from rxtasks import TaskService

    with TaskService(workers=_WORKERS) as service:
        service.start()
        service.events.subscribe(lambda event: None)
        return _trips(tasks, lambda number: service.submit(noop, number).result(60))


def executor(tasks: int) -> dict[str, float]:
    """Submit to a ProcessPoolExecutor and wait for future.result()."""
    with ProcessPoolExecutor(_WORKERS) as peer:
        return _trips(tasks, lambda number: peer.submit(noop, number).result(60))


def pool(tasks: int) -> dict[str, float]:
    """Pool.apply_async and get()."""
    with multiprocessing.Pool(_WORKERS) as peer:
        return _trips(tasks, lambda number: peer.apply_async(noop, (number,)).get(60))


def peer(tasks: int, name: str) -> dict[str, float]:
    """Submit to a peer of peers.py and wait for the result."""
    with open_peer(name) as other:
        return _trips(max(1, tasks // other.fewer_trips), lambda number: other.trip(noop, number))


def _trips(tasks: int, trip: Callable[[int], int]) -> dict[str, float]:
    for number in range(min(_WARM_UP, tasks)):
        trip(number)
    clock = time.perf_counter_ns
    microseconds = []
    for number in range(tasks):
        began = clock()
        result = trip(number)
        microseconds.append((clock() - began) / 1000)
        if result != number:
            raise AssertionError(f"task {number} gave {result!r}")
    return {"p50_us": percentile(microseconds, 50), "p99_us": percentile(microseconds, 99)}


BENCHMARK = Benchmark(
    name="latency",
    question="submit to result of a no-op, one at a time",
    contenders=(
        Contender(OURS, "benchmarks.latency:ours"),
        Contender("ProcessPoolExecutor", "benchmarks.latency:executor"),
        Contender("Pool.apply_async", "benchmarks.latency:pool"),
        *peer_contenders("benchmarks.latency:peer"),
    ),
    rows=(
        Row("p50", "p50_us", peer="ProcessPoolExecutor", bar=at_most(0.6, 0.45), unit="us"),
        Row("p99", "p99_us", peer="ProcessPoolExecutor", bar=at_most(1.0), unit="us"),
        Row("p50", "p50_us", peer="Pool.apply_async", unit="us"),
        Row("p99", "p99_us", peer="Pool.apply_async", unit="us"),
        *(Row("p50", "p50_us", peer=label, unit="us") for label in PEER_LABELS),
    ),
    full={"tasks": 5_000},
    quick={"tasks": 200},
)
