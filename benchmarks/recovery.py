"""How long from the death of a busy worker until its task runs again: beside an idle worker, and where one must start."""

from __future__ import annotations

import os
import queue
import signal
import statistics
import time

from benchmarks.figures import at_most
from benchmarks.handlers import die_once, run_once_killed
from benchmarks.harness import Benchmark, Contender, Row

__all__ = ["BENCHMARK", "deaths", "ours"]

#: Ways of dying by one's own hand, as handlers.die_once knows them.
_WAYS = {
    "kill": "SIGKILL",
    "exit": "os._exit(0)",
    "thread": "exit in a thread",
    "abort": "abort()",
    "segfault": "segfault",
    "terminate": "SIGTERM",
    "replace": "exec",
}


def ours(workers: int, kills: int) -> dict[str, float]:
    """Kill the worker of `kills` tasks, one after the other."""
    from rxtasks import StatusEvent, TaskEvent, TaskService

    running: queue.SimpleQueue[tuple[float, str | None]] = queue.SimpleQueue()

    def observe(event: TaskEvent) -> None:
        if isinstance(event, StatusEvent) and event.status == "running":
            running.put((time.perf_counter(), event.worker_id))

    milliseconds = []
    with TaskService(workers=workers, echo=None) as service:
        service.start()
        service.events.subscribe(observe)
        for _ in range(kills):
            tracker = service.submit(run_once_killed)
            _, worker_id = running.get(timeout=60)
            (pid,) = (worker.pid for worker in service.workers() if worker.worker_id == worker_id)
            assert pid is not None
            killed = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            again, _ = running.get(timeout=60)
            milliseconds.append((again - killed) * 1000)
            if tracker.result(60) != 2:
                raise AssertionError("the task did not run a second time")
    return {"median_ms": statistics.median(milliseconds), "highest_ms": max(milliseconds)}


def deaths(kills: int) -> dict[str, float]:
    """Let `kills` tasks bring their worker down in each way, beside an idle one."""
    from rxtasks import StatusEvent, TaskEvent, TaskService

    running: queue.SimpleQueue[tuple[float, int]] = queue.SimpleQueue()

    def observe(event: TaskEvent) -> None:
        if isinstance(event, StatusEvent) and event.status == "running":
            running.put((time.perf_counter(), event.attempt))

    medians = {}
    with TaskService(workers=2, echo=None) as service:
        service.start()
        service.events.subscribe(observe)
        for way in _WAYS:
            milliseconds = []
            for _ in range(kills):
                tracker = service.submit(die_once, way)
                # It dies as soon as it is known to run.
                died, _ = running.get(timeout=60)
                again, attempt = running.get(timeout=60)
                if (attempt, tracker.result(60), service.get(tracker.task_id).crashes) != (2, 2, 1):
                    raise AssertionError(f"{way}: the task did not crash once")
                milliseconds.append((again - died) * 1000)
            medians[way] = statistics.median(milliseconds)
    return medians


BENCHMARK = Benchmark(
    name="recovery",
    question="death of a busy worker to its task running again",
    contenders=(
        Contender("beside an idle worker", "benchmarks.recovery:ours", {"workers": 2}),
        Contender("the only worker", "benchmarks.recovery:ours", {"workers": 1}),
        Contender("by itself", "benchmarks.recovery:deaths"),
    ),
    rows=(
        Row("beside an idle worker", "median_ms", ours="beside an idle worker", bar=at_most(1000, 150), unit="ms"),
        Row("the only worker", "median_ms", ours="the only worker", bar=at_most(1000), unit="ms"),
        *(Row(said, way, ours="by itself", bar=at_most(1000, 150), unit="ms") for way, said in _WAYS.items()),
    ),
    full={"kills": 5},
    quick={"kills": 1},
)
