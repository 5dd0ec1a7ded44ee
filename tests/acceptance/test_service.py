"""TaskService: tasks in, records and results out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.subject import Subject

from rxtasks import (
    PayloadError,
    QueueFull,
    RetryPolicy,
    ServiceStopped,
    SettingsError,
    StatusEvent,
    TaskCancelled,
    TaskOptions,
    TaskRequest,
    TaskService,
    TaskStatus,
    UnknownHandler,
    UnknownTask,
    WorkerSpec,
    aiterate,
    as_completed,
    iterate,
)
from tests.acceptance import jobs
from tests.acceptance.support import SOON, Gate, Recorder, recorded, service, started

pytestmark = pytest.mark.filterwarnings("ignore:tests.acceptance.jobs:RuntimeWarning")


@pytest.fixture(params=["memory", "sqlite"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskService]:
    store = "memory" if request.param == "memory" else f"sqlite:///{tmp_path / 'tasks.db'}"
    with service(store=store) as made:
        yield made


def test_the_first_submit_starts_the_workers() -> None:
    """E-06: entering `with` starts nothing; get, list and cancel work without a start."""
    with service(2) as made:
        assert [] == made.list() and [] == made.workers()
        assert not made.status().running
        with pytest.raises(UnknownTask):
            made.get("01ARZ3NDEKTSV4RRFFQ69G5FAV")
        with pytest.raises(UnknownTask):
            made.cancel("01ARZ3NDEKTSV4RRFFQ69G5FAV")
        with pytest.raises(UnknownTask):
            made.track("01ARZ3NDEKTSV4RRFFQ69G5FAV")
        assert 6 == made.submit(jobs.double, 3).result(timeout=SOON)
        assert made.status().running and 2 == made.status().workers


def test_a_request_is_taken_once(made: TaskService) -> None:
    """E-06: pushing an id again returns the task that has it."""
    request = TaskRequest(jobs.double, (4,))
    first, second = made.push(request), made.push(request)
    assert request.task_id == first.task_id == second.task_id
    assert 8 == first.result(timeout=SOON) == second.result(timeout=SOON)
    assert [request.task_id] == [record.task_id for record in made.list()]


def test_a_created_task_runs_when_it_is_pushed(made: TaskService) -> None:
    """E-06: create stores without queueing."""
    request = TaskRequest(jobs.double, (4,))
    tracker = made.create(request)
    assert TaskStatus.CREATED == made.get(request.task_id).status
    assert 2 == made.submit(jobs.double, 1).result(timeout=SOON)
    assert not tracker.done
    assert 8 == made.push(request).result(timeout=SOON) == tracker.result(timeout=SOON)


def test_a_task_runs_at_its_time(made: TaskService) -> None:
    """E-16: schedule(at=), delay and run_at; naive times and cron are refused clearly."""
    at = datetime.now(UTC) + timedelta(milliseconds=100)
    trackers = [
        made.schedule(jobs.double, 1, at=at),
        made.schedule(jobs.double, 2, at=timedelta(milliseconds=100)),
        made.with_options(delay=0.1).submit(jobs.double, 3),
        made.with_options(run_at=at).submit(jobs.double, 4),
    ]
    assert all(made.get(t.task_id).status in ("scheduled", "pending", "running", "succeeded") for t in trackers)
    assert [2, 4, 6, 8] == [tracker.result(timeout=SOON) for tracker in trackers]
    begun = made.get(trackers[0].task_id).started_at
    assert begun is not None and begun >= at
    for wrong in ({}, {"at": at, "cron": "* * * * *"}, {"at": datetime(2030, 1, 1)}, {"cron": "* * *"}):
        with pytest.raises(SettingsError):
            made.schedule(jobs.double, 1, **wrong)


def test_priority_order_and_dedup(made: TaskService, tmp_path: Path) -> None:
    """E-16: higher priority first, then order of arrival; a dedup_key stands for the task that has not ended."""
    gate, notes = Gate(tmp_path), str(tmp_path / "notes")
    blocker = started(made, jobs.wait_at, gate.path)
    low = [made.submit(jobs.note, notes, word) for word in ("c", "d")]
    high = [made.with_options(priority=5).submit(jobs.note, notes, word) for word in ("a", "b")]
    moved = made.submit(jobs.note, notes, "first")
    assert 9 == made.update(moved.task_id, priority=9).priority
    only = made.with_options(dedup_key="k")
    one, two = only.submit(jobs.note, notes, "once"), only.submit(jobs.note, notes, "once")
    assert one.task_id == two.task_id
    gate.open()
    for tracker in [blocker, *low, *high, moved, one]:
        tracker.result(timeout=SOON)
    assert ["first", "a", "b", "c", "d", "once"] == Path(notes).read_text("utf-8").split()
    assert only.submit(jobs.note, notes, "again").task_id != one.task_id


def test_a_record_s_times_are_those_of_its_events(made: TaskService) -> None:
    """E-03: a short attempt whose events arrive together took as long as its events say, not no time at all."""
    events = recorded(made.events)
    tracker = made.submit(jobs.double, 2)
    tracker.result(SOON)
    assert made.flush(SOON)
    first, last = (event for event in events.values if event.kind == "status")
    record = made.get(tracker.task_id)
    assert (first.time, last.time) == (record.started_at, record.finished_at)
    assert record.duration == (last.time - first.time).total_seconds()


def test_records_are_found_listed_and_deleted(made: TaskService) -> None:
    """E-06: get, list by status, name and tag, after, limit; delete what has ended."""
    good = made.submit(jobs.named, [1])
    bad = made.with_options(name="bad one").submit(jobs.fail, "no")
    assert [1] == good.result(timeout=SOON)
    with pytest.raises(ValueError, match="no"):
        bad.result(timeout=SOON)
    record = made.get(good.task_id)
    assert ("acceptance.named", TaskStatus.SUCCEEDED, 1, 3, [1], ("tagged",)) == (
        record.name,
        record.status,
        record.attempt,
        record.priority,
        record.result,
        record.tags,
    )
    assert record.duration is not None and record.duration >= 0
    assert [bad.task_id] == [r.task_id for r in made.list("failed")] == [r.task_id for r in made.list(name="bad one")]
    assert [good.task_id] == [r.task_id for r in made.list(tag="tagged")] == [r.task_id for r in made.list(limit=1)]
    assert [bad.task_id] == [r.task_id for r in made.list(after=good.task_id)]
    with pytest.raises(UnknownTask):  # not from the beginning again: who pages would never come to an end
        made.list(after="nobody")
    assert [] == made.list(older_than=3600)
    with pytest.raises(SettingsError, match="no status 'done'"):
        made.list("done")
    made.delete(bad.task_id)
    with pytest.raises(UnknownTask):
        made.get(bad.task_id)
    with pytest.raises(UnknownTask):
        made.delete(bad.task_id)


def test_only_so_many_ended_tasks_are_kept() -> None:
    """E-06: retain= keeps the newest; a large result is kept as a reference."""
    with service(retain=3) as made:
        ids = []
        for number in range(6):
            tracker = made.submit(jobs.named, "x" * 2000 if number == 5 else number)
            tracker.result(timeout=SOON)
            ids.append(tracker.task_id)
        assert ids[3:] == [record.task_id for record in made.list()]
        del tracker
        assert "str" == made.get(ids[5]).result.type
        with pytest.raises(UnknownTask):
            made.track(ids[0])
        assert 4 == made.track(ids[4]).result(timeout=SOON)


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_cancel_reaches_a_task_wherever_it_is(isolation: str, tmp_path: Path) -> None:
    """W-09: queued, created, scheduled, sent ahead and running ones; a second time says False."""
    with service(isolation=isolation) as made:
        for number in range(200):
            made.submit(jobs.double, number)  # measured as short: the next ones are sent ahead
        made.submit(jobs.double, 0).result(timeout=SOON)
        running = started(made, jobs.wait_politely)
        queued = [made.submit(jobs.double, number) for number in range(20)]
        later = made.with_options(delay=3600).submit(jobs.double, 1)
        held = made.create(TaskRequest(jobs.double, (1,)))
        for tracker in (*queued, later, held, running):
            assert made.cancel(tracker.task_id, "not wanted")
            with pytest.raises(TaskCancelled, match="not wanted"):
                tracker.result(timeout=SOON)
            assert not tracker.cancel() and not made.cancel(tracker.task_id)
            assert TaskStatus.CANCELLED == made.get(tracker.task_id).status
        events = recorded(queued[0]).over().values
        assert ["cancelled"] == [event.status for event in events]
        assert 4 == made.submit(jobs.double, 2).result(timeout=SOON)


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("reason", ["why", "cancelled", None])
def test_a_cancelled_task_tells_the_same_wherever_it_was(isolation: str, reason: str | None) -> None:
    """E-05, E-08: the error of one that waited and of one that ran; and a reason is a reason, whatever it says."""
    with service(isolation=isolation) as made:
        waiting = made.with_options(delay=60).submit(jobs.double, 1)
        running = started(made, jobs.wait_politely)
        for tracker in (waiting, running):
            assert tracker.cancel(reason)
            with pytest.raises(TaskCancelled) as caught:
                tracker.result(timeout=SOON)
            assert reason == caught.value.reason
        assert waiting.error == running.error and running.error is not None
        assert {"reason": reason} == running.error.details


def test_map_pulls_no_further_than_its_buffer() -> None:
    """R6: at most buffersize items are submitted and not yet emitted; results keep their order."""
    pulled, emitted, most = 0, 0, 0

    def items() -> Iterator[int]:
        nonlocal pulled, most
        for number in range(100_000_000):
            pulled += 1
            most = max(most, pulled - emitted)
            yield number

    over = threading.Event()
    got: list[int] = []

    def take(value: int) -> None:
        nonlocal emitted
        got.append(value)
        emitted += 1

    with service(2) as made:
        made.map(jobs.double, items(), buffersize=10).pipe(ops.take(2000)).subscribe(take, print, over.set)
        assert over.wait(SOON)
        assert list(range(0, 4000, 2)) == got
        assert most <= 11  # one more between its emission and the count here
        with pytest.raises(SettingsError):
            made.map(jobs.double)
        with pytest.raises(SettingsError):
            made.map(jobs.double, [1], buffersize=0)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 63, 64, 65, 80, 81, 300])
def test_map_ends_whatever_the_number_of_items(made: TaskService, count: int, ordered: bool) -> None:
    """R6: items are pulled some at a time, never more than fit, and none is left behind at the end."""
    pulled, emitted, most = 0, 0, 0

    def items() -> Iterator[int]:
        nonlocal pulled, most
        for number in range(count):
            pulled += 1
            most = max(most, pulled - emitted)
            yield number

    results: list[int] = []
    over = threading.Event()

    def take(result: int) -> None:
        nonlocal emitted
        emitted += 1
        results.append(result)

    made.map(jobs.double, items(), ordered=ordered).subscribe(take, print, over.set)
    assert over.wait(SOON)
    assert [2 * number for number in range(count)] == (results if ordered else sorted(results))
    assert most <= 64


def test_a_map_waits_for_no_item_with_one_that_is_there(made: TaskService) -> None:
    """R6: the next item may come late, or be made of the result of the one before it."""
    results: list[int] = []
    came = threading.Condition()
    waited: list[bool] = []

    def items() -> Iterator[int]:
        yield 1
        for count in range(1, 5):
            with came:
                waited.append(came.wait_for(lambda count=count: len(results) >= count, SOON))  # type: ignore[misc]
            yield results[-1]

    def take(result: int) -> None:
        with came:
            results.append(result)
            came.notify_all()

    over = threading.Event()
    made.map(jobs.double, items()).subscribe(take, print, over.set)
    assert over.wait(SOON)
    assert [2, 4, 8, 16, 32] == results and all(waited)


@pytest.mark.parametrize("buffersize", [1, 2, 3, 7, 8, 100, 1000])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_of_items_at_hand_is_as_lazy(buffersize: int, ordered: bool) -> None:
    """R6: of a list too only so many are submitted and not emitted, whatever is submitted together; each is a task."""
    submitted: set[str] = set()
    emitted, most = 0, 0
    over = threading.Event()
    with service(2, isolation="process") as made:
        enqueue = made.engine.store.enqueue

        def counted(tasks: Any) -> Any:
            nonlocal most
            submitted.update(task.task_id for task in tasks)
            most = max(most, len(submitted) - emitted)
            return enqueue(tasks)

        def take(_: int) -> None:
            nonlocal emitted
            emitted += 1

        made.engine.store.enqueue = counted  # type: ignore[method-assign]
        events = recorded(made.events)
        made.map(jobs.double, [*range(500)], ordered=ordered, buffersize=buffersize).subscribe(take, print, over.set)
        assert over.wait(SOON) and 500 == emitted == len(submitted)
        assert made.flush(SOON)
        assert most <= buffersize
        seen: dict[str, list[Any]] = {}
        for event in events.values:
            seen.setdefault(event.task_id, []).append((event.seq, event.status, event.attempt))
        assert submitted == seen.keys()
        assert all([(1, "running", 1), (2, "succeeded", 1)] == own for own in seen.values())
        assert all(made.get(task_id).status == "succeeded" for task_id in submitted)


def test_an_item_that_cannot_travel_ends_the_map() -> None:
    """R26: those before it have been submitted; what is refused is no task, nor is what comes after it."""
    with service(isolation="process") as made:
        failed = recorded(made.map(jobs.double, [1, 2, threading.Lock(), 4])).over()
        assert isinstance(failed.error, PayloadError) and "args[0]" in str(failed.error)
        assert 2 == len(made.list())


def test_map_names_the_item_that_failed(made: TaskService) -> None:
    """E-06: on_failure raise and emit; several iterables; unordered results; a failing iterable."""
    failed = recorded(made.map(jobs.fail_on, [3] * 9, range(9))).over()
    assert [0, 1, 2] == failed.values
    assert isinstance(failed.error, ValueError) and "item 3 of the map" in "".join(failed.error.__notes__)
    emitted = recorded(made.map(jobs.fail_on, [3] * 9, range(9), on_failure="emit")).over()
    assert emitted.completed and 9 == len(emitted.values)
    assert isinstance(emitted.values[3], ValueError)
    unordered = recorded(made.map(jobs.double, range(50), ordered=False)).over()
    assert set(range(0, 100, 2)) == set(unordered.values)
    assert recorded(made.map(jobs.double, [])).over().completed

    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("the source broke")

    assert "the source broke" in str(recorded(made.map(jobs.double, broken())).over().error)


@pytest.mark.parametrize("kind", [list, iter])
def test_a_map_whose_items_would_be_one_task_says_so(made: TaskService, kind: Any) -> None:
    """E-06: with a dedup_key the second item has no task of its own, and nobody would tell of its result."""
    failed = recorded(made.with_options(dedup_key="same", delay=60).map(jobs.double, kind([1, 2, 3]))).over()
    assert isinstance(failed.error, SettingsError) and "dedup_key" in str(failed.error)


def test_map_ends_when_the_service_stops(tmp_path: Path) -> None:
    """R24: who waits for a map's results is told that the service stopped."""
    gate = Gate(tmp_path)
    with service() as made:
        running = recorded(made.events)
        results = recorded(made.map(jobs.wait_at, [gate.path] * 5))
        running.wait(lambda r: bool(r.values))
        stopper = threading.Thread(target=made.stop, kwargs={"force": True})
        stopper.start()
        assert isinstance(results.over().error, ServiceStopped)
        stopper.join(SOON)


def test_a_deferred_task_is_submitted_by_each_subscriber(made: TaskService, tmp_path: Path) -> None:
    """E-06: cold: retry submits again, concat_map one after the other, switch_map cancels the one before."""
    cold = made.defer(jobs.double, 4)
    assert 0 == len(made.list())
    assert [8] == recorded(cold).over().values and [8] == recorded(cold).over().values
    again = made.defer(jobs.fail_until, str(tmp_path / "tries"), 2).pipe(ops.retry(5))
    assert [3] == recorded(again).over().values
    notes = str(tmp_path / "notes")
    chained = rx.from_(["a", "b", "c"]).pipe(ops.concat_map(lambda word: made.defer(jobs.note, notes, word)))
    assert ["a", "b", "c"] == recorded(chained).over().values == Path(notes).read_text("utf-8").split()
    source: Subject[Any] = Subject()
    events = recorded(made.events)
    switched = recorded(source.pipe(ops.map(lambda make: make()), ops.switch_latest()))
    source.on_next(lambda: made.defer(jobs.wait_politely))
    events.wait(lambda r: any(e.kind == "progress" for e in r.values))
    source.on_next(lambda: made.defer(jobs.double, 21))
    source.on_completed()
    assert [42] == switched.over().values
    assert made.flush(SOON)
    events.wait(lambda r: any(e.kind == "status" and e.status == "cancelled" for e in r.values))


def test_options_add_up(made: TaskService) -> None:
    """E-06: with_options gives a view; views of views and a handler's own options add up."""
    view = made.with_options(name="mine").with_options(tags=["a"])
    tracker = view.submit(jobs.named, 1)
    assert 1 == tracker.result(timeout=SOON)
    record = made.get(tracker.task_id)
    assert ("mine", ("a",), 3) == (record.name, record.tags, record.priority)


def test_pause_and_resume(made: TaskService) -> None:
    """W-02: nothing starts while paused; explain says so; health and status stay answerable."""
    assert 2 == made.submit(jobs.double, 1).result(timeout=SOON)
    pool = recorded(made.pool)
    made.pause()
    pool.wait(lambda r: any(e.kind == "pool_paused" for e in r.values))
    tracker = made.submit(jobs.double, 5)
    assert made.flush(SOON)
    assert not tracker.done and any("paused" in line for line in made.explain())
    assert 1 == made.status().pending and made.health()["ok"]
    made.resume()
    assert 10 == tracker.result(timeout=SOON)
    pool.wait(lambda r: any(e.kind == "pool_resumed" for e in r.values))


def test_scaling_is_clamped_and_seen(made: TaskService) -> None:
    """W-03: scale returns the clamped number; workers come and go."""
    made.start()
    pool = recorded(made.pool)
    assert 3 == made.scale(3)
    pool.wait(lambda r: len([e for e in r.values if e.kind == "ready"]) == 2)
    assert 3 == len(made.workers())
    assert 1 == made.scale(0)
    pool.wait(lambda r: len([e for e in r.values if e.kind == "stopped"]) == 2)
    assert 1 == len(made.workers())


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_the_pool_shows_which_workers_are_busy_and_idle(isolation: str, tmp_path: Path) -> None:
    """W-02: busy when it gets work, idle when it has none, each once."""
    gate = Gate(tmp_path)
    with service(2, isolation=isolation) as made:
        pool = recorded(made.pool)
        made.start()
        pool.wait(lambda r: 2 == sum(event.kind == "idle" for event in r.values))
        running = started(made, jobs.wait_at, gate.path)
        worker = made.get(running.task_id).worker_id

        def turns(_: Any = None) -> list[str]:
            return [e.kind for e in pool.values if e.worker_id == worker and e.kind in ("ready", "busy", "idle")]

        pool.wait(lambda _: ["ready", "idle", "busy"] == turns())
        gate.open()
        running.result(timeout=SOON)
        pool.wait(lambda _: ["ready", "idle", "busy", "idle"] == turns())


def test_a_slow_subscriber_of_the_pool_gets_the_latest_of_each_worker() -> None:
    """R6: what waits of busy and idle is bounded, and the last word is not lost."""
    with service(2, stall_timeout=SOON) as made:
        pool = Recorder()
        held = threading.Event()

        def take(event: Any) -> None:
            assert held.wait(SOON)
            pool.on_next(event)

        made.pool.subscribe(take)
        made.start()
        for number in range(1500):
            made.submit(jobs.double, number).result(timeout=SOON)
        held.set()
        made.flush(SOON)
        turned = [event for event in pool.values if event.kind in ("busy", "idle")]
        last = {event.worker_id: event.kind for event in turned}
        assert {worker.worker_id: "idle" for worker in made.workers()} == last
        assert 1000 <= len(turned) <= 1002


def test_scaling_before_the_start_sets_how_many_are_started() -> None:
    """W-03: the number returned is what there will be; inline is one, and no workers stay none."""
    with service(2) as made:
        assert (256, 1, 3) == (made.scale(9999), made.scale(-5), made.scale(3))
        assert 3 == made.start().status().workers
    with service(3, isolation="inline") as made:
        assert 1 == made.scale(4) == made.start().scale(4) == made.status().workers
    with service(0) as made:
        assert 0 == made.scale(4) == made.start().scale(4) == made.status().workers


@pytest.mark.parametrize("wrong", ["3", 1.5, True, None])
def test_a_wrong_number_of_workers_is_refused(made: TaskService, wrong: Any) -> None:
    """W-03: by name."""
    with pytest.raises(SettingsError, match="whole number of workers"):
        made.scale(wrong)


def test_a_tracker_shows_that_its_task_waits_for_its_time(made: TaskService) -> None:
    """E-08, E-16: the tracker and the record say the same."""
    tracker = made.with_options(delay=60).submit(jobs.double, 1)
    assert TaskStatus.SCHEDULED == tracker.status == made.get(tracker.task_id).status


def test_the_ledger_is_exact() -> None:
    """L-05: produced = delivered + conflated + dropped in every lane, while it runs and after the stop."""
    with service(2) as made:
        seen = recorded(made.events)
        for tracker in as_completed([made.submit(jobs.chat, 200) for _ in range(10)], timeout=SOON):
            assert 200 == tracker.result()
        assert made.flush(SOON)
        ledger = made.ledger()
        assert ledger.exact
        assert (20, 2000, 2000) == (ledger.status.produced, ledger.log.produced, ledger.output.produced)
        assert ledger.progress.produced == 2000
        kinds = [event.kind for event in seen.values]
        assert (20, 2000, 2000) == (kinds.count("status"), kinds.count("log"), kinds.count("output"))
        report = made.stop()
        assert made.ledger().exact and not report.undelivered and not report.unfinished


def test_futures_and_as_completed(made: TaskService, tmp_path: Path) -> None:
    """E-08: a tracker is a concurrent.futures.Future too."""
    gate = Gate(tmp_path)
    slow = started(made, jobs.wait_at, gate.path, "slow")
    with pytest.raises(TimeoutError):
        slow.result(timeout=0)
    quick = made.submit(jobs.double, 1)
    assert not wait([slow.future], timeout=0).done
    gate.open()
    assert wait([slow.future, quick.future], timeout=SOON, return_when=FIRST_COMPLETED).done
    assert ("slow", 2) == (slow.future.result(SOON), quick.future.result(SOON))
    called = threading.Event()
    quick.future.add_done_callback(lambda _: called.set())
    assert called.wait(SOON)
    assert {slow, quick} == set(as_completed([slow, quick], timeout=SOON))


def test_a_mixed_pool_routes_by_isolation_and_queue() -> None:
    """W-01: several kinds of worker in one pool; what no worker takes is refused at submit."""
    import os

    specs = [WorkerSpec(1, "thread", queues=("fast",)), WorkerSpec(1, "process")]
    with service(specs) as made:
        here = made.with_options(isolation="thread", queue="fast").submit(jobs.where).result(timeout=SOON)
        there = made.with_options(isolation="process").submit(jobs.where).result(timeout=SOON)
        assert os.getpid() == here[0] != there[0]
        assert {"thread", "process"} == {info.isolation for info in made.workers()}
        with pytest.raises(SettingsError, match="no worker takes"):
            made.with_options(isolation="thread").submit(jobs.where)


def test_functions_travel_by_value() -> None:
    """E-06: lambdas, closures and partials run in a process; a changed closure is sent anew."""
    import functools

    factor = 3

    def scale(number: int) -> int:
        return number * factor

    with service(isolation="process") as made:
        assert 6 == made.submit(lambda: 6).result(timeout=SOON)
        assert 6 == made.submit(scale, 2).result(timeout=SOON)
        factor = 5
        assert 10 == made.submit(scale, 2).result(timeout=SOON)
        assert 8 == made.submit(functools.partial(jobs.double, 4)).result(timeout=SOON)


def test_a_retry_policy_object_is_honoured(made: TaskService, tmp_path: Path) -> None:
    """E-12: attempts are counted in the record."""
    policy = RetryPolicy(max_attempts=4, backoff="fixed", base=0.001)
    tracker = made.with_options(retry=policy).submit(jobs.fail_until, str(tmp_path / "tries"), 3)
    assert 4 == tracker.result(timeout=SOON)
    assert 4 == made.get(tracker.task_id).attempt


def test_what_cannot_be_is_refused_by_name() -> None:
    """E-06: unknown settings, options, handlers and isolations raise clearly, at the door."""
    for wrong, text in (
        ({"drain_time": 3}, "drain_time"),
        ({"isolation": "docker"}, "isolation"),
        ({"workers": -1}, "workers"),
        ({"store": "mongo"}, "store"),
        ({"on_exit": "later"}, "on_exit"),
        ({"retain": -1}, "retain"),
        ({"drain_timeout": "3"}, "drain_timeout"),
        ({"max_tasks": 0}, "max_tasks is a whole number from 1 or None, not 0"),
        ({"max_tasks": 2.5}, "max_tasks"),
        ({"max_tasks": True}, "max_tasks"),
        ({"max_memory": 512}, "max_memory is a whole number of bytes from 1048576 or None, not 512"),
        ({"max_memory": "512 MB"}, "max_memory"),
        ({"max_task": 3}, "did you mean max_tasks"),
        ({"echo": "loud"}, "loud"),
        ({"echo": 5}, "log level 5"),
        ({"store": None}, "store is"),
        ({"store": 5}, "store is"),
        ({"modules": 5}, "modules holds names"),
        ({"modules": ["json", 5]}, "modules holds names"),
        ({"workers": 0, "concurrency": 0}, "concurrency"),
        ({"workers": 0, "isolation": "docker"}, "isolation"),
        ({"initializer": print, "initargs": 5}, "initargs"),
        ({"fallback": "nowhere"}, "fallback"),
        ({"fallback": 5}, "fallback"),
    ):
        with pytest.raises(SettingsError, match=text):
            TaskService(**{"workers": 1, **wrong})
    with service() as made:
        with pytest.raises(SettingsError, match="colour"):
            made.with_options(colour="red")
        with pytest.raises(SettingsError, match="priority"):
            made.with_options(priority="high")
        with pytest.raises(UnknownHandler, match=r"acceptance\.name'.*acceptance\.named"):
            made.submit("acceptance.name", 1)
        with pytest.raises(SettingsError, match="function"):
            made.submit(3)  # type: ignore[arg-type]
        assert 1 == made.submit("acceptance.named", 1).result(timeout=SOON)
        assert not made.list("failed")


def test_values_of_a_wrong_type_are_refused_by_name(made: TaskService) -> None:
    """E-06: at the door, and nothing has been submitted."""
    wrong: list[tuple[str, Callable[[Any], Any]]] = [
        ("push takes a TaskRequest", lambda service: service.push(jobs.double)),
        ("push takes a TaskRequest", lambda service: service.create(5)),
        ("from_seq", lambda service: service.track("x", from_seq="1")),
        ("status 5", lambda service: service.list(5)),
        ("name", lambda service: service.list(name=5)),
        ("limit", lambda service: service.list(limit=None)),
        ("limit", lambda service: service.list(limit=-1)),
        ("older_than", lambda service: service.list(older_than="1")),
        ("older_than", lambda service: service.list(older_than=-1)),
        ("timeout", lambda service: service.flush("1")),
        ("timeout", lambda service: service.stop(timeout="1")),
        ("timeout", lambda service: service.stop(timeout=-1)),
        ("function", lambda service: service.defer(5)),
        ("function", lambda service: service.map(5, [1])),
        ("iterables", lambda service: service.map(jobs.double, 5)),
        ("takes trackers", lambda _: list(as_completed([5]))),  # type: ignore[list-item]
        ("takes an observable", lambda _: iterate(5)),  # type: ignore[arg-type]
        ("takes an observable", lambda _: aiterate(5)),  # type: ignore[arg-type]
    ]
    for text, call in wrong:
        with pytest.raises(SettingsError, match=text):
            call(made)
    for call in (made.get, made.track, made.cancel, made.delete):
        for task_id in (5, None, []):
            with pytest.raises(UnknownTask):
                call(task_id)  # type: ignore[arg-type]
    with service(0) as alone, pytest.raises(SettingsError, match="isolation"):
        alone.with_options(isolation="nowhere").submit(jobs.double, 1)
    assert not made.list() and not made.status().running
    with service(isolation="process") as made, pytest.raises(PayloadError, match=r"args\[1\]"):
        made.submit(jobs.named, 1, threading.Lock())


def test_max_queue_refuses_what_is_too_much(tmp_path: Path) -> None:
    """E-06: with max_queue set, submit and push raise QueueFull; else they have no limit."""
    gate = Gate(tmp_path)
    with service(max_queue=2) as made:
        blocker = started(made, jobs.wait_at, gate.path)
        kept = [made.with_options(timeout=60).submit(jobs.double, number) for number in range(2)]
        with pytest.raises(QueueFull):
            for _ in range(3):
                made.submit(jobs.double, 3)
        gate.open()
        assert [None, 0, 2] == [tracker.result(timeout=SOON) for tracker in (blocker, *kept)]


def test_a_failure_that_nobody_observes_is_logged_once(made: TaskService, caplog: pytest.LogCaptureFixture) -> None:
    """E-19: neither tracker nor subscriber: one record of the logger "rxtasks" names task and error."""
    held = made.submit(jobs.fail, "held")
    with pytest.raises(ValueError, match="held"):
        held.result(timeout=SOON)
    made.submit(jobs.fail, "nobody looks")
    made.submit(jobs.double, 1).result(timeout=SOON)
    assert made.flush(SOON)
    said = [record.getMessage() for record in caplog.records if record.name == "rxtasks"]
    assert 1 == len(said), said
    assert "nobody looks" in said[0] and "tests.acceptance.jobs:fail" in said[0]
    caplog.clear()
    events = recorded(made.events)
    made.submit(jobs.fail, "on the bus")
    events.wait(lambda r: any(isinstance(e, StatusEvent) and e.status == "failed" for e in r.values))
    assert made.flush(SOON)
    assert [] == [record for record in caplog.records if record.name == "rxtasks"]


def test_options_of_a_request_win_over_the_handlers(made: TaskService) -> None:
    """E-06: TaskRequest.options replace the handler's defaults."""
    tracker = made.push(TaskRequest(jobs.named, (1,), options=TaskOptions(name="other")))
    tracker.result(timeout=SOON)
    assert ("other", 0) == (made.get(tracker.task_id).name, made.get(tracker.task_id).priority)


def test_a_request_pushed_again_as_it_ends_still_has_its_result(made: TaskService) -> None:
    """R24: whenever the second push or track comes, its tracker ends, with the same result."""
    for number in range(200):
        request = TaskRequest(jobs.double, (number,))
        first = made.push(request)
        again = [made.push(request) if step % 2 else made.track(request.task_id) for step in range(6)]
        assert [number * 2] * 7 == [tracker.result(timeout=SOON) for tracker in (first, *again)]


def test_requests_pushed_together_are_taken_all_or_none(made: TaskService) -> None:
    """E-06: in one go; one that is refused takes the others with it; ids and keys that stand for a task give that task."""
    requests = [TaskRequest(jobs.double, (number,)) for number in range(300)]
    trackers = made.push_all(requests)
    assert [request.task_id for request in requests] == [tracker.task_id for tracker in trackers]
    assert list(range(0, 600, 2)) == [tracker.result(timeout=SOON) for tracker in trackers]
    again = made.push_all([requests[3], TaskRequest(jobs.double, (7,)), requests[3]])
    assert [6, 14, 6] == [tracker.result(timeout=SOON) for tracker in again]
    one, other = made.with_options(dedup_key="k", delay=60).push_all([TaskRequest(jobs.double, (1,)) for _ in range(2)])
    assert one.task_id == other.task_id and one.cancel()
    before = len(made.list(limit=1000))
    with pytest.raises(UnknownHandler):
        made.push_all([TaskRequest(jobs.double, (1,)), TaskRequest("no:such")])
    with pytest.raises(SettingsError, match="the one at 1"):
        made.push_all([TaskRequest(jobs.double, (1,)), jobs.double])  # type: ignore[list-item]
    assert before == len(made.list(limit=1000)) and [] == made.push_all([])


@pytest.mark.parametrize("isolation", ["inline", "process"])
def test_requests_pushed_together_run_anywhere(isolation: str) -> None:
    """E-06: inline they have run when push_all returns."""
    with service(isolation=isolation) as made:
        trackers = made.push_all([TaskRequest(jobs.double, (number,)) for number in range(9)])
        assert isolation != "inline" or all(tracker.done for tracker in trackers)
        assert [0, 2, 4, 6, 8, 10, 12, 14, 16] == [tracker.result(timeout=SOON) for tracker in trackers]
