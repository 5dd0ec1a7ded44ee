"""How long the caller's event loop is held while workers are busy: the lag of a coroutine that asks for 1 ms of sleep.

The loop submits, awaits and iterates over every event meanwhile; the workers run tasks that emit. Beside it the same
loop over loop.run_in_executor with a ProcessPoolExecutor, which has nothing to iterate over.

The longest lags are full collections of Python's garbage collector, 15 to 45 ms over the modules that are loaded. An
application that minds calls gc.freeze() when it has started; measured too, as what rxtasks itself adds.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor

from benchmarks.figures import at_most, percentile
from benchmarks.handlers import emit_rows, noop
from benchmarks.harness import OURS, Benchmark, Contender, Row

__all__ = ["BENCHMARK", "executor", "frozen", "ours"]

_FROZEN = "rxtasks, gc.freeze()"
_WORKERS = 4
_TICK = 0.001
#: Tasks awaited at a time, and outputs of each of the tasks that emit.
_TOGETHER = 20
_ROWS = 50


def ours(seconds: float) -> dict[str, float]:
    """A service used from the loop: submit, await and aiterate."""
    return asyncio.run(_ours(seconds))


async def _ours(seconds: float) -> dict[str, float]:
    from rxtasks import TaskService, aiterate

    async with TaskService(workers=_WORKERS, echo=None) as service:
        service.start()
        seen = 0

        async def watch() -> None:
            nonlocal seen
            async with aiterate(service.events) as events:
                async for _ in events:
                    seen += 1

        async def work() -> None:
            emitting = [service.submit(emit_rows, _ROWS) for _ in range(_WORKERS)]
            for tracker in [service.submit(noop, number) for number in range(_TOGETHER)] + emitting:
                await tracker

        watching = asyncio.create_task(watch())
        figures = await _lags(seconds, work)
        watching.cancel()
    if not seen:
        raise AssertionError("no event was seen")
    return figures


def frozen(seconds: float) -> dict[str, float]:
    """The same in an application that has called gc.freeze() at its start."""
    importlib.import_module("rxtasks.engine.engine")  # what a first submit would load
    gc.collect()
    gc.freeze()
    return ours(seconds)


def executor(seconds: float) -> dict[str, float]:
    """The same loop with run_in_executor; without the tasks that emit."""
    return asyncio.run(_executor(seconds))


async def _executor(seconds: float) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(_WORKERS) as peer:

        async def work() -> None:
            await asyncio.gather(*(loop.run_in_executor(peer, noop, number) for number in range(_TOGETHER)))

        return await _lags(seconds, work)


async def _lags(seconds: float, work: Callable[[], Awaitable[None]]) -> dict[str, float]:
    await work()  # warm
    lags: list[float] = []
    rounds = 0

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_TICK)
            lags.append((time.perf_counter() - began - _TICK) * 1000)

    ticking = asyncio.create_task(tick())
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        await work()
        rounds += 1
    ticking.cancel()
    return {"p50_ms": percentile(lags, 50), "p99_ms": percentile(lags, 99), "max_ms": max(lags), "rounds": rounds}


BENCHMARK = Benchmark(
    name="responsive",
    question="lag of the caller's event loop while workers are busy (E-18)",
    contenders=(
        Contender(OURS, "benchmarks.responsive:ours"),
        Contender(_FROZEN, "benchmarks.responsive:frozen"),
        Contender("run_in_executor, PPE", "benchmarks.responsive:executor"),
    ),
    rows=(
        Row("p50", "p50_ms", peer="run_in_executor, PPE", unit="ms"),
        Row("p99", "p99_ms", peer="run_in_executor, PPE", unit="ms"),
        Row("longest", "max_ms", unit="ms"),
        Row("longest, gc.freeze()", "max_ms", ours=_FROZEN, bar=at_most(20), unit="ms"),
    ),
    full={"seconds": 5.0},
    quick={"seconds": 0.3},
)
