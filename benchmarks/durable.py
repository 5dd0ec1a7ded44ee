"""What durability costs: no-op tasks through one SQLite file, each on disk before its push returns, all events stored.

The clock runs from the first push until every result is fetched; the events are counted in the file afterwards. Starting
the service is not part of it. Beside us huey on SQLite with two process workers (queues.py), with fsync=True, which is what
SQLite does by default where huey is told nothing, and with fsync=False; and dramatiq on Redis, appendfsync always and
everysec, where a redis-server is installed. Our memory store takes the same ways. The peers run a tenth of the tasks.

Behind it: what a long queue, a restart, and finished tasks cost (durable_backlog.py), what forgetting them costs, and whether
the files stay as long as what is kept (durable_upkeep.py).
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.durable_backlog import LONG_QUEUE, SHORT_QUEUE
from benchmarks.figures import at_least, at_most, percentile
from benchmarks.harness import Benchmark, Contender, Row
from benchmarks.queues import FEWER, WORKERS, Queue, open_dramatiq, open_huey

if TYPE_CHECKING:
    from rxtasks import TaskService, TaskTracker

__all__ = ["BENCHMARK", "batch", "dramatiq", "huey", "mapped", "singles", "trips"]

_THREADS = 8
_WARM_UP = 200
#: Round trips are so many times fewer.
_FEWER_TRIPS = 20


def singles(tasks: int, store: str) -> dict[str, float]:
    """Submit from eight threads, one task at a time."""

    from benchmarks.durable_tasks import stored_noop

    def run(service: TaskService) -> list[int]:
        trackers: list[list[TaskTracker]] = [[] for _ in range(_THREADS)]

        def submit(thread: int) -> None:
            trackers[thread] += [service.submit(stored_noop, number) for number in range(thread, tasks, _THREADS)]

        _in_threads(submit)
        return [tracker.result(120) for one in trackers for tracker in one]

    return _measure(store, tasks, run)


def batch(tasks: int, store: str) -> dict[str, float]:
    """Push all of them at once, through TaskService.push_all."""
    from benchmarks.durable_tasks import stored_noop
    from rxtasks import TaskRequest

    def run(service: TaskService) -> list[int]:
        trackers = service.push_all([TaskRequest(stored_noop, (number,)) for number in range(tasks)])
        return [tracker.result(120) for tracker in trackers]

    return _measure(store, tasks, run)


def mapped(tasks: int, store: str) -> dict[str, float]:
    """Run all of them through TaskService.map, which pushes a few at a time."""
    from reactivex import operators as ops

    from benchmarks.durable_tasks import stored_noop

    return _measure(
        store, tasks, lambda service: list(service.map(stored_noop, range(tasks)).pipe(ops.to_list()).run())
    )


def _measure(store: str, tasks: int, run: Callable[[TaskService], list[int]]) -> dict[str, float]:
    from benchmarks.durable_tasks import stored_noop
    from rxtasks import TaskService

    path = os.path.join(tempfile.mkdtemp(), "tasks.db")
    with TaskService(WORKERS, store="memory" if store == "memory" else f"sqlite:///{path}") as service:
        service.start()
        for tracker in [service.submit(stored_noop, number) for number in range(_WARM_UP)]:
            tracker.result(60)
        began = time.perf_counter()
        results = run(service)
        seconds = time.perf_counter() - began
        if sorted(results) != list(range(tasks)):
            raise AssertionError("the results are not those of the tasks")
        wal = os.path.getsize(path + "-wal") if store != "memory" else 0
    found = {"tasks_per_s": tasks / seconds}
    if store != "memory":
        every = tasks + _WARM_UP
        stored = _events_stored(path)
        if stored != 2 * every:
            raise AssertionError(f"{stored} events stored of {every} tasks; running and succeeded are two each")
        found |= {"bytes_per_task": os.path.getsize(path) / every, "wal_mib": wal / 2**20}
    return found


def _events_stored(path: str) -> int:
    import apsw

    db = apsw.Connection(path)
    try:
        ((stored,),) = db.execute("select sum(last - first + 1) from events").fetchall()
        return int(stored)
    finally:
        db.close()


def trips(tasks: int) -> dict[str, float]:
    """Submit and wait for the result, one task at a time."""
    from benchmarks.durable_tasks import stored_noop
    from rxtasks import TaskService

    path = os.path.join(tempfile.mkdtemp(), "tasks.db")
    milliseconds = []
    with TaskService(WORKERS, store=f"sqlite:///{path}") as service:
        service.start()
        for number in range(_WARM_UP):
            service.submit(stored_noop, number).result(60)
        for number in range(tasks // _FEWER_TRIPS):
            began = time.perf_counter()
            service.submit(stored_noop, number).result(60)
            milliseconds.append((time.perf_counter() - began) * 1000)
    return {"p50_ms": percentile(milliseconds, 50), "p99_ms": percentile(milliseconds, 99)}


def huey(tasks: int, fsync: bool | None) -> dict[str, float]:
    """Push to huey from eight threads."""
    with open_huey(fsync) as queue:
        return _push(queue, max(1, tasks // FEWER))


def dramatiq(tasks: int, durable: bool) -> dict[str, float]:
    """Send to dramatiq from eight threads."""
    with open_dramatiq(durable) as queue:
        return _push(queue, max(1, tasks // FEWER))


def _push(queue: Queue, tasks: int) -> dict[str, float]:
    def push(thread: int) -> None:
        for number in range(thread, tasks, _THREADS):
            queue.push(number)

    began = time.perf_counter()
    _in_threads(push)
    queue.wait(tasks)
    return {"tasks_per_s": tasks / (time.perf_counter() - began)}


def _in_threads(work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


_SINGLES, _BATCH, _MAP = "8 threads", "batch", "map"
_MEMORY_SINGLES, _MEMORY_BATCH = "memory, 8 threads", "memory, batch"
_HUEY, _HUEY_OFF = "huey fsync=True", "huey fsync=False"
_REDIS, _REDIS_LAZY = "dramatiq, fsync always", "dramatiq, everysec"
_TRIPS = "latency"
_SHORT, _LONG, _RESTART = "1,000 queued", "1,000,000 queued", "restart"
_PRUNING, _KEPT = "pruning", "kept short"
_BACKLOG, _UPKEEP = "benchmarks.durable_backlog", "benchmarks.durable_upkeep"

BENCHMARK = Benchmark(
    name="durable",
    question="no-op tasks a second through one SQLite file, 2 workers, fsync before each push returns",
    contenders=(
        Contender(_SINGLES, "benchmarks.durable:singles", {"store": "sqlite"}, needs="apsw"),
        Contender(_MEMORY_SINGLES, "benchmarks.durable:singles", {"store": "memory"}),
        Contender(_HUEY, "benchmarks.durable:huey", {"fsync": True}, needs="huey"),
        Contender(_HUEY_OFF, "benchmarks.durable:huey", {"fsync": False}, needs="huey"),
        Contender(_REDIS, "benchmarks.durable:dramatiq", {"durable": True}, needs="dramatiq", program="redis-server"),
        Contender(
            _REDIS_LAZY, "benchmarks.durable:dramatiq", {"durable": False}, needs="dramatiq", program="redis-server"
        ),
        Contender(_BATCH, "benchmarks.durable:batch", {"store": "sqlite"}, needs="apsw"),
        Contender(_MEMORY_BATCH, "benchmarks.durable:batch", {"store": "memory"}),
        Contender(_MAP, "benchmarks.durable:mapped", {"store": "sqlite"}, needs="apsw"),
        Contender(_TRIPS, "benchmarks.durable:trips", needs="apsw"),
        Contender(_SHORT, f"{_BACKLOG}:backlog", {"queued": SHORT_QUEUE}, needs="apsw"),
        Contender(_LONG, f"{_BACKLOG}:backlog", {"queued": LONG_QUEUE}, needs="apsw"),
        Contender(_RESTART, f"{_BACKLOG}:restart", needs="apsw"),
        Contender(_PRUNING, f"{_UPKEEP}:pruning", needs="apsw"),
        Contender(_KEPT, f"{_UPKEEP}:kept_short", needs="apsw"),
    ),
    rows=(
        Row("8 threads, submit", "tasks_per_s", ours=_SINGLES, peer=_HUEY, bar=at_least(5, 15), unit="/s"),
        Row("8 threads, submit", "tasks_per_s", ours=_SINGLES, peer=_HUEY_OFF, unit="/s"),
        Row("8 threads, submit", "tasks_per_s", ours=_SINGLES, peer=_REDIS, unit="/s"),
        Row("8 threads, submit", "tasks_per_s", ours=_SINGLES, peer=_REDIS_LAZY, unit="/s"),
        Row("8 threads, submit", "tasks_per_s", ours=_SINGLES, peer=_MEMORY_SINGLES, bar=at_least(0.3), unit="/s"),
        Row("batch, push_all", "tasks_per_s", ours=_BATCH, peer=_HUEY, bar=at_least(5, 15), unit="/s"),
        Row("batch, push_all", "tasks_per_s", ours=_BATCH, peer=_MEMORY_BATCH, bar=at_least(0.3), unit="/s"),
        Row("map, a few at a time", "tasks_per_s", ours=_MAP, peer=_HUEY, unit="/s"),
        Row("submit to result, p50", "p50_ms", ours=_TRIPS, unit="ms"),
        Row("submit to result, p99", "p99_ms", ours=_TRIPS, unit="ms"),
        Row("claim p99, 1,000", "claim_p99_ms", ours=_SHORT, bar=at_most(50), unit="ms"),
        Row("claim p99, 1,000,000", "claim_p99_ms", ours=_LONG, bar=at_most(50), unit="ms"),
        Row("with 1,000,000 queued", "tasks_per_s", ours=_LONG, peer=_SHORT, bar=at_least(0.8), unit="/s"),
        Row("first task after restart", "first_ms", ours=_RESTART, bar=at_most(1000), unit="ms"),
        Row("claim p99, pruning 500,000", "claim_p99_ms", ours=_PRUNING, bar=at_most(50), unit="ms"),
        Row("pruned meanwhile", "pruned_per_s", ours=_PRUNING, unit="/s"),
        Row("a finished task", "bytes_per_task", ours=_SINGLES, unit="bytes"),
        Row("the WAL after all", "wal_mib", ours=_SINGLES, unit="MiB"),
        Row("file, 10x of what is kept", "times", ours=_KEPT, bar=at_most(1.5), unit="x"),
        Row("the longest WAL of that", "wal_mib", ours=_KEPT, bar=at_most(32), unit="MiB"),
    ),
    full={"tasks": 20_000},
    quick={"tasks": 200},
    max_runs=3,
)
