"""One task as its caller sees it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import subprocess
import sys
import threading
import weakref
from typing import Any

import pytest
from reactivex import operators as ops
from reactivex.internal import DisposedException
from reactivex.subject import Subject

from rxtasks.errors import LogTruncated, ServiceStopped, TaskCancelled, TaskFailed
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, StatusEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe import settling
from rxtasks.observe.bus import TaskEventBus
from rxtasks.observe.completion import as_completed
from rxtasks.observe.tracker import TaskTracker
from rxtasks.wire.outcome import Outcome
from tests.unit.observe.support import NOW, SOON, Core, Sink

#: Subscription internals, and what ABCMeta puts into every class.
INTERNAL = {"_subscribe_core", "_abc_impl"}
FAILED = Outcome(TaskStatus.FAILED, error=TaskErrorInfo("app.Odd", "went wrong", traceback="Traceback ..."))


def test_it_shows_where_the_task_stands_before_anything_is_delivered() -> None:
    """E-08: status, progress, log tail and result come from the core, not from the delivery."""
    core = Core()
    tracker = core.submit("t", "resize")
    assert (tracker.status, tracker.done, tracker.last_progress, tracker.log_tail, tracker.error) == (
        TaskStatus.PENDING,
        False,
        None,
        [],
        None,
    )
    tracker.note_status(TaskStatus.SCHEDULED)
    assert tracker.status == "scheduled"
    core.run()
    core.log("one")
    core.progress(3)
    assert (tracker.status, tracker.last_progress.current) == ("running", 3)  # type: ignore[union-attr]
    assert [event.message for event in tracker.log_tail] == ["one"]
    core.succeed({"a": 1})
    assert (tracker.status, tracker.done, tracker.result()) == (TaskStatus.SUCCEEDED, True, {"a": 1})
    assert repr(tracker) == "<TaskTracker t resize succeeded>"
    tracker.note_status(TaskStatus.PENDING)
    assert tracker.status == "succeeded"


def test_the_first_outcome_wins() -> None:
    """R9: a second outcome changes nothing."""
    tracker = Core().submit()
    tracker.settle(Outcome(TaskStatus.SUCCEEDED, ["j", 1]))
    tracker.settle(FAILED)
    assert tracker.result() == 1 and tracker.status == "succeeded"


def test_result_waits_for_the_task_and_raises_what_it_raised() -> None:
    """E-08: result(timeout) in several threads, settled from another."""
    core = Core()
    tracker = core.submit("t", "job")
    with pytest.raises(TimeoutError, match=r"task t \(job\) has not ended within 0 s"):
        tracker.result(timeout=0)
    with pytest.raises(TimeoutError):
        tracker.result(timeout=-1)
    assert not tracker._waiters
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(tracker.result(SOON))) for _ in range(4)]
    for thread in threads:
        thread.start()
    core.succeed(7)
    for thread in threads:
        thread.join(SOON)
    assert results == [7] * 4
    failed = core.submit("f")
    core.end(FAILED, "f")
    with pytest.raises(TaskFailed, match=r"app\.Odd: went wrong"):
        failed.result()
    assert failed.error == FAILED.error


def test_the_error_of_an_attempt_shows_while_it_is_retried() -> None:
    """E-13: error is the last attempt's until the task has ended."""
    tracker = TaskTracker("t")
    info = TaskErrorInfo("ValueError", "x")
    tracker.observe(StatusEvent("t", 1, 1, "w", NOW, TaskStatus.RUNNING))
    tracker.observe(StatusEvent("t", 2, 1, "w", NOW, TaskStatus.RETRYING, None, info))
    tracker.observe(StatusEvent("t", 3, 2, "w", NOW, TaskStatus.RUNNING))
    assert tracker.error == info and tracker.status == "running"


def test_its_streams_are_the_parts_of_its_stream(core: Core) -> None:
    """E-08: statuses, logs, progress and outputs complete with the task."""
    tracker = core.submit()
    sinks = {name: Sink() for name in ("statuses", "logs", "progress", "outputs")}
    for name, sink in sinks.items():
        getattr(tracker, name).subscribe(sink)
    core.run()
    core.log("x")
    core.progress(1)
    core.output([1])
    core.end(FAILED)
    core.log("other", "other task")
    core.flush()
    assert {name: sink.seqs for name, sink in sinks.items()} == {
        "statuses": [1, 5],
        "logs": [2],
        "progress": [3],
        "outputs": [4],
    }
    assert all(sink.got[-1] == "done" for sink in sinks.values())


def test_outcome_emits_the_result_or_fails(core: Core) -> None:
    """E-08: outcome is where failure raises; the event stream itself completes."""
    good, bad, events = Sink(), Sink(), Sink()
    core.submit("a").outcome.subscribe(good)
    failing = core.submit("b")
    failing.outcome.subscribe(bad)
    failing.subscribe(events)
    core.succeed(5, "a")
    core.end(FAILED, "b")
    core.flush()
    late = Sink()
    failing.outcome.subscribe(late)
    core.flush()
    assert good.got == [5, "done"]
    assert [type(value) for value in bad.got] == [type(value) for value in late.got] == [TaskFailed]
    assert events.got[-1] == "done" and events.got[0].status == "failed"


def test_a_subscriber_to_outcome_that_raises_is_reported(core: Core) -> None:
    """R15: and nothing else happens."""

    def boom(_: Any) -> None:
        raise ValueError("boom")

    core.submit().outcome.subscribe(boom)
    core.succeed(1)
    core.flush()
    assert [str(error) for _, error in core.reports] == ["boom"]


def test_waiting_on_an_event_loop_does_not_hold_it_and_may_be_cancelled() -> None:
    """E-18: await in several coroutines; cancelling the await does not cancel the task."""
    core = Core()
    tracker, other = core.submit("a"), core.submit("b")

    async def scene() -> list[Any]:
        waiting = [asyncio.ensure_future(tracker) for _ in range(3)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(other, 0.01)
        assert not core.cancelled and not other._waiters
        threading.Thread(target=core.succeed, args=(9, "a")).start()
        return [*await asyncio.gather(*waiting), await tracker]

    assert asyncio.run(scene()) == [9, 9, 9, 9]


def test_a_loop_that_was_closed_meanwhile_hurts_nobody() -> None:
    """E-18: the core wakes the others whatever became of one waiter's loop."""
    core = Core()
    tracker = core.submit()
    loop = asyncio.new_event_loop()

    async def wait() -> None:
        await tracker

    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(tracker.result(SOON)))
    thread.start()
    core.succeed(1)
    thread.join(SOON)
    assert results == [1]
    del task


def test_a_large_result_is_rebuilt_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """E-18: unpickling megabytes does not hold the loop."""
    import pickle

    monkeypatch.setattr(settling, "_LARGE", 1000)
    where: list[int] = []
    original = Outcome.result

    def spy(self: Outcome) -> Any:
        where.append(threading.get_ident())
        return original(self)

    monkeypatch.setattr(Outcome, "result", spy)
    tracker = Core().submit()
    blob = pickle.dumps(b"x" * 5000, 5)
    tracker.settle(Outcome(TaskStatus.SUCCEEDED, ["p", len(blob), "bytes", "x"], blob))

    async def scene() -> Any:
        return await tracker

    assert asyncio.run(scene()) == b"x" * 5000
    assert where and threading.get_ident() not in where


# -- futures ----------------------------------------------------------------------------------------------------------


def test_the_future_is_a_future(core: Core) -> None:
    """E-08: result, exception, done, running, wait and callbacks, as with any concurrent.futures.Future."""
    good, bad, gone = core.submit("a"), core.submit("b"), core.submit("c")
    futures = [good.future, bad.future, gone.future]
    assert good.future is futures[0] and isinstance(futures[0], concurrent.futures.Future)
    called = Sink()
    futures[0].add_done_callback(called.on_next)
    assert not futures[0].done() and not futures[0].running()
    core.run("a")
    assert futures[0].running()
    core.succeed(3, "a")
    core.end(FAILED, "b")
    core.end(Outcome(TaskStatus.CANCELLED, error=TaskErrorInfo("x", "enough")), "c")
    done, pending = concurrent.futures.wait(futures, timeout=SOON)
    assert done == set(futures) and not pending
    assert futures[0].result() == 3 and futures[0].exception() is None and not futures[0].running()
    assert isinstance(futures[1].exception(), TaskFailed)
    assert futures[2].cancelled() and not futures[1].cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        futures[2].exception()
    with pytest.raises(TaskCancelled, match="enough"):
        futures[2].result()
    core.flush()
    assert called.got == [futures[0]] and threading.get_ident() not in called.threads
    futures[0].add_done_callback(called.on_next)
    assert called.got == [futures[0]] * 2  # it has ended: at once
    assert "succeeded" in repr(futures[0])
    assert futures[0].cancel() is False and futures[2].cancel() is True


def test_first_exception_and_as_completed_work_on_futures() -> None:
    """E-08: concurrent.futures' own waiting functions see ours end."""
    core = Core()
    first, second = core.submit("a"), core.submit("b")
    futures = [first.future, second.future]
    timer = threading.Thread(target=lambda: (core.end(FAILED, "b"), core.succeed(1, "a")))
    timer.start()
    done, _ = concurrent.futures.wait(futures, SOON, return_when=concurrent.futures.FIRST_EXCEPTION)
    assert futures[1] in done
    assert set(concurrent.futures.as_completed(futures, SOON)) == set(futures)
    timer.join(SOON)


def test_wrap_future_takes_the_result_to_a_loop(core: Core) -> None:
    """E-08: asyncio.wrap_future: results, failures and cancellation."""
    trackers = [core.submit(name) for name in "abc"]

    async def scene() -> list[Any]:
        futures = [asyncio.wrap_future(tracker.future) for tracker in trackers]
        core.succeed(4, "a")
        core.end(FAILED, "b")
        core.end(Outcome(TaskStatus.CANCELLED), "c")
        return await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), SOON)

    good, bad, gone = asyncio.run(scene())
    assert good == 4 and isinstance(bad, TaskFailed) and isinstance(gone, asyncio.CancelledError)


def test_cancelling_asks_the_service() -> None:
    """W-09: cancel and the future's cancel reach the engine until the task has ended."""
    core = Core()
    tracker = core.submit()
    assert tracker.cancel("enough") is True and tracker.future.cancel() is True
    assert core.cancelled == [("t", "enough"), ("t", "cancelled through its future")]
    core.succeed(1)
    assert tracker.cancel() is False and tracker.future.cancel() is False
    assert len(core.cancelled) == 2
    assert TaskTracker("alone").cancel() is False


def test_a_callback_that_raises_is_reported(core: Core) -> None:
    """R15: the other callbacks of the future run."""
    tracker, called = core.submit(), Sink()

    def boom(_: Any) -> None:
        raise ValueError("callback")

    tracker.future.add_done_callback(boom)
    tracker.future.add_done_callback(called.on_next)
    core.succeed(1)
    core.flush()
    assert len(called.got) == 1
    assert [str(error) for _, error in core.reports] == ["callback"]


def test_a_result_that_cannot_be_rebuilt_is_the_futures_exception() -> None:
    """E-13: exception() says what result() raises."""
    core = Core()
    tracker = core.submit()
    tracker.settle(Outcome(TaskStatus.SUCCEEDED, ["p", 3, "app.Thing", "?"], b"bad"))
    error = tracker.future.exception()
    assert error is not None
    with pytest.raises(type(error)):
        tracker.future.result()


# -- as_completed -----------------------------------------------------------------------------------------------------


def test_as_completed_yields_each_tracker_once_as_it_ends() -> None:
    """E-08: ended ones first, then in the order of ending; told by the core."""
    core = Core()
    first, second, third = (core.submit(name) for name in "abc")
    core.succeed(1, "b")
    stream = as_completed([first, second, second, third], timeout=SOON)
    assert next(stream) is second
    threading.Thread(target=lambda: (core.succeed(1, "c"), core.succeed(1, "a"))).start()
    assert list(stream) == [third, first]
    assert list(as_completed([])) == []


def test_as_completed_gives_up_after_its_timeout_and_leaves_nothing_behind() -> None:
    """E-08: TimeoutError says how many; a waiter that is dropped is forgotten."""
    core = Core()
    trackers = [core.submit("a"), core.submit("b")]
    core.succeed(1, "a")
    stream = as_completed(trackers, timeout=0)
    assert next(stream) is trackers[0]
    with pytest.raises(TimeoutError, match="1 of 2 tasks have not ended within 0 s"):
        next(stream)
    assert not trackers[1]._waiters
    stream = as_completed(trackers)
    next(stream)
    assert trackers[1]._waiters
    stream.close()  # type: ignore[attr-defined]
    assert not trackers[1]._waiters


# -- alone ------------------------------------------------------------------------------------------------------------


def feed(bus: Subject[Any], core: Core) -> None:
    for event in (
        core.status("t", TaskStatus.RUNNING),
        core.status("tt", TaskStatus.RUNNING),
        core.make(LogEvent, "t", "INFO", "x"),
        core.status("t", TaskStatus.SUCCEEDED, 5),
    ):
        bus.on_next(event)


def test_a_tracker_is_an_observer_of_any_stream_of_events() -> None:
    """E-08: without a service it picks out its task by its exact id, takes each seq once and settles by itself."""
    bus: Subject[Any] = Subject()
    tracker, sink = TaskTracker("t"), Sink()
    bus.subscribe(tracker)
    tracker.subscribe(sink)
    feed(bus, Core())
    feed(bus, Core())
    bus.on_completed()
    late = Sink()
    tracker.subscribe(late)
    assert sink.seqs == late.seqs == [1, 2, 3] and sink.got[-1] == late.got[-1] == "done"
    assert tracker.result(0) == 5 and tracker.status == "succeeded"


@pytest.mark.parametrize("failed", [False, True])
def test_a_tracker_whose_source_ends_first_ends_too(failed: bool) -> None:
    """R24: a tracker always ends; result() raises ServiceStopped, or what the source failed with."""
    bus = TaskEventBus()
    tracker, sink, late = TaskTracker("t"), Sink(), Sink()
    bus.subscribe(tracker)
    tracker.subscribe(sink)
    bus.on_next(Core().status("t", TaskStatus.RUNNING))
    error = OSError("lost")
    bus.on_error(error) if failed else bus.on_completed()
    tracker.subscribe(late)
    expected = OSError if failed else ServiceStopped
    assert [type(value) for value in sink.got] == [type(value) for value in late.got] == [StatusEvent, expected]
    with pytest.raises(expected):
        tracker.result(0)


def test_a_tracker_of_a_service_ignores_what_else_is_fed_to_it(core: Core) -> None:
    """R19: subscribed to the bus by its user, too, it takes no event twice."""
    tracker, sink = core.submit(), Sink()
    core.bus.subscribe(tracker)
    tracker.subscribe(sink)
    core.run()
    core.succeed(1)
    core.delivery.complete(core.bus)
    core.flush()
    assert sink.seqs == [1, 2] and tracker.result() == 1


def test_a_disposed_tracker_refuses_subscribers(core: Core) -> None:
    """R14: as a disposed Subject."""
    tracker, sink, refused = core.submit(), Sink(), Sink()
    tracker.subscribe(sink)
    core.run()
    core.flush()
    tracker.dispose()
    core.log("x")
    tracker.subscribe(refused)
    core.flush()
    assert sink.seqs == [1] and [type(error) for error in refused.got] == [DisposedException]


# -- what it costs ----------------------------------------------------------------------------------------------------


def test_a_tracker_is_few_objects() -> None:
    """E-19: per task one object of ours that the garbage collector has to visit, also after its statuses and its end.

    What is kept of them are tuples of strings and numbers, which a collection stops to look at.
    """
    core = Core()
    events = [core.status("t", TaskStatus.RUNNING), core.status("t", TaskStatus.SUCCEEDED)]
    outcome = Outcome(TaskStatus.SUCCEEDED, ("j", 1))
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        trackers = [TaskTracker("t", name="n", control=core) for _ in range(100)]
        made = len(gc.get_objects()) - before
        for tracker in trackers:
            for event in events:
                tracker.observe(event)
            tracker.settle(outcome)
        gc.collect()
        folded = len(gc.get_objects()) - before
    finally:
        gc.enable()
    assert made <= 105 and folded <= 105
    assert trackers[0]._statuses == events


def test_an_ended_tracker_is_freed_by_reference_counting(core: Core) -> None:
    """E-19: no cycle keeps a tracker whose result was waited for until the collector comes."""
    tracker = core.submit()
    core.run()
    thread = threading.Thread(target=tracker.result, args=(SOON,))
    thread.start()
    core.succeed(1)
    thread.join(SOON)
    there = weakref.ref(tracker)
    gc.disable()
    try:
        del core.trackers["t"], tracker, thread
        assert there() is None
    finally:
        gc.enable()


def test_operators_see_what_is_already_there(core: Core) -> None:
    """E-08: a late pipeline gets the snapshot like any late subscriber."""
    tracker, sink = core.submit(), Sink()
    core.run()
    for number in range(5):
        core.log(str(number))
    core.flush()
    tracker.logs.pipe(ops.map(lambda event: event.message), ops.take(3)).subscribe(sink)
    core.flush()
    assert sink.got == ["0", "1", "2", "done"]
    assert not core.delivery.routes.by_id


def test_names_of_observable_are_left_alone() -> None:
    """E-08: a tracker redefines nothing of Observable or Subject."""
    allowed = {"on_next", "on_error", "on_completed", "dispose", "__await__", "__init__", "__repr__"}
    known = set(dir(Subject()))
    for cls in (TaskTracker, TaskEventBus):
        ours = {name for name in vars(cls) if not (name.startswith("_") and name not in known)}
        assert {name for name in ours & known if not name.startswith("__")} <= allowed | INTERNAL


def test_resumed_starts_at_a_seq(core: Core) -> None:
    """R23: track(id, from_seq=n) gives the stream from n on; a seq no longer held raises LogTruncated."""
    tracker = core.submit()
    core.run()
    for number in range(1200):
        core.log(str(number))
    with pytest.raises(LogTruncated) as caught:
        tracker.resumed(5)
    assert caught.value.first_seq == 202
    assert tracker.resumed(1) is tracker
    resumed, sink, logs = tracker.resumed(1200), Sink(), Sink()
    resumed.subscribe(sink)
    resumed.logs.subscribe(logs)
    core.succeed(8)
    core.flush()
    assert sink.seqs == [1200, 1201, 1202] and sink.got[-1] == "done" and logs.seqs == [1200, 1201]
    assert resumed.result(0) == 8 and resumed.done and resumed.status == "succeeded"
    assert resumed.future is tracker.future and len(resumed.log_tail) == 1000


def test_trackers_that_waited_together_have_no_dict_each() -> None:
    """E-06: what a task's events bring lies in the object; a dict for each would be the garbage collector's burden.

    In a process of its own: the first instances of a class settle it.
    """
    program = """
import gc
from datetime import UTC, datetime
from rxtasks.lifecycle.events import StatusEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.tracker import TaskTracker

many = [TaskTracker(f"T{number}") for number in range(100)]
for tracker in many:
    for seq, status in enumerate((TaskStatus.RUNNING, TaskStatus.SUCCEEDED), 1):
        tracker.observe(StatusEvent(tracker.task_id, seq, 1, "w", datetime.now(UTC), status), batches=seq)
    tracker.settle(["j", 5])
    assert tracker.result() == 5
print(sum(any(type(held) is dict for held in gc.get_referents(tracker)) for tracker in many))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SOON * 4)
    assert ("", "0\n") == (done.stderr, done.stdout)
