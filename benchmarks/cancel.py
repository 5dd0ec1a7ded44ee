"""How long a cancel takes: until it is acknowledged, and until a handler that heeds it has ended."""

from __future__ import annotations

import contextlib
import queue
import statistics
import time

from benchmarks.figures import at_most
from benchmarks.handlers import heed, heed_async
from benchmarks.harness import Benchmark, Contender, Row

__all__ = ["BENCHMARK", "ours"]


def ours(kind: str, cancels: int) -> dict[str, float]:
    """Cancel `cancels` handlers, one after the other, each a while after it has begun."""
    from rxtasks import OutputEvent, TaskCancelled, TaskEvent, TaskService

    here: queue.SimpleQueue[str] = queue.SimpleQueue()

    def observe(event: TaskEvent) -> None:
        if isinstance(event, OutputEvent):
            here.put(event.task_id)

    acknowledged, ended = [], []
    with TaskService(workers=2, echo=None) as service:
        service.start()
        service.events.subscribe(observe)
        for _ in range(cancels):
            tracker = service.submit(heed if kind == "sync" else heed_async)
            here.get(timeout=60)
            began = time.perf_counter()
            if not tracker.cancel():
                raise AssertionError("the task had ended")
            acknowledged.append((time.perf_counter() - began) * 1000)
            with contextlib.suppress(TaskCancelled):
                tracker.result(60)
                raise AssertionError("the task was not cancelled")
            ended.append((time.perf_counter() - began) * 1000)
    return {
        "acknowledged_ms": statistics.median(acknowledged),
        "slowest_ms": max(acknowledged),
        "ended_ms": statistics.median(ended),
        "last_ms": max(ended),
    }


BENCHMARK = Benchmark(
    name="cancel",
    question="cancel of a running task to its acknowledgement, and to its end",
    contenders=(
        Contender("sync", "benchmarks.cancel:ours", {"kind": "sync"}),
        Contender("async", "benchmarks.cancel:ours", {"kind": "async"}),
    ),
    rows=(
        Row("acknowledged, median", "acknowledged_ms", ours="sync", bar=at_most(50), unit="ms"),
        Row("acknowledged, slowest", "slowest_ms", ours="sync", unit="ms"),
        Row("ended, looks every 5 ms", "ended_ms", ours="sync", bar=at_most(200), unit="ms"),
        Row("ended, slowest", "last_ms", ours="sync", unit="ms"),
        Row("ended, async", "ended_ms", ours="async", bar=at_most(200), unit="ms"),
    ),
    full={"cancels": 50},
    quick={"cancels": 2},
)
