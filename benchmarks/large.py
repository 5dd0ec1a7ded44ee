"""How fast a large numpy array reaches a worker and comes back, and what put() saves where many tasks need the same one.

An argument is timed from its submit until the result is there, a result likewise; whoever gets the array reads all of it
(its sum), on every side, because mapped memory costs when it is read. Beside a ProcessPoolExecutor, and one copy in
memory: numpy.copyto into new memory, which is read too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from benchmarks.figures import at_least
from benchmarks.harness import OURS, Benchmark, Contender, Row

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BENCHMARK", "copy", "executor", "make", "ours", "shared", "total"]

_WORKERS = 2
_PEER = "ProcessPoolExecutor"
_COPY = "numpy.copyto"
_EACH = "sent each time"


def total(array: np.ndarray[Any, Any]) -> float:
    """Read the whole array."""
    return float(array.sum())


def make(numbers: int) -> np.ndarray[Any, Any]:
    """Return an array of so many numbers."""
    import numpy as np

    return np.ones(numbers)


def ours(megabytes: int, repeats: int, tasks: int) -> dict[str, float]:
    """Send and fetch through a TaskService; then `tasks` tasks with one array that was put."""
    from rxtasks import TaskService

    with TaskService(workers=_WORKERS, echo=None) as service:
        service.start()
        figures = _figures(lambda fn, value: service.submit(fn, value).result(120), megabytes, repeats)

        def share(array: np.ndarray[Any, Any]) -> list[float]:
            with service.put(array) as handle:
                return [t.result(120) for t in [service.submit(total, handle) for _ in range(tasks)]]

        return {**figures, **_shared(share, megabytes, tasks)}


def shared(megabytes: int, repeats: int, tasks: int) -> dict[str, float]:
    """The tasks with one array, which each of them is sent."""
    from rxtasks import TaskService

    with TaskService(workers=_WORKERS, echo=None) as service:
        service.start()

        def send(array: np.ndarray[Any, Any]) -> list[float]:
            return [service.submit(total, array).result(120) for _ in range(tasks)]

        return _shared(send, megabytes, tasks)


def executor(megabytes: int, repeats: int, tasks: int) -> dict[str, float]:
    """Send and fetch through a ProcessPoolExecutor with the platform's default start method."""
    with ProcessPoolExecutor(_WORKERS) as peer:

        def send(array: np.ndarray[Any, Any]) -> list[float]:
            return [peer.submit(total, array).result(120) for _ in range(tasks)]

        figures = _figures(lambda fn, value: peer.submit(fn, value).result(120), megabytes, repeats)
        return {**figures, **_shared(send, megabytes, tasks)}


def copy(megabytes: int, repeats: int, tasks: int) -> dict[str, float]:
    """Copy once in memory."""
    import numpy as np

    def call(function: Callable[[Any], Any], value: Any) -> Any:
        if function is make:
            value = make(value)
        copied = np.empty_like(value)
        np.copyto(copied, value)
        return copied if function is make else function(copied)

    return _figures(call, megabytes, repeats)


def _figures(call: Callable[[Callable[[Any], Any], Any], Any], megabytes: int, repeats: int) -> dict[str, float]:
    """Return MB/s of an argument and of a result; the first round is not counted."""
    numbers = megabytes * 1_000_000 // 8
    array = make(numbers)
    down, up = [], []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        answer = call(total, array)
        down.append(time.perf_counter() - began)
        began = time.perf_counter()
        came = total(call(make, numbers))
        up.append(time.perf_counter() - began)
        if not answer == came == numbers:
            raise AssertionError(f"sums of {answer} and {came}, not {numbers}")
    return {
        "argument_mb_per_s": megabytes / statistics.median(down[1:]),
        "result_mb_per_s": megabytes / statistics.median(up[1:]),
    }


def _shared(run: Callable[[np.ndarray[Any, Any]], list[float]], megabytes: int, tasks: int) -> dict[str, float]:
    numbers = megabytes * 1_000_000 // 8
    array = make(numbers)
    began = time.perf_counter()
    answers = run(array)
    seconds = time.perf_counter() - began
    if answers != [numbers] * tasks:
        raise AssertionError("a task got another array")
    return {"shared_tasks_per_s": tasks / seconds}


BENCHMARK = Benchmark(
    name="large",
    question="arrays of 100 MB as argument, as result, and one that was put for many tasks",
    contenders=(
        Contender(OURS, "benchmarks.large:ours"),
        Contender(_PEER, "benchmarks.large:executor"),
        Contender(_COPY, "benchmarks.large:copy"),
        Contender(_EACH, "benchmarks.large:shared"),
    ),
    rows=(
        Row("argument MB/s", "argument_mb_per_s", peer=_PEER, bar=at_least(2)),
        Row("argument MB/s", "argument_mb_per_s", peer=_COPY),
        Row("result MB/s", "result_mb_per_s", peer=_PEER, bar=at_least(2)),
        Row("result MB/s", "result_mb_per_s", peer=_COPY),
        Row("put(), tasks/s", "shared_tasks_per_s", peer=_EACH, bar=at_least(2)),
        Row("put(), tasks/s", "shared_tasks_per_s", peer=_PEER),
    ),
    full={"megabytes": 100, "repeats": 5, "tasks": 20},
    quick={"megabytes": 8, "repeats": 1, "tasks": 4},
)
