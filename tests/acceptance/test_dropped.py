"""A service that nobody has any more: a cell that makes one is run again, a function that made one returns."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rxtasks import TaskEvent, TaskRequest, TaskService, WorkerEvent, iterate
from tests.acceptance.support import SOON, Gate, Recorder

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """A dropped service goes at once, without the collector of cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def ends(pid: int) -> int:
    """Return a descriptor that is ready when the process has ended."""
    return os.pidfd_open(pid)


def wait_for(descriptor: int) -> None:
    try:
        assert select.select([descriptor], [], [], SOON)[0], "the process is still there"
    finally:
        os.close(descriptor)


def stop_at(path: str) -> str:
    with open(path, encoding="utf-8"):
        return "through"


def test_its_workers_end_when_what_was_submitted_has_finished(tmp_path: Path) -> None:
    """N-01: what runs and what waits finish, every subscriber gets its events and the end, and no process is left."""
    gate, events, pool = Gate(tmp_path), Recorder(), Recorder()
    service = TaskService(1, echo=None).start()
    gone = ends(service.workers()[0].pid or 0)
    reference = weakref.ref(service)
    service.events.subscribe(events)
    service.pool.subscribe(pool)
    running, waiting = service.submit(stop_at, gate.path), service.submit(len, "abc")
    del service
    assert reference() is None
    assert not select.select([gone], [], [], 0)[0]
    gate.open()
    assert ("through", 3) == (running.result(SOON), waiting.result(SOON))
    wait_for(gone)
    events.wait(lambda found: found.completed)
    pool.wait(lambda found: found.completed)
    ended = [
        event.task_id for event in events.values if isinstance(event, TaskEvent) and event.to_json().count(b"succ")
    ]
    assert [running.task_id, waiting.task_id] == ended
    assert "pool_stopped" == [event.kind for event in pool.values if isinstance(event, WorkerEvent)][-1]


def test_made_again_under_its_name_the_old_one_goes() -> None:
    """N-01: a cell that is run three times leaves one pool."""
    before: list[int] = []
    for _ in range(3):
        service = TaskService(2, echo=None).start()
        for descriptor in before:
            wait_for(descriptor)
        before = [ends(info.pid or 0) for info in service.workers()]
        assert 3 == service.submit(len, "abc").result(SOON)
    service.stop()
    for descriptor in before:
        wait_for(descriptor)


def test_what_may_still_submit_keeps_it() -> None:
    """N-01: a map, a deferred task, a view, an executor, and its engine as a place for requests."""
    with iterate(TaskService(1, echo=None).map(len, ["a", "bb"])) as values:
        assert [1, 2] == list(values)
    assert 2 == TaskService(1, echo=None).defer(len, "bb").run()
    view = TaskService(1, echo=None).with_options(priority=1)
    assert [1, 2] == [view.submit(len, text).result(SOON) for text in ("a", "bb")]
    executor = TaskService(1, echo=None).executor()
    assert [1, 2] == [executor.submit(len, text).result(SOON) for text in ("a", "bb")]
    engine = TaskService(1, echo=None).engine
    assert [1, 2] == [engine.push(TaskRequest(len, (text,))).result(SOON) for text in ("a", "bb")]
    engine.stop()


def test_dropped_just_before_the_end_of_the_interpreter(tmp_path: Path) -> None:
    """N-01: as with one that is still there, what runs may finish."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = f"""
from rxtasks import TaskService
def write():
    with open({str(gate)!r}, "w") as started: started.write("started")
    import time
    time.sleep(0.3)
    open({str(tmp_path / "done")!r}, "w").close()
def main():
    TaskService(1, echo=None).submit(write)
    with open({str(gate)!r}) as started: started.read()
main()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=True)
    assert (tmp_path / "done").exists()


def _gone(reference: weakref.ref[TaskService]) -> None:
    deadline = time.monotonic() + SOON
    while reference() is not None:
        assert time.monotonic() < deadline, "something keeps the service"
        gc.collect()  # an error that was raised stands in a circle with its traceback
        threading.Event().wait(0.01)


def _map_all(service: TaskService) -> None:
    assert [1, 2, 3] == list(iterate(service.map(len, ["a", "bb", "ccc"])))


def _map_some(service: TaskService) -> None:
    with iterate(service.map(len, ["a", "bb", "ccc"])) as values:
        assert 1 == next(values)


def _map_fails(service: TaskService) -> None:
    with contextlib.suppress(TypeError):
        list(iterate(service.map(len, ["a", 5])))
        pytest.fail("nothing was raised")


def _callback(service: TaskService) -> None:
    called = threading.Event()
    service.submit(len, "a").future.add_done_callback(lambda _: (service, called.set()))
    assert called.wait(SOON)


@pytest.mark.parametrize("use", [_map_all, _map_some, _map_fails, _callback])
def test_after_the_last_call_its_delivery_keeps_nothing(use: Callable[[TaskService], None]) -> None:
    """N-01: a service dropped after a map goes, though no further event comes that would push the last one out."""
    service = TaskService(1, isolation="thread", echo=None).start()
    use(service)
    reference = weakref.ref(service)
    del service
    _gone(reference)
