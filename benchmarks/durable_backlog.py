"""What a long queue costs a durable store, and a restart after a crash (rows of durable.py).

The file is filled through the store's own enqueue, in batches. Both queue lengths are held: as many are put in as have ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from benchmarks.figures import percentile
from benchmarks.queues import WORKERS

if TYPE_CHECKING:
    from rxtasks import TaskEvent
    from rxtasks.stores.base import DurableStore

__all__ = ["LONG_QUEUE", "SHORT_QUEUE", "backlog", "claim_times", "fill", "restart"]

#: Tasks queued, as a multiple of the benchmark's number of tasks: a million and a thousand of 20,000.
LONG_QUEUE, SHORT_QUEUE = 50.0, 0.05
_RESTART = 5

_AT_LEAST = 1000
_BATCH = 10_000
#: Tasks of one claim, as an engine with two workers asks for them; and claims measured.
_CLAIMED = 64
_CLAIMS = 500
#: Tasks put in at a time while others end.
_REFILL = 200
_LONG = 120.0


def backlog(tasks: int, queued: float) -> dict[str, float]:
    """Claim, and run tasks, while so many are queued."""
    from benchmarks.durable_tasks import MODULE, stored_noop
    from rxtasks import StatusEvent, TaskRequest, TaskService
    from rxtasks.stores.sqlite.store import SqliteStore

    length = max(_AT_LEAST, int(tasks * queued))
    path = os.path.join(tempfile.mkdtemp(), "tasks.db")
    # By another process: what it leaves in its memory is not what is measured.
    subprocess.run([sys.executable, "-m", "benchmarks.durable_backlog", "fill", path, str(length)], check=True)
    store = SqliteStore(path)
    found = {"claim_p99_ms": percentile(claim_times(store, min(_CLAIMS, tasks // 10)), 99)}

    ended = threading.Semaphore(0)
    warm = max(_REFILL, tasks // 10)
    #: When each task ended, as its event was seen: whoever fills the queue may be behind that.
    ends: list[float] = []

    def observe(event: TaskEvent) -> None:
        if isinstance(event, StatusEvent) and event.status == "succeeded":
            ends.append(time.perf_counter())
            ended.release()

    with TaskService(WORKERS, store=store, modules=[MODULE], on_exit="force") as service:
        service.events.subscribe(observe)
        service.start()
        filled = 0
        while len(ends) < warm + tasks:
            if not ended.acquire(timeout=_LONG):
                raise AssertionError(f"no task ended within {_LONG:g} s")
            if filled % _REFILL == 0:
                service.push_all([TaskRequest(stored_noop, (number,)) for number in range(_REFILL)])
            filled += 1
    return found | {"tasks_per_s": tasks / (ends[warm + tasks - 1] - ends[warm - 1])}


def fill(store: DurableStore, count: int) -> None:
    """Put so many tasks into the store."""
    from benchmarks.durable_tasks import stored_noop
    from rxtasks.clock import SystemClock
    from rxtasks.engine.stored_intake import StoredIntake

    intake = StoredIntake([], [], SystemClock())
    while count:
        size = min(count, _BATCH)
        store.enqueue([intake.envelope(stored_noop, (number,), {}) for number in range(size)])
        count -= size


def claim_times(store: DurableStore, claims: int) -> list[float]:
    """Claim and give back, again and again; return how many milliseconds each claim took."""
    from rxtasks import TaskStatus
    from rxtasks.clock import SystemClock
    from rxtasks.stores.base import Change, Lane

    lane, clock = Lane("process"), SystemClock()
    answered = threading.Event()
    milliseconds = []
    for _ in range(claims):
        began = time.perf_counter()
        held = store.claim(lane, _CLAIMED, clock.wall_us())
        milliseconds.append((time.perf_counter() - began) * 1000)
        answered.clear()
        store.commit(
            [
                Change(claim.token, claim.envelope.task_id, TaskStatus.PENDING, 0, 0, 0, 0, 1, release=True)
                for claim in held
            ],
            [],
            lambda refused, error: answered.set(),
        )
        if not answered.wait(_LONG):
            raise AssertionError(f"a commit took longer than {_LONG:g} s")
    return milliseconds


def restart(tasks: int) -> dict[str, float]:
    """Kill a service that works on a long queue, and start another: how long until a task runs, from its construction?"""
    from benchmarks.durable_tasks import MODULE
    from rxtasks import StatusEvent, TaskService

    path = os.path.join(tempfile.mkdtemp(), "tasks.db")
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.durable_backlog", "work", path, str(tasks * _RESTART)],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"works\n":
                raise AssertionError("the service that is to be killed did not come to work")
        finally:
            os.kill(process.pid, signal.SIGKILL)
    running = threading.Event()

    def observe(event: TaskEvent) -> None:
        if isinstance(event, StatusEvent) and event.status == "running":
            running.set()

    began = time.perf_counter()
    with TaskService(WORKERS, store=f"sqlite:///{path}", modules=[MODULE], on_exit="force") as service:
        service.events.subscribe(observe)
        service.start()
        if not running.wait(_LONG):
            raise AssertionError(f"no task ran within {_LONG:g} s")
        first = time.perf_counter() - began
    return {"first_ms": first * 1000}


def main(what: str, path: str, count: str) -> None:
    """Fill the file; with "work", then work on it, say so when some have ended, and never end."""
    from benchmarks.durable_tasks import MODULE
    from rxtasks import StatusEvent, TaskService
    from rxtasks.stores.sqlite.store import SqliteStore

    store = SqliteStore(path)
    fill(store, int(count))
    if what == "fill":
        store.release()
        return
    ended = threading.Semaphore(0)

    def observe(event: TaskEvent) -> None:
        if isinstance(event, StatusEvent) and event.status == "succeeded":
            ended.release()

    service = TaskService(WORKERS, store=store, modules=[MODULE])
    service.events.subscribe(observe)
    service.start()
    for _ in range(20):
        ended.acquire()
    os.write(1, b"works\n")
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
