"""explain(): why a task does not run, what holds a worker or a subscriber up; each cause on a real service."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from rxtasks import RetryPolicy, TaskContext, TaskRequest, TaskService, TaskTracker, UnknownTask, WorkerSpec, task
from rxtasks import operators as rxo
from rxtasks.errors import StoreError
from rxtasks.isolation.spawn import is_stopped
from tests.acceptance.support import SOON, Gate, recorded, service


@task("tests.explain.waits")
def waits(path: str) -> None:
    with open(path, encoding="utf-8"):
        pass


@task("tests.explain.fails")
def fails() -> None:
    raise ValueError("no luck")


@task("tests.explain.says")
def says(path: str, ctx: TaskContext) -> None:
    ctx.progress(3, 10, message="rows")
    ctx.log.info("said")
    waits(path)


@task("tests.explain.floods")
def floods(count: int) -> None:
    for number in range(count):
        print(number)


@task("tests.explain.quick")
def quick() -> int:
    return 1


@pytest.fixture(params=["memory", "sqlite"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskService]:
    with service(1, store=url(request.param, tmp_path)) as there:
        yield there


def url(kind: str, folder: Path) -> str:
    return "memory" if kind == "memory" else f"sqlite:///{folder / 'tasks.db'}"


def said(there: TaskService, tracker: TaskTracker) -> str:
    lines = there.explain(tracker.task_id)
    assert lines[0].startswith(f"task {tracker.task_id} ")
    return "\n".join(lines)


def begun(there: Any, fn: Any, *args: Any) -> TaskTracker:
    """Submit and wait until it runs."""
    tracker: TaskTracker = there.submit(fn, *args)
    running = threading.Event()
    tracker.statuses.subscribe(lambda _: running.set(), lambda _: None)
    assert running.wait(SOON)
    return tracker


def until(there: Callable[[], Any]) -> Any:
    """Ask until the answer is true: what is asked for follows from nothing that tells of itself."""
    deadline = time.monotonic() + SOON
    while not (answer := there()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return answer


# -- a task that waits ------------------------------------------------------------------------------------------------


def test_a_lock_and_who_holds_it(made: TaskService, tmp_path: Path) -> None:
    """E-15: by task and worker; then the next holder; then nothing."""
    gate = Gate(tmp_path)
    locked = made.with_options(lock="db")
    holder = begun(locked, waits, gate.path)
    waiting, behind = locked.submit(quick), locked.submit(quick)
    (worker,) = made.workers()
    assert f"waits for the lock 'db', which is held by {holder.task_id} (in worker {worker.worker_id})" in said(
        made, waiting
    )
    assert "1 task wait there before it" in said(made, behind)
    gate.open()
    assert behind.result(SOON) == 1
    assert f"task {waiting.task_id} has ended (succeeded)" in said(made, waiting)


def test_dependencies_by_id_and_status(made: TaskService, tmp_path: Path) -> None:
    """E-15: those that have not ended."""
    gate = Gate(tmp_path)
    done = made.submit(quick)
    done.result(SOON)
    first = begun(made, waits, gate.path)
    second = made.submit(quick)
    after = made.with_options(depends_on=(done.task_id, first.task_id, second.task_id)).submit(quick)
    text = said(made, after)
    assert "is blocked: it waits for the end of" in text and done.task_id not in text
    assert f"{first.task_id} (running)" in text and f"{second.task_id} (pending)" in text
    gate.open()
    after.result(SOON)


def test_a_bound_and_a_rate_with_their_numbers(made: TaskService, tmp_path: Path) -> None:
    """E-20: how many may run and which do; how often, and when the next may."""
    gate = Gate(tmp_path)
    bounded = made.with_options(max_running=1)
    holder = begun(bounded, waits, gate.path)
    waiting = bounded.submit(waits, gate.path)
    text = said(made, waiting)
    assert "at most 1 tasks of name 'tests.explain.waits' run at once, and 1 do: " + holder.task_id in text
    gate.open()
    waiting.cancel()
    rated = made.with_options(rate="1/m")
    rated.submit(quick).result(SOON)
    text = said(made, until_pending(made, rated.submit(quick)))
    assert re.search(
        r"the rate of name 'tests.explain.quick' \(one every 1:00\) lets the next one pass in (59|1:00|5\d)", text
    ), text


def until_pending(made: TaskService, tracker: TaskTracker) -> TaskTracker:
    until(lambda: "rate" in said(made, tracker))
    return tracker


def test_the_time_of_a_delay_and_of_a_retry(made: TaskService) -> None:
    """E-12, E-16: when, and for a retry after which error."""
    later = made.with_options(delay=600).submit(quick)
    assert re.search(r"is scheduled: it is not to run before \S+, in (9:59|10:00)", said(made, later))
    again = made.with_options(retry=RetryPolicy(3, base=600, cap=600, jitter="none")).submit(fails)
    until(lambda: made.get(again.task_id).status == "retrying")
    text = said(made, again)
    assert re.search(r"is retrying: its attempt 2 begins at \S+, in (9:59|10:00) after ValueError: no luck", text), text


def test_a_busy_worker_and_what_it_does(made: TaskService, tmp_path: Path) -> None:
    """W-13: by worker, task and name."""
    gate = Gate(tmp_path)
    running = begun(made, waits, gate.path)
    (worker,) = made.workers()
    text = said(made, made.submit(quick))
    assert (
        f"the worker that takes it is busy: {worker.worker_id} runs {running.task_id} (tests.explain.waits) for "
        in text
    )
    gate.open()


def test_no_worker_that_takes_its_queue(tmp_path: Path) -> None:
    """E-20: stuck here, whatever else goes on; with the queues that there are."""
    store = url("sqlite", tmp_path)
    with (
        service(0, store=store) as pusher,
        service([WorkerSpec(1, isolation="thread", queues=("cpu",))], store=store) as made,
    ):
        made.start()
        tracker = pusher.with_options(queue="gpu").submit(quick)
        text = said(made, tracker)
        assert "stuck: no worker of this service takes its queue 'gpu'; there are: thread (cpu)" in text
        other = pusher.with_options(isolation="process", queue="cpu").submit(quick)
        assert "stuck: no worker of this service takes its queue 'cpu' and isolation 'process'" in said(made, other)
        assert any(tracker.task_id in line and "stuck" in line for line in made.explain())


def test_a_paused_pool_a_created_task_an_asked_cancel(made: TaskService) -> None:
    """E-06: each with what ends it."""
    made.start()
    made.pause()
    until(lambda: any("paused" in line for line in made.explain()))
    waiting = made.submit(quick)
    assert "the pool is paused: resume() it" in said(made, waiting)
    created = made.create(TaskRequest(quick))
    assert f"task {created.task_id} is created" in made.explain(created.task_id)[0]
    made.resume()
    waiting.result(SOON)


def test_before_the_start_nothing_runs() -> None:
    """E-06: create starts nothing."""
    made = service(1)
    created = made.create(TaskRequest(quick))
    assert "created" in made.explain(created.task_id)[0]
    with pytest.raises(UnknownTask):
        made.explain("nobody")
    made.stop()


def test_a_worker_that_is_not_there_yet() -> None:
    """W-04: the one that starts, by its id."""
    hold = threading.Event()
    made = service(1, initializer=hold.wait)
    tracker = made.submit(quick)
    try:
        text = until(lambda: "is starting" in said(made, tracker) and said(made, tracker))
        assert "no worker that takes it is ready" in text
    finally:
        hold.set()
        tracker.result(SOON)
        made.stop()


def test_a_service_without_workers_names_who_runs_its_tasks(tmp_path: Path) -> None:
    """E-06: the others on the store, or that there are none."""
    gate = Gate(tmp_path)
    store = url("sqlite", tmp_path)
    with service(0, store=store) as pusher:
        tracker = pusher.submit(waits, gate.path)
        assert "stuck: this service has no workers (workers=0), and there is no other one on its store" in said(
            pusher, tracker
        )
        with service(1, store=store) as runner:
            runner.start()
            until(lambda: pusher.get(tracker.task_id).status == "running")
            (worker,) = runner.workers()
            text = said(pusher, tracker)
            assert f"is running in worker {worker.worker_id} of service " in text and f"(pid {os.getpid()} on " in text
            assert any(f"(pid {os.getpid()} on" in line and "holds 1 task" in line for line in pusher.explain())
            gate.open()
            tracker.result(SOON)


_SERVICE = """
import sys
from rxtasks import TaskService
from tests.acceptance.test_explain import waits
if __name__ == "__main__":
    with TaskService(1, isolation="thread", store=sys.argv[1], echo=None, on_exit="force") as made:
        made.submit(waits, sys.argv[2]).statuses.subscribe(lambda event: print(event.task_id, flush=True))
        sys.stdin.read()
"""


def test_a_service_that_is_stopped_is_stuck(tmp_path: Path) -> None:
    """E-06: seen by another one on the store, before its lease has lapsed."""
    gate = Gate(tmp_path)
    store = url("sqlite", tmp_path)
    program = tmp_path / "other.py"
    program.write_text(_SERVICE, "utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(program), store, gate.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as other:
        try:
            assert other.stdout is not None
            task_id = other.stdout.readline().strip()
            with service(0, store=store) as made:
                made.start()
                os.kill(other.pid, signal.SIGSTOP)
                until(lambda: is_stopped(other.pid))
                lines = made.explain(task_id)
                assert f"of service 1 (pid {other.pid} on " in lines[0]
                assert lines[1].startswith("stuck: that service is stopped by a signal (SIGSTOP)")
                assert any(
                    line.startswith(f"stuck: service 1 on this store (pid {other.pid}") for line in made.explain()
                )
        finally:
            other.kill()


# -- a task that runs -------------------------------------------------------------------------------------------------


def test_a_running_task_its_last_event_progress_and_limits(made: TaskService, tmp_path: Path) -> None:
    """C-03: for how long, what it said last, when its time is over; then that its cancel was asked for."""
    gate = Gate(tmp_path)
    tracker = made.with_options(timeout=600, grace=100).submit(says, gate.path)
    until(lambda: tracker.log_tail)
    text = said(made, tracker)
    assert re.search(r"is running for \S+ s in worker \S+, attempt 1; its last event is log 3", text), text
    assert "its progress is 3 of 10 (rows)" in text
    assert "its timeout of 600 s is over in " in text
    tracker.cancel()
    assert re.search(r"its cancel was asked for 0.\d+ s ago: after 100 s it is killed", said(made, tracker))
    gate.open()
    assert wait([tracker.future], SOON).done


def test_a_stopped_worker_is_stuck(tmp_path: Path) -> None:
    """W-06: the task's sentence and the worker's name it."""
    gate = Gate(tmp_path)
    with TaskService(1, echo=None, on_exit="force") as made:
        tracker = begun(made, waits, gate.path)
        (info,) = made.workers()
        assert info.pid is not None
        os.kill(info.pid, signal.SIGSTOP)
        until(lambda: is_stopped(info.pid or 0))
        try:
            expected = f"stuck: worker {info.worker_id} (pid {info.pid}) is stopped by a signal (SIGSTOP)"
            assert expected in said(made, tracker)
            assert expected in made.explain()
        finally:
            os.kill(info.pid, signal.SIGCONT)
        gate.open()
        tracker.result(SOON)


def test_a_task_sent_ahead_names_what_is_before_it(tmp_path: Path) -> None:
    """W-13: it is in a worker, and behind which task."""
    gate = Gate(tmp_path)
    with TaskService(1, echo=None, on_exit="force") as made:
        made.start()
        for _ in range(50):
            made.submit(perhaps, "").result(SOON)
        first, *rest = [made.submit(perhaps, gate.path if number == 0 else "") for number in range(20)]
        text = until(lambda: next((t for t in (said(made, each) for each in rest) if "it was sent ahead" in t), None))
        assert "waits there behind" in text and first.task_id in text
        gate.open()


def perhaps(path: str) -> None:
    if path:
        waits(path)


# -- subscribers ------------------------------------------------------------------------------------------------------


class Stuck:
    """A subscriber that does not come back from its first call until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def on_next(self, value: Any) -> None:
        self.entered.set()
        assert self.go_on.wait(SOON)


def test_a_subscriber_that_holds_the_delivery_thread_is_named(tmp_path: Path) -> None:
    """R16: with for how long, and what happens then; and the others with what they wait for."""
    with service(1, stall_timeout=SOON) as made:
        stuck = Stuck()
        made.events.subscribe(stuck.on_next)
        recorded(made.pool)
        made.submit(quick).result(SOON)
        assert stuck.entered.wait(SOON)
        line = until(lambda: next((line for line in made.explain() if line.startswith("stuck: subscriber")), None))
        assert "test_explain.Stuck.on_next has held the delivery thread for at least" in line
        assert any("Recorder" in line and "the events of the pool" in line for line in made.explain())
        stuck.go_on.set()
        assert made.flush(SOON)


def test_a_full_strategy_is_why_a_task_waits_for_credit(tmp_path: Path) -> None:
    """L-04: the task's sentence names the subscriber; so does that of a task that is not begun."""
    with service(2, isolation="process", stall_timeout=SOON, credit=64) as made:
        stuck = Stuck()
        made.events.pipe(rxo.buffer_bounded(4)).subscribe(stuck.on_next)
        tracker = made.submit(floods, 5_000)
        assert stuck.entered.wait(SOON)
        text = until(lambda: "withheld" in said(made, tracker) and said(made, tracker))
        assert "test_explain.Stuck.on_next" in text, text
        made.submit(quick)  # the core may learn of it only in the turn of this one
        waiting = made.submit(quick)
        text = until(lambda: "subscribers are behind" in said(made, waiting) and said(made, waiting))
        assert "test_explain.Stuck.on_next: its buffer is full" in text
        stuck.go_on.set()
        tracker.result(SOON)
        waiting.result(SOON)


# -- the store --------------------------------------------------------------------------------------------------------


def test_a_store_that_fails_is_told_with_the_time_of_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """E-19: and not any more when it works again."""
    with service(1) as made:
        made.start()
        made.submit(quick).result(SOON)
        claim = made._store.claim
        broken = threading.Event()

        def fail(*args: Any) -> Any:
            if broken.is_set():
                raise StoreError("the disk is on fire")
            return claim(*args)

        monkeypatch.setattr(made._store, "claim", fail)
        broken.set()
        tracker = made.submit(quick)
        text = until(lambda: "failed at claim" in said(made, tracker) and said(made, tracker))
        assert re.search(r"the store failed at claim: the disk is on fire; tried again in \d", text)
        assert any("failed at claim" in line for line in made.explain())
        broken.clear()
        assert tracker.result(SOON) == 1
        assert not any("failed at claim" in line for line in made.explain())


def test_many_waiting_tasks_are_counted_and_some_explained(made: TaskService, tmp_path: Path) -> None:
    """R6: the answer is bounded."""
    gate = Gate(tmp_path)
    begun(made, waits, gate.path)
    trackers = [made.submit(quick) for _ in range(200)]
    lines = made.explain()
    assert len(lines) < 40
    assert any("more tasks are pending" in line for line in lines), lines
    assert any(trackers[0].task_id in line for line in lines)
    gate.open()
