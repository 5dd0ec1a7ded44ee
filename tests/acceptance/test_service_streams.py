"""The Rx side of a service: requests in, events out, many loops and threads at once."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.subject import Subject

from rxtasks import (
    QueueFull,
    StatusEvent,
    TaskCancelled,
    TaskEngine,
    TaskFailed,
    TaskOptions,
    TaskRequest,
    TaskService,
    TaskStatus,
    TaskTracker,
    UnknownHandler,
    WorkerPool,
    aiterate,
    as_completed,
    iterate,
)
from rxtasks.operators import latest, logs, of_task, outputs, statuses, terminal
from tests.acceptance import jobs
from tests.acceptance.support import SOON, Gate, Recorder, recorded, service, started

pytestmark = pytest.mark.filterwarnings("ignore:tests.acceptance.jobs:RuntimeWarning")


@pytest.fixture(params=["memory", "sqlite"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskService]:
    store = "memory" if request.param == "memory" else f"sqlite:///{tmp_path / 'tasks.db'}"
    with service(store=store) as made:
        yield made


def test_every_engine_pool_and_tracker_is_a_subject(made: TaskService) -> None:
    """E-01: subscribing before the start works, and sees everything from the first event on."""
    events, pool = recorded(made.engine), recorded(made.pool)
    same = recorded(made.events)
    tracker = made.submit(jobs.chat, 3)
    assert isinstance(made.engine, TaskEngine | Subject) and isinstance(made.engine, Subject)
    assert isinstance(made.pool, WorkerPool) and isinstance(made.pool, Subject)
    assert isinstance(tracker, TaskTracker) and isinstance(tracker, Subject)
    assert 3 == tracker.result(timeout=SOON)
    assert made.flush(SOON)
    assert events.values == same.values
    assert ["running", "succeeded"] == [e.status for e in events.values if isinstance(e, StatusEvent)]
    assert {"started", "ready", "pool_started"} <= {event.kind for event in pool.values}
    made.stop()
    assert events.completed and pool.completed and same.completed


def test_an_observable_of_requests_feeds_the_engine(made: TaskService) -> None:
    """E-01: requests.subscribe(engine) submits; neither its end nor its failure ends the engine."""
    events = recorded(made.events.pipe(terminal()))
    requests = [TaskRequest(jobs.double, (number,)) for number in range(100)]
    rx.from_(requests).subscribe(made.engine)
    rx.throw(RuntimeError("the source failed")).subscribe(made.engine)
    made.engine.on_next(TaskRequest("no such handler", task_id="01ARZ3NDEKTSV4RRFFQ69G5FAV"))
    events.wait(lambda r: len(r.values) == 101)
    results = {event.task_id: event.result for event in events.values}
    assert list(range(0, 200, 2)) == [results[request.task_id] for request in requests]
    refused = next(event for event in events.values if event.task_id == "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert ("failed", "UNKNOWN_HANDLER") == (refused.status, refused.error.code)


def test_a_refused_request_is_a_failed_task(made: TaskService) -> None:
    """R24, E-02: it is found like any other; a task that has its id already is left alone."""
    ends = recorded(made.events.pipe(terminal()))
    request = TaskRequest("no:such", options=TaskOptions(tags="mine", dedup_key="key", delay=60))
    made.engine.on_next(request)
    assert UnknownHandler.code == ends.wait(lambda r: len(r.values) == 1).values[0].error.code
    record = made.get(request.task_id)
    assert ("no:such", "failed", UnknownHandler.code) == (
        record.name,
        record.status,
        record.error and record.error.code,
    )
    assert [record] == made.list("failed", tag="mine")
    again = made.track(request.task_id)
    assert ends.values == recorded(again).over().values
    # A durable store keeps the exception itself, memory what its record shows of it.
    with pytest.raises((TaskFailed, UnknownHandler), match=r"no:such"):
        again.result(timeout=0)
    good = made.with_options(dedup_key="key").submit(jobs.double, 4)
    assert 8 == good.result(timeout=SOON)
    made.engine.on_next(TaskRequest(5, task_id=good.task_id))  # type: ignore[arg-type]
    assert made.flush(SOON)
    assert [request.task_id, good.task_id] == [event.task_id for event in ends.values]
    assert TaskStatus.SUCCEEDED == made.get(good.task_id).status


def test_a_full_queue_holds_its_source(tmp_path: Path) -> None:
    """L-04: at max_pending the engine blocks its source, and goes on when there is room."""
    gate = Gate(tmp_path)
    with service(max_pending=5) as made:
        events = recorded(made.events.pipe(terminal()))
        blocker = started(made, jobs.wait_at, gate.path)
        taken, full = 0, threading.Event()

        def feed() -> None:
            nonlocal taken
            for number in range(50):
                made.engine.on_next(TaskRequest(jobs.double, (number,)))
                taken += 1
                if taken == 5:
                    full.set()

        source = threading.Thread(target=feed)
        source.start()
        assert full.wait(SOON)
        assert source.is_alive() and taken <= 7
        gate.open()
        source.join(SOON)
        assert 50 == taken and blocker.result(timeout=SOON) is None
        assert 51 == len(events.wait(lambda r: len(r.values) == 51).values)


def test_a_full_queue_refuses_on_the_delivery_thread_and_in_a_loop(tmp_path: Path) -> None:
    """L-04: where blocking would hold everybody, the request fails with QueueFull."""
    gate = Gate(tmp_path)
    with service(max_pending=1) as made:
        failed = recorded(made.events.pipe(terminal()))
        handed = threading.Event()

        def resubmit(event: Any) -> None:
            if event.kind == "status" and event.status == "running" and not handed.is_set():
                for number in range(4):
                    made.engine.on_next(TaskRequest(jobs.double, (number,)))
                handed.set()

        made.events.subscribe(resubmit)
        blocker = made.submit(jobs.wait_at, gate.path)
        assert handed.wait(SOON)

        async def feed() -> None:
            for number in range(4):
                made.engine.on_next(TaskRequest(jobs.double, (number,)))

        asyncio.run(feed())
        codes = {e.error.code for e in failed.wait(lambda r: len(r.values) >= 6).values}
        assert {QueueFull.code} == codes
        gate.open()
        assert blocker.result(timeout=SOON) is None


def test_late_subscribers_miss_nothing_and_see_nothing_twice(made: TaskService) -> None:
    """R19: subscribed at any moment of a running task: every seq from 1, once, in order."""
    tracker = made.submit(jobs.chat, 300)
    recorders: list[Recorder] = []
    while not tracker.done and len(recorders) < 200:
        recorders.append(recorded(tracker))
    recorders.append(recorded(tracker))
    whole = recorders[0].over().values
    kept = [event for event in whole if event.kind != "progress"]
    for recorder in recorders:
        events = recorder.over().values
        seqs = [event.seq for event in events]
        assert seqs == sorted(set(seqs))
        assert kept == [event for event in events if event.kind != "progress"]
        assert tracker.last_progress in events
    assert recorded(tracker.outcome).over().values == [300]
    assert [*range(300)] == [event.value for event in recorded(tracker.outputs).over().values]


def test_tracking_from_a_seq(made: TaskService) -> None:
    """E-08: track(id, from_seq=n) gives the events from n on."""
    tracker = made.submit(jobs.chat, 5)
    tracker.result(timeout=SOON)
    whole = recorded(tracker).over().values
    again = recorded(made.track(tracker.task_id, from_seq=4)).over().values
    assert [event for event in whole if event.seq >= 4] == again
    assert 5 == made.track(tracker.task_id, from_seq=4).result(timeout=SOON)
    beyond = recorded(made.track(tracker.task_id, from_seq=whole[-1].seq + 1)).over()
    assert beyond.completed and not beyond.values


def test_a_task_that_nobody_held_is_tracked_from_its_record(made: TaskService, request: pytest.FixtureRequest) -> None:
    """E-08 Q-05: its end is on the stream, and in outcome; the events before it are gone, but for a durable log's."""
    ends = recorded(made.events.pipe(terminal()))
    task_id = made.submit(jobs.double, 3).task_id
    ends.wait(lambda r: bool(r.values))
    gc.collect()
    tracker = made.track(task_id)
    seen = recorded(tracker).over()
    assert seen.completed and ["running", "succeeded"][-len(seen.values) :] == [event.status for event in seen.values]
    assert 6 == seen.values[-1].result and len(seen.values) == (1 if request.node.callspec.id == "memory" else 2)
    assert [6] == recorded(tracker.outcome).over().values and 6 == tracker.result(timeout=0)


def test_streams_compose(made: TaskService) -> None:
    """E-08: filters and strategies of rxtasks.operators beside those of RxPY."""
    done = recorded(made.events.pipe(statuses(), terminal(), ops.take(3)))
    lines = recorded(made.events.pipe(logs("INFO"), ops.map(lambda e: e.message), ops.distinct(), ops.take(5)))
    last = recorded(made.events.pipe(latest(key=lambda e: e.task_id)))
    first = made.submit(jobs.chat, 5)
    mine = recorded(made.events.pipe(of_task(first.task_id), outputs()))
    for tracker in as_completed([first, made.submit(jobs.chat, 5), made.submit(jobs.chat, 5)], timeout=SOON):
        tracker.result()
    assert made.flush(SOON)
    assert 3 == len(done.over().values) and [f"line {n}" for n in range(5)] == lines.over().values
    assert set(range(5)) >= {event.value for event in mine.values}
    assert 3 == len({event.task_id for event in last.values if event.kind == "status"})
    assert 1 == len(done.threads)


def test_submitting_cancelling_and_stopping_inside_on_next() -> None:
    """R18: submit and cancel work in on_next; result() of another task there returns."""
    with service(2) as made:
        found: list[Any] = []
        over = threading.Event()

        def look(event: Any) -> None:
            if event.kind == "status" and event.status == "succeeded" and event.result == 2:
                other = made.submit(jobs.double, 4)
                found.append(other.result(timeout=SOON))
                cancelled = made.with_options(delay=60).submit(jobs.double, 1)
                found.append(cancelled.cancel())
                over.set()

        made.events.subscribe(look)
        made.submit(jobs.double, 1)
        assert over.wait(SOON)
        assert [8, True] == found


def test_iterating_and_awaiting() -> None:
    """E-08: iterate blocks, aiterate and await do not; cancelling an await leaves the task alone."""

    async def main(made: TaskService) -> None:
        tracker = await made.asubmit(jobs.chat, 4)
        seen = []
        async with aiterate(tracker.outputs) as values:
            async for event in values:
                seen.append(event.value)
        assert [0, 1, 2, 3] == seen and 4 == await tracker
        many = [made.submit(jobs.double, number) for number in range(50)]
        assert [number * 2 for number in range(50)] == await asyncio.gather(*many)
        with pytest.raises(ValueError, match="no"):
            await (await made.apush(TaskRequest(jobs.fail, ("no",))))
        slow = made.submit(jobs.wait_politely)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow, 0.05)
        assert not slow.done and slow.cancel()
        with pytest.raises(TaskCancelled):
            await slow
        assert 6 == await asyncio.wrap_future(made.submit(jobs.double, 3).future)

    with service(2) as made:
        asyncio.run(main(made))
        tracker = made.submit(jobs.chat, 4)
        with iterate(tracker.logs) as lines:
            assert [f"line {number}" for number in range(4)] == [event.message for event in lines]


def test_loops_and_threads_at_once() -> None:
    """E-06: one service, three event loops and three threads, each gets its own results."""
    problems: list[BaseException] = []

    async def use(made: TaskService, start: int) -> None:
        for number in range(start, start + 30):
            assert number * 2 == await made.submit(jobs.double, number)

    def sync(made: TaskService, start: int) -> None:
        for number in range(start, start + 30):
            assert number * 2 == made.submit(jobs.double, number).result(timeout=SOON)

    def run(work: Any) -> None:
        try:
            work()
        except BaseException as error:
            problems.append(error)

    with service(2) as made:
        works = [lambda n=n: asyncio.run(use(made, n * 100)) for n in range(3)]
        works += [lambda n=n: sync(made, 1000 + n * 100) for n in range(3)]
        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert not problems and not any(thread.is_alive() for thread in threads)


def test_a_loop_is_never_held_while_workers_are_busy() -> None:
    """E-18: the parent's event loop goes on while worker processes compute and many events come."""

    async def main(made: TaskService) -> float:
        loop, longest, over = asyncio.get_running_loop(), 0.0, False

        async def beat() -> None:
            nonlocal longest
            before = time.monotonic()
            while not over:
                await asyncio.sleep(0.005)
                now = time.monotonic()
                longest, before = max(longest, now - before), now

        beating = loop.create_task(beat())
        work = [made.submit(jobs.burn, 0.3), made.submit(jobs.burn, 0.3)]
        work += [made.submit(jobs.chat, 300) for _ in range(3)]
        async with aiterate(made.events.pipe(terminal(), ops.take(5))) as ends:
            assert 5 == len([event async for event in ends])
        await asyncio.gather(*work)
        over = True
        await beating
        return longest

    with service(2, isolation="process") as made:
        made.start()
        # The promise is 20 ms; a busy machine may hold the whole process for longer than that.
        assert asyncio.run(main(made)) < 0.2


@pytest.mark.skipif(sys.platform != "linux", reason="process workers need Linux")
def test_a_module_that_silences_loguru_as_it_is_imported_is_heard() -> None:
    """E-05, E-10: the first task of a worker imports its handler's module; what it logs is an event all the same."""
    program = """
from rxtasks import TaskService
from tests.acceptance.unheard import speak

with TaskService(1, echo=None) as service:
    for word in ("first", "second"):
        tracker = service.submit(speak, word)
        tracker.result(20)
        print([line.message for line in tracker.log_tail])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SOON * 2)
    assert ("", "['first']\n['second']\n") == (done.stderr, done.stdout)
