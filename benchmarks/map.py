"""How many items of a map a second, when the function does nothing: what it costs to send many and to get them in order.

Ours runs each item as a task of its own, with both of its events observed on the bus by one subscriber and counted; the
peers send 64 items to a message where they can, and stream nothing. TaskExecutor.map sends chunks, too: one task, and two
events, for 64 items.

All get the same items, again and again until `seconds` are over, as the fastest are done in some hundredths of a second. The
clock runs while results are fetched and, for ours, until every event is delivered; not while the pool starts, and not
while the results are checked.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.figures import at_least
from benchmarks.handlers import noop
from benchmarks.harness import OURS, Benchmark, Contender, Row
from benchmarks.peers import CHUNK, WORKERS, open_peer

if TYPE_CHECKING:
    from rxtasks import TaskEvent, TaskService

__all__ = ["BENCHMARK", "counted", "executor", "imap", "ours", "ours_chunked", "peer", "pool_map"]

_WARM_UP = 500

_POOL = f"Pool.imap_unordered({CHUNK})"
_EXECUTOR = f"ProcessPoolExecutor.map({CHUNK})"
_CHUNKED = f"TaskExecutor.map({CHUNK})"

#: Returns the results for the numbers below a count.
Pass = Callable[[int], list[int]]


def ours(items: int, seconds: float) -> dict[str, float]:
    """Subscribe to TaskService.map; two events an item."""
    from reactivex import operators as ops

    from rxtasks import TaskService

    with TaskService(workers=WORKERS) as service:
        service.start()
        with counted(service, lambda count: 2 * count) as every_event:
            return _rate(
                every_event(lambda count: list(service.map(noop, range(count)).pipe(ops.to_list()).run())),
                items,
                seconds,
            )


def ours_chunked(items: int, seconds: float) -> dict[str, float]:
    """Pull the results of TaskExecutor.map(chunksize=64); two events a chunk."""
    from rxtasks.futures.executor import TaskExecutor

    with (
        TaskExecutor(WORKERS) as pool,
        counted(pool.service, lambda count: 2 * -(-count // CHUNK)) as every_event,
    ):
        return _rate(every_event(lambda count: list(pool.map(noop, range(count), chunksize=CHUNK))), items, seconds)


@contextmanager
def counted(service: TaskService, events: Callable[[int], int]) -> Iterator[Callable[[Pass], Pass]]:
    """Observe the bus; what is given turns a pass into one that ends when all its events, and no others, were seen."""
    seen = 0

    def count_one(event: TaskEvent) -> None:
        nonlocal seen
        seen += 1

    def every_event(run: Pass) -> Pass:
        def run_and_count(count: int) -> list[int]:
            nonlocal seen
            seen = 0
            results = run(count)
            service.flush(60)
            if seen != events(count):
                raise AssertionError(f"{seen} events observed of {count} items, not {events(count)}")
            return results

        return run_and_count

    with service.events.subscribe(count_one):
        yield every_event


def imap(items: int, seconds: float, chunksize: int) -> dict[str, float]:
    """Pull the results of multiprocessing.Pool.imap_unordered."""
    with multiprocessing.Pool(WORKERS) as pool:
        return _rate(lambda count: list(pool.imap_unordered(noop, range(count), chunksize)), items, seconds)


def pool_map(items: int, seconds: float) -> dict[str, float]:
    """Call multiprocessing.Pool.map, which sends 4 chunks to each worker."""
    with multiprocessing.Pool(WORKERS) as pool:
        return _rate(lambda count: pool.map(noop, range(count)), items, seconds)


def executor(items: int, seconds: float) -> dict[str, float]:
    """Pull the results of ProcessPoolExecutor.map(chunksize=64) with the platform's default start method."""
    with ProcessPoolExecutor(WORKERS) as pool:
        return _rate(lambda count: list(pool.map(noop, range(count), chunksize=CHUNK)), items, seconds)


def peer(items: int, seconds: float, name: str) -> dict[str, float]:
    """Run the items through a peer of peers.py, 64 at a time."""
    with open_peer(name) as other:
        chunked = other.chunked
        if chunked is None:
            raise ValueError(f"{name} cannot send several tasks at once")
        return _rate(lambda count: chunked(noop, count), items, seconds)


def _rate(run: Pass, items: int, seconds: float) -> dict[str, float]:
    """Return items a second over whole passes, at least one, until `seconds` have been measured; after a warm-up."""
    run(_WARM_UP)
    measured, passes = 0.0, 0
    while not passes or measured < seconds:
        began = time.perf_counter()
        results = run(items)
        measured += time.perf_counter() - began
        passes += 1
        if sorted(results) != list(range(items)):
            raise AssertionError("the results are not those of the items")
    return {"items_per_s": passes * items / measured}


#: As the table names them, and their names in peers.py.
_PEERS = {
    f"loky.map({CHUNK})": "loky",
    f"Pebble.map({CHUNK})": "pebble",
    f"mpire.imap_unordered({CHUNK})": "mpire",
    f"joblib.Parallel({CHUNK})": "joblib",
}

BENCHMARK = Benchmark(
    name="map",
    question="items of a map of a no-op a second, 2 workers; ours with two events observed for each item",
    contenders=(
        Contender(OURS, "benchmarks.map:ours"),
        Contender(_POOL, "benchmarks.map:imap", {"chunksize": CHUNK}),
        Contender("Pool.imap_unordered(1)", "benchmarks.map:imap", {"chunksize": 1}),
        Contender("Pool.map", "benchmarks.map:pool_map"),
        Contender(_EXECUTOR, "benchmarks.map:executor"),
        Contender(_CHUNKED, "benchmarks.map:ours_chunked"),
        *(Contender(label, "benchmarks.map:peer", {"name": name}, needs=name) for label, name in _PEERS.items()),
    ),
    rows=(
        Row("items/s", "items_per_s", peer=_POOL, bar=at_least(0.5)),
        Row("items/s", "items_per_s", peer="Pool.imap_unordered(1)"),
        Row("items/s", "items_per_s", peer="Pool.map"),
        Row("items/s", "items_per_s", peer=_EXECUTOR),
        *(Row("items/s", "items_per_s", peer=label) for label in _PEERS),
        Row(f"{_CHUNKED} items/s", "items_per_s", ours=_CHUNKED, peer=_POOL),
        Row(f"{_CHUNKED} items/s", "items_per_s", ours=_CHUNKED, peer=_EXECUTOR),
        Row("service.map beside it", "items_per_s", peer=_CHUNKED),
    ),
    full={"items": 50_000, "seconds": 1.0},
    quick={"items": 2_000, "seconds": 0.0},
)
