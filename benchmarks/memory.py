"""How much the parent grows while a million tasks pass through map, every event observed."""

from __future__ import annotations

import os
import time

from benchmarks.figures import at_most
from benchmarks.handlers import noop
from benchmarks.harness import OURS, Benchmark, Contender, Row
from benchmarks.procfs import resident_bytes

__all__ = ["BENCHMARK", "ours"]

_WARM_UP = 2_000
_EVERY = 2_000


def ours(tasks: int) -> dict[str, float]:
    """Map over a generator of `tasks` numbers; the growth is from after the warm-up to the highest sample."""
    from rxtasks import TaskService, iterate

    with TaskService(workers=2) as service:
        service.events.subscribe(lambda event: None)
        with iterate(service.map(noop, range(_WARM_UP))) as results:
            done = sum(1 for _ in results)
        before = highest = resident_bytes(os.getpid())
        began = time.perf_counter()
        with iterate(service.map(noop, (number for number in range(tasks)))) as results:
            for done, value in enumerate(results, 1):
                if value != done - 1:
                    raise AssertionError(f"result {done} is {value!r}")
                if done % _EVERY == 0:
                    highest = max(highest, resident_bytes(os.getpid()))
        seconds = time.perf_counter() - began
    if done != tasks:
        raise AssertionError(f"{done} results of {tasks}")
    return {"growth_mb": (highest - before) / 1e6, "tasks_per_s": tasks / seconds}


BENCHMARK = Benchmark(
    name="memory",
    question="growth of the parent over a million no-op tasks through map",
    contenders=(Contender(OURS, "benchmarks.memory:ours"),),
    rows=(
        Row("growth of the parent", "growth_mb", bar=at_most(50), unit="MB"),
        Row("tasks/s through map", "tasks_per_s"),
    ),
    full={"tasks": 1_000_000},
    quick={"tasks": 20_000},
    max_runs=1,
)
