"""Workers are replaced after max_tasks or max_memory, whoever dies meanwhile: nothing is lost, late or left (W-11)."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rxtasks import TaskService, UnknownHandler, WorkerEvent, WorkerInfo, WorkerSpec, iterate
from tests.chaos.handlers import (
    add,
    block_once,
    hoard,
    hoard_beside,
    linger,
    note,
    obey,
    quick_then_block,
    take_turn,
    total,
    total_beside,
    wait_for,
)
from tests.chaos.support import LONG, Witness, kill, service

_MIB = 2**20


class Turns:
    """A FIFO whose bytes let workers start, one each."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "turns")
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR)

    def let(self, count: int = 1) -> None:
        """Let so many workers start."""
        os.write(self._fd, b"x" * count)

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def turns(tmp_path: Path) -> Iterator[Turns]:
    made = Turns(tmp_path)
    yield made
    made.close()


def _events(witness: Witness, kind: str) -> list[WorkerEvent]:
    return [event for event in witness.pool if event.kind == kind]


def _wait(witness: Witness, kind: str, count: int = 1) -> list[WorkerEvent]:
    """Wait for so many pool events of a kind."""
    witness.wait(lambda: len(_events(witness, kind)) >= count, f"{count} times {kind}")
    return _events(witness, kind)


def _recycled(witness: Witness) -> list[WorkerEvent]:
    return [event for event in _events(witness, "stopping") if event.message.startswith("recycled: ")]


def _pids(witness: Witness) -> list[int]:
    """Return the process ids of the workers that have become ready, in order."""
    return [event.data["pid"] for event in _events(witness, "ready")]


def _least_active(witness: Witness) -> int:
    """Return how many workers were there at the least, from the first start on until the stop."""
    there: set[str | None] = set()
    least, wanted = 1_000, 0
    for event in list(witness.pool):
        if event.kind == "ready":
            there.add(event.worker_id)
            wanted = max(wanted, len(there))
        elif event.kind in ("stopping", "failed", "stopped") and event.message != "stop":
            there.discard(event.worker_id)
        if wanted >= 2:
            least = min(least, len(there))
    return least


# -- many tasks -------------------------------------------------------------------------------------------------------


def test_thousands_of_tasks_through_thirty_workers(tmp_path: Path) -> None:
    """W-11: 2,000 tasks and more, max_tasks=50, two workers: each runs once, at its first attempt; the pool is never short."""
    path, pids, number = str(tmp_path / "starts"), Counter[int](), 0

    def numbers() -> Iterator[int]:
        nonlocal number
        while number < 2_000 or len(pids) < 30:
            assert number < 200_000, f"only {len(pids)} workers"
            yield number
            number += 1

    with service(2, max_tasks=50) as (tasks, witness):
        with iterate(tasks.map(note, iter(lambda: path, None), numbers())) as results:
            for pid in results:
                pids[pid] += 1
        assert 2 == _least_active(witness)
        started = [int(line) for line in Path(path).read_text().split()]
        assert list(range(number)) == sorted(started)
        attempts = {event.attempt for events in witness.events.values() for event in events}
        assert {1} == attempts
        assert not witness.failures()
        assert len(_recycled(witness)) >= 28
        for event in _recycled(witness):
            assert int(event.message.split()[1]) >= 50
        assert 2 == tasks.pool.status().active
        most = max(len(_starting(witness, upto)) for upto in range(len(witness.pool)))
        assert most <= 1, "two workers: one successor at a time"


def _starting(witness: Witness, upto: int) -> set[str | None]:
    """Return the workers that were starting as successors when so many pool events had come."""
    starting: set[str | None] = set()
    ready = 0
    for event in witness.pool[:upto]:
        if event.kind == "started" and ready >= 2:
            starting.add(event.worker_id)
        elif event.kind == "ready":
            ready += 1
            starting.discard(event.worker_id)
    return starting


def test_threads_are_recycled_too() -> None:
    """W-11: max_tasks gives a new thread; the old one ends."""
    before = threading.active_count()
    with service(2, isolation="thread", max_tasks=10) as (tasks, witness):
        for number in range(500):
            assert number + 1 == tasks.submit(add, number, 1).result(LONG)
        assert len(_events(witness, "replaced")) >= 10
        assert not witness.failures()
    assert before == threading.active_count()


def test_objects_that_were_put_reach_successors() -> None:
    """W-11 E-20: a new worker is sent what its tasks refer to."""
    with service(1, max_tasks=1) as (tasks, witness), tasks.put({"word": 7}) as shared:
        seen = len(_pids(witness))
        for _ in range(4):
            assert {"word": 7} == tasks.submit(dict, shared).result(LONG)
            seen = len(_wait(witness, "ready", seen + 1))
        assert len(set(_pids(witness))) == seen


# -- memory -----------------------------------------------------------------------------------------------------------


def test_a_handler_that_leaks_gets_a_new_worker() -> None:
    """W-11: the worker that has crossed max_memory is replaced, and the event tells by how much."""
    with service(1, max_memory=150 * _MIB) as (tasks, witness):
        first = tasks.submit(os.getpid).result(LONG)
        while not _events(witness, "replaced"):
            assert tasks.submit(hoard, 20).result(LONG)
            assert tasks.flush(LONG)
        (stopping,) = _events(witness, "stopping")
        found, limit = [int(word) for word in stopping.message.split() if word.isdigit()]
        assert stopping.message.startswith("recycled: memory ") and found >= limit == 150
        assert first != tasks.submit(os.getpid).result(LONG)
        assert not witness.failures()


def test_a_short_task_that_leaks_is_noticed_when_its_worker_has_nothing_to_do() -> None:
    """W-11: the last of many tasks that took no time is measured too."""
    with service(1, max_memory=150 * _MIB) as (tasks, witness):
        trackers = [tasks.submit(add, 1, number) for number in range(200)]
        trackers.append(tasks.submit(hoard, 200))
        for tracker in trackers:
            tracker.result(LONG)
        _wait(witness, "replaced")


def test_async_handlers_that_leak_beside_others_get_a_new_worker() -> None:
    """W-11 E-11: an attempt that ends while others run is measured; they end where they are."""
    spec: Any = [WorkerSpec(1, concurrency=4)]
    with service(spec, max_memory=150 * _MIB) as (tasks, witness):
        waiting = tasks.submit(linger)
        witness.wait_output(waiting.task_id, "here")
        first = tasks.submit(hoard_beside, 200).result(LONG)
        _wait(witness, "replaced")
        assert not _events(witness, "stopped"), "it still runs the other one"
        assert first != tasks.submit(os.getpid).result(LONG)
        assert waiting.cancel()
        _wait(witness, "stopped")
        assert 1 == tasks.get(waiting.task_id).attempt


@pytest.mark.parametrize("handler", [total, total_beside])
def test_large_arguments_of_what_has_ended_are_no_leak(handler: Callable[[Any], float]) -> None:
    """W-11: the memory that a task's arguments took is given back before its worker is measured."""
    spec: Any = [WorkerSpec(1, concurrency=4 if handler is total_beside else 1)]
    with service(spec, max_memory=150 * _MIB) as (tasks, witness):
        array = np.ones(200 * _MIB // 8)
        for _ in range(3):
            assert array.size == tasks.submit(handler, array).result(LONG)
        tasks.submit(add, 1, 2).result(LONG)
        assert tasks.flush(LONG)
        assert 1 == len(_events(witness, "started"))


def test_a_limit_below_what_any_worker_needs_is_told_and_leads_to_no_loop() -> None:
    """W-11: with max_memory=1 MiB tasks run all the same, and workers are not replaced one after the other."""
    with service(1, max_memory=_MIB) as (tasks, witness):
        while not _events(witness, "warning"):
            tasks.submit(add, 1, 2).result(LONG)
            assert tasks.flush(LONG)
        (warning,) = _events(witness, "warning")
        assert "max_memory (1 MB) is too low" in warning.message
        before = witness.pool[: witness.pool.index(warning)]
        assert 1 == sum(event.kind == "replaced" for event in before)
        assert 2 == sum(event.kind == "started" for event in before)
        assert 3 == tasks.submit(add, 1, 2).result(LONG)


# -- a strict bound ---------------------------------------------------------------------------------------------------


def test_no_worker_gets_more_than_a_strict_bound_whoever_dies(tmp_path: Path) -> None:
    """W-11 W-07: 600 tasks, seven each, two workers of which one dies now and then: none is lost."""
    path, killed, runs = str(tmp_path / "starts"), set[int](), Counter[int]()
    with service(2, max_tasks=7, max_tasks_strict=True) as (tasks, _):
        with iterate(tasks.map(note, iter(lambda: path, None), range(600))) as results:
            for number, pid in enumerate(results):
                runs[pid] += 1
                if number % 100 == 50 and (there := {info.pid for info in tasks.workers() if info.pid} - killed):
                    killed.add(min(there))
                    kill(min(there))
        assert 600 == runs.total()
        assert max(runs.values()) <= 7
        assert set(range(600)) == {int(line) for line in Path(path).read_text().split()}
        assert killed


# -- in the midst of it -----------------------------------------------------------------------------------------------


def _half_way(tasks: TaskService, witness: Witness) -> int:
    """Wear the only worker; return its process id when its successor waits for its turn."""
    pid: int = tasks.submit(os.getpid).result(LONG)
    _wait(witness, "started", 2)
    return pid


def _one(turns: Turns) -> Any:
    turns.let()
    return service(1, max_tasks=1, initializer=take_turn, initargs=(turns.path,))


def test_what_is_sent_ahead_goes_to_the_successor(turns: Turns, tmp_path: Path) -> None:
    """W-11: behind a task that runs on in the old worker nothing waits for its end."""
    with _one(turns) as (tasks, witness):
        pid = _half_way(tasks, witness)
        for _ in range(3):  # it is known to be short from now on, and sent ahead
            tasks.submit(quick_then_block, 1).result(LONG)
        flag = str(tmp_path / "go")
        runs = tasks.submit(wait_for, flag)
        witness.wait_output(runs.task_id, "here")
        behind = [tasks.submit(quick_then_block, number, at=-1) for number in range(1, 10)]
        turns.let()
        assert list(range(1, 10)) == [tracker.result(LONG) for tracker in behind]
        assert not runs.done
        Path(flag).touch()
        assert flag == runs.result(LONG)
        assert pid == _pids(witness)[0] and 2 == len(_pids(witness))
        assert {1} == {tasks.get(tracker.task_id).attempt for tracker in [runs, *behind]}


def test_the_old_worker_is_killed_while_its_successor_starts(turns: Turns) -> None:
    """W-11 W-07: its task runs again in the successor; no other worker is started."""
    with _one(turns) as (tasks, witness):
        pid = _half_way(tasks, witness)
        tracker = tasks.submit(block_once)
        witness.wait_output(tracker.task_id, "here")
        kill(pid)
        (replaced,) = _wait(witness, "replaced")
        turns.let()
        assert 2 == tracker.result(LONG)
        record = tasks.get(tracker.task_id)
        assert (1, 0) == (record.crashes, record.interruptions)
        assert replaced.data["by"] == _events(witness, "ready")[1].worker_id


def test_the_successor_is_killed_while_it_starts(turns: Turns) -> None:
    """W-11: the old worker goes on, and another successor takes over."""
    with _one(turns) as (tasks, witness):
        pid = _half_way(tasks, witness)
        (new,) = [info for info in tasks.workers() if info.pid != pid]
        kill(new.pid or 0)
        (warning,) = _wait(witness, "warning")
        assert "its successor could not start: SIGKILL" in warning.message
        assert pid == tasks.submit(os.getpid).result(LONG)
        turns.let()
        _wait(witness, "replaced")
        assert tasks.submit(os.getpid).result(LONG) not in (pid, new.pid)


def test_the_old_worker_is_killed_after_its_successor_has_come(turns: Turns, tmp_path: Path) -> None:
    """W-11 W-07: what it still ran runs again; its place is filled already."""
    with _one(turns) as (tasks, witness):
        pid = _half_way(tasks, witness)
        tracker = tasks.submit(block_once)
        witness.wait_output(tracker.task_id, "here")
        turns.let()
        _wait(witness, "replaced")
        kill(pid)
        assert 2 == tracker.result(LONG)
        assert 1 == tasks.get(tracker.task_id).crashes
        assert 1 == len(witness.failures())


@pytest.mark.parametrize("force", [False, True])
def test_a_stop_and_a_start_during_a_recycling(turns: Turns, force: bool) -> None:
    """W-11 W-05: the successor that has not started is ended, and the next start is as any."""
    with _one(turns) as (tasks, witness):
        _half_way(tasks, witness)
        tracker = tasks.submit(os.getpid)
        assert tracker.result(LONG)
        tasks.stop(force=force)
        assert 1 == len(_pids(witness))
        turns.let(2)
        tasks.start()
        assert 3 == tasks.submit(add, 1, 2).result(LONG)


def test_a_smaller_pool_during_a_recycling(turns: Turns) -> None:
    """W-11 W-03: the successor of a worker that is not wanted any more is not either."""
    turns.let(2)
    with service(2, max_tasks=1, initializer=take_turn, initargs=(turns.path,)) as (tasks, witness):
        tasks.submit(os.getpid).result(LONG)
        _wait(witness, "started", 3)
        blocked = [tasks.submit(obey) for _ in range(2)]
        for tracker in blocked:
            witness.wait_output(tracker.task_id, "here")
        assert 1 == tasks.scale(1)
        for tracker in blocked:
            assert tracker.cancel()
        _wait(witness, "stopped")
        turns.let(10)
        assert 3 == tasks.submit(add, 1, 2).result(LONG)
        assert 1 == tasks.pool.status().active


def test_workers_killed_while_they_are_recycled(tmp_path: Path) -> None:
    """W-11 W-07: kill -9 of old and new ones at any moment: every task ends, and starts no more often than it must."""
    path = str(tmp_path / "starts")
    with service(2, max_tasks=20, retain=30_000) as (tasks, witness):
        view = tasks.with_options(max_crashes=100)
        over, looked = threading.Event(), list[str]()

        def killer() -> None:
            try:
                for number in range(12):
                    infos: list[WorkerInfo] = []
                    witness.wait(lambda infos=infos: infos.extend(tasks.workers()) or infos)  # type: ignore[misc]
                    info = infos[-1 - number % min(3, len(infos))]  # the one that is starting, or leaving, or another
                    if info.pid:
                        kill(info.pid)
                    witness.wait(lambda info=info: info.pid is None or gone(info.worker_id))  # type: ignore[misc]
                    looked.append(info.worker_id)
            finally:
                over.set()

        def gone(worker_id: str) -> bool:
            return any(e.worker_id == worker_id and e.kind in ("failed", "stopped") for e in witness.pool)

        thread = threading.Thread(target=killer)
        thread.start()
        trackers = []
        while not over.is_set() or len(_recycled(witness)) < 3:
            assert len(trackers) < 20_000
            trackers.append(view.submit(note, path, len(trackers)))
            if len(trackers) % 20 == 0:
                trackers[-1].result(LONG)
        thread.join()
        assert 12 == len(looked)
        for tracker in trackers:
            assert tracker.result(LONG)
        started = Counter(int(line) for line in Path(path).read_text().split())
        for number, tracker in enumerate(trackers):
            record = tasks.get(tracker.task_id)
            attempts = 1 + record.crashes + record.interruptions
            assert attempts == record.attempt
            assert 1 <= started[number] <= attempts


_SLOW_TO_IMPORT = """
import os
from rxtasks import current_task

if os.path.exists({broken!r}):
    raise ImportError("not any more")
FOR_A_TASK = current_task() is not None

def look():
    return os.getpid(), FOR_A_TASK

def spoil():
    open({broken!r}, "w").close()
"""


@pytest.fixture
def slow_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a module that knows for whom it was imported, and that cannot be imported after its spoil()."""
    name = "slow_to_import"
    (tmp_path / f"{name}.py").write_text(_SLOW_TO_IMPORT.format(broken=str(tmp_path / "broken")))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(name)
    del sys.modules[name]


def test_a_successor_has_imported_what_the_worn_one_had(slow_module: Any) -> None:
    """W-11: no task waits for that again: the imports are done before it takes over, by every one in turn."""
    with service(1, max_tasks=1) as (tasks, witness):
        first, for_a_task = tasks.submit(slow_module.look).result(LONG)
        assert for_a_task
        seen = {first}
        for count in range(1, 4):
            _wait(witness, "replaced", count)
            pid, for_a_task = tasks.submit(slow_module.look).result(LONG)
            assert not for_a_task
            seen.add(pid)
        assert len(seen) == 4


def test_an_import_that_fails_is_no_failure_of_the_successor(slow_module: Any) -> None:
    """W-11, R26: it takes over; the task that needs the module says why it cannot be imported."""
    with service(1, max_tasks=1) as (tasks, witness):
        tasks.submit(slow_module.spoil).result(LONG)
        _wait(witness, "replaced")
        with pytest.raises(UnknownHandler, match="not any more"):
            tasks.submit(slow_module.look).result(LONG)
        assert tasks.submit(add, 1, 1).result(LONG) == 2
