"""What forgetting costs a durable store, and what it saves (rows of durable.py).

Tasks are put in, claimed and ended through the store's own calls, a few hundred at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from benchmarks.durable_backlog import SHORT_QUEUE, claim_times, fill
from benchmarks.figures import percentile

if TYPE_CHECKING:
    from rxtasks.stores.base import DurableStore

__all__ = ["ENDED", "kept_short", "pruning"]

#: Ended tasks that are forgotten, as a multiple of the benchmark's number of tasks: 500,000 of 20,000.
ENDED = 25
#: Rounds in which as many tasks end as are kept.
_ROUNDS = 10
_AT_ONCE = 500
_LONG = 300.0
#: Characters of a result.
_RESULT = 200


def pruning(tasks: int) -> dict[str, float]:
    """Claim, and give back, while ended tasks are forgotten: what waits behind the batches?"""
    from rxtasks.clock import SystemClock
    from rxtasks.stores.sqlite.store import SqliteStore

    count = tasks * ENDED
    path = os.path.join(tempfile.mkdtemp(), "tasks.db")
    # By another process: what it leaves in its memory is not what is measured.
    subprocess.run([sys.executable, "-m", "benchmarks.durable_upkeep", path, str(count)], check=True)
    store = SqliteStore(path)
    fill(store, max(1000, int(tasks * SHORT_QUEUE)))
    gone: list[float] = []

    def prune() -> None:
        began = time.perf_counter()
        if store.prune(SystemClock().wall_us(), count) != count:
            raise AssertionError("not all that has ended was forgotten")
        gone.append(time.perf_counter() - began)

    thread = threading.Thread(target=prune)
    thread.start()
    milliseconds: list[float] = []
    while thread.is_alive():
        milliseconds += claim_times(store, 10)
    thread.join()
    store.release()
    if not gone:
        raise AssertionError("pruning failed")
    return {"claim_p99_ms": percentile(milliseconds, 99), "pruned_per_s": count / gone[0]}


def kept_short(tasks: int) -> dict[str, float]:
    """End ten times as many tasks as are kept, forgetting the oldest: how much longer does the file become?"""
    from rxtasks.stores.sqlite.store import SqliteStore

    path = os.path.join(tempfile.mkdtemp(), "tasks.db")
    store = SqliteStore(path)
    sizes: list[int] = []
    wal = 0
    for number in range(1, _ROUNDS + 1):
        fill(store, tasks)
        end(store, number)
        store.prune(number, tasks)  # those of the rounds before
        sizes.append(_size(path))
        wal = max(wal, os.path.getsize(path + "-wal"))
    store.release()
    # In the second round two of them lie in the file for a moment.
    return {"times": max(sizes) / sizes[1], "wal_mib": wal / 2**20}


def _size(path: str) -> int:
    """Return the bytes of the file, as it is when all of the log has been moved into it."""
    import apsw

    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        (((pages),),) = db.execute("pragma page_count").fetchall()
        (((size),),) = db.execute("pragma page_size").fetchall()
        return int(pages) * int(size)
    finally:
        db.close()


def end(store: DurableStore, finished_us: int) -> int:
    """End everything that waits, with the events of a task; return how many that were."""
    from rxtasks import StatusEvent, TaskStatus
    from rxtasks.clock import SystemClock, utc_from_us
    from rxtasks.stores.base import Change, Lane

    lane, clock, ended = Lane("process"), SystemClock(), 0
    answered = threading.Event()
    at = utc_from_us(finished_us)
    while held := store.claim(lane, _AT_ONCE, clock.wall_us()):
        changes, events = [], []
        for claim in held:
            task_id = claim.envelope.task_id
            change = Change(claim.token, task_id, TaskStatus.SUCCEEDED, 1, 0, 0, 0, 3, release=True)
            change.finished_us, change.value = finished_us, ["j", "x" * _RESULT]
            changes.append(change)
            events.append(StatusEvent(task_id, 1, 1, "w", at, TaskStatus.RUNNING))
            events.append(StatusEvent(task_id, 2, 1, "w", at, TaskStatus.SUCCEEDED, "x" * _RESULT))
        answered.clear()
        store.commit(changes, events, lambda refused, error: answered.set())
        if not answered.wait(_LONG):
            raise AssertionError(f"a commit took longer than {_LONG:g} s")
        ended += len(held)
    return ended


def main(path: str, count: str) -> None:
    """Fill the file with so many tasks that have ended."""
    from rxtasks.stores.sqlite.store import SqliteStore

    store = SqliteStore(path)
    fill(store, int(count))
    if end(store, 1) != int(count):
        raise AssertionError("not all tasks have ended")
    store.release()


if __name__ == "__main__":
    main(*sys.argv[1:])
