"""A service's life: starts and stops, ends of `with`, ends of the interpreter."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rxtasks import ServiceStopped, TaskCancelled, TaskRequest, TaskService, TaskStatus, WorkerStartError
from rxtasks.operators import terminal
from tests.acceptance import jobs
from tests.acceptance.support import SOON, Gate, recorded, service, started

ROOT = Path(__file__).parents[2]


def run_script(tmp_path: Path, text: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(text, "utf-8")
    return subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def open_after_ends(made: TaskService, gate: Gate, count: int) -> None:
    """Open the gate when so many tasks have ended, which the stop makes them do."""
    ends = recorded(made.events.pipe(terminal()))

    def work() -> None:
        ends.wait(lambda r: len(r.values) >= count)
        gate.open()

    threading.Thread(target=work, daemon=True).start()


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_start_and_stop_are_idempotent_and_can_be_repeated(isolation: str) -> None:
    """E-06: each start has a new engine, bus and pool; what has completed stays completed."""
    made = service(isolation=isolation)
    engines = []
    for number in range(3):
        made.start()
        assert made.start() is made
        events = recorded(made.events)
        engines.append(made.engine)
        assert number * 2 == made.submit(jobs.double, number).result(timeout=SOON)
        report = made.stop()
        assert not report.undelivered and not report.unfinished
        made.stop()
        assert events.completed and not made.status().running
        with pytest.raises(ServiceStopped):
            made.submit(jobs.double, 1)
    assert 3 == len({id(engine) for engine in engines})
    assert ["the service has stopped"] == made.explain()


def test_leaving_with_finishes_what_was_submitted() -> None:
    """E-06: on_exit="finish" is the default with the memory store."""
    with TaskService(2, isolation="thread", echo=None) as made:
        events = recorded(made.events)
        trackers = [made.submit(jobs.burn, 0.002) for _ in range(30)]
        later = made.with_options(delay=0.1).submit(jobs.double, 3)
    assert all(tracker.done and tracker.error is None for tracker in trackers)
    assert 6 == later.result(timeout=0)
    assert events.completed and 62 == len(events.values)


def test_leaving_with_drain_finishes_what_runs(tmp_path: Path) -> None:
    """E-06, W-05: on_exit="drain": running tasks finish, the rest fails with ServiceStopped."""
    gate = Gate(tmp_path)
    with service(on_exit="drain") as made:
        running = started(made, jobs.wait_at, gate.path, "finished")
        waiting = made.with_options(timeout=60).submit(jobs.double, 1)
        open_after_ends(made, gate, 1)
    assert "finished" == running.result(timeout=0)
    with pytest.raises(ServiceStopped):
        waiting.result(timeout=0)


def test_leaving_with_force_ends_what_runs() -> None:
    """E-06, W-05: on_exit="force" waits for nothing; every tracker ends."""
    with service(isolation="process") as made:
        running = started(made, jobs.burn, 60)
        waiting = made.submit(jobs.burn, 60)
    for tracker in (running, waiting):
        with pytest.raises(ServiceStopped):
            tracker.result(timeout=0)


def test_leaving_waits_for_no_task_that_was_only_created() -> None:
    """E-06, R24: what was stored and not queued is not waited for; its tracker ends."""
    with TaskService(1, isolation="thread", echo=None) as own:
        request = TaskRequest(jobs.double, (1,))
        created = [own.create(TaskRequest(jobs.double, (0,))), own.create(request)]
        assert [TaskStatus.CREATED] * 2 == [tracker.status for tracker in created]
        queued = own.submit(jobs.double, 2)
        assert 2 == own.push(request).result(timeout=SOON)
        found = own.track(created[0].task_id)
    assert 4 == queued.result(timeout=0)
    assert 2 == created[1].result(timeout=0)
    for tracker in (created[0], found):
        with pytest.raises(ServiceStopped):
            tracker.result(timeout=0)


def test_leaving_ends_tasks_that_nobody_here_can_run() -> None:
    """E-06, R24: without workers there is nothing to wait for."""
    with TaskService(0) as made:
        tracker = made.submit(jobs.double, 1)
    with pytest.raises(ServiceStopped):
        tracker.result(timeout=0)


def test_leaving_a_paused_pool_finishes_what_was_submitted() -> None:
    """E-06: on_exit="finish" finishes everything submitted: nobody would resume."""
    with TaskService(1, isolation="thread", echo=None) as made:
        made.pause()
        tracker = made.submit(jobs.double, 1)
    assert 2 == tracker.result(timeout=0)


def test_a_service_whose_pool_or_engine_was_stopped_starts_anew() -> None:
    """E-06: start after stop works, whoever stopped it."""
    with service() as made:
        for stop in (lambda: made.pool.stop(), lambda: made.engine.stop()):
            made.start()
            stop()
            with pytest.raises(ServiceStopped):
                made.submit(jobs.double, 1)
            assert 4 == made.start().submit(jobs.double, 2).result(timeout=SOON)


def test_an_engine_that_was_disposed_of_is_stopped_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """R14: dispose of the engine drops its observers; the service goes on, and its stop has nothing to complain about."""
    with service() as made:
        made.start().engine.dispose()
        assert 4 == made.submit(jobs.double, 2).result(timeout=SOON)
        made.stop()
    assert not caplog.records


def test_leaving_by_an_exception_cancels_what_has_not_started(tmp_path: Path) -> None:
    """E-06: then drains; the exception goes on."""
    gate = Gate(tmp_path)
    with pytest.raises(LookupError, match="out of here"), TaskService(1, isolation="thread", echo=None) as made:
        running = started(made, jobs.wait_at, gate.path, "finished")
        waiting = [made.with_options(timeout=60).submit(jobs.double, number) for number in range(3)]
        open_after_ends(made, gate, 3)
        raise LookupError("out of here")
    assert "finished" == running.result(timeout=0)
    for tracker in waiting:
        with pytest.raises(TaskCancelled):
            tracker.result(timeout=0)


def test_stop_reports_what_it_cut_off(tmp_path: Path) -> None:
    """R22: the report names tasks that did not get to their end."""
    with service(isolation="process") as made:
        running = started(made, jobs.burn, 60)
        report = made.stop(timeout=0.05)
        assert (running.task_id,) == report.unfinished
        with pytest.raises(ServiceStopped):
            running.result(timeout=0)


def test_submit_races_stop() -> None:
    """R24: submit returns a tracker that ends, or raises ServiceStopped."""
    for _ in range(10):
        made = service(2)
        made.start()
        trackers = []
        begun = threading.Barrier(2)

        def submit(made: TaskService = made, trackers: list = trackers, begun: threading.Barrier = begun) -> None:
            begun.wait(SOON)
            try:
                while True:
                    trackers.append(made.submit(jobs.double, 1))
            except ServiceStopped:
                return

        thread = threading.Thread(target=submit)
        thread.start()
        begun.wait(SOON)
        made.stop(force=True)
        thread.join(SOON)
        assert not thread.is_alive()
        for tracker in trackers:
            assert tracker.future.exception(timeout=SOON) is None or tracker.error is not None


def test_async_with_starts_and_stops() -> None:
    """E-06: `async with` holds no loop."""

    async def main() -> None:
        async with TaskService(1, isolation="process", echo=None) as made:
            assert made.status().running and 1 == made.status().active
            assert 6 == await made.submit(jobs.double, 3)
        assert not made.status().running

    asyncio.run(main())


def test_a_worker_that_cannot_start_fails_the_start() -> None:
    """W-04: start() raises with the worker's own error text, and never hangs."""
    for isolation in ("thread", "process"):
        made = service(isolation=isolation, modules=["no_such_module_anywhere"])
        with pytest.raises(WorkerStartError, match="no_such_module_anywhere"):
            made.start()


def test_a_task_submitted_to_workers_that_cannot_start_ends(tmp_path: Path) -> None:
    """R24: its tracker ends with an error that says why."""
    with service(isolation="process", modules=["no_such_module_anywhere"], max_respawns=1) as made:
        tracker = made.submit(jobs.double, 1)
        assert "no_such_module_anywhere" in str(tracker.future.exception(timeout=SOON))


def test_with_no_workers_tasks_wait() -> None:
    """E-06: workers=0 submits, lists and cancels only."""
    with service(0) as made:
        tracker = made.push(TaskRequest(jobs.double, (1,)))
        assert [tracker.task_id] == [record.task_id for record in made.list("pending")]
        assert tracker.cancel()
        with pytest.raises(TaskCancelled):
            tracker.result(timeout=SOON)


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_an_interpreter_that_ends_without_stop_does_not_hang(isolation: str, tmp_path: Path) -> None:
    """E-06: without stop() the interpreter drains, then forces; functions of __main__ travel by value."""
    done = run_script(
        tmp_path,
        f"""
from rxtasks import TaskService

FACTOR = 3

class Pair:
    def __init__(self, left, right):
        self.left, self.right = left, right

def scale(number):
    return Pair(number, number * FACTOR)

if __name__ == "__main__":
    service = TaskService(1, isolation={isolation!r})
    pair = service.submit(scale, 2).result(timeout=20)
    print(type(pair) is Pair, pair.left, pair.right)
""",
    )
    assert (0, "True 2 6\n", "") == (done.returncode, done.stdout, done.stderr)


def test_an_interpreter_with_a_failing_main_ends(tmp_path: Path) -> None:
    """E-06: an exception in the main thread while a task runs for ever: force after the drain."""
    done = run_script(
        tmp_path,
        """
import time
from rxtasks import TaskService

def forever():
    while True:
        time.sleep(1)

service = TaskService(1, isolation="process", drain_timeout=0.2)
service.start()
service.submit(forever)
raise SystemExit(3)
""",
    )
    assert 3 == done.returncode, done.stderr
