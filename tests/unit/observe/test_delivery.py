"""The delivery thread: one order, one thread, nobody hurts anybody."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops

from rxtasks.lifecycle.status import TaskStatus
from rxtasks.reactive.subject import RxSubject
from tests.unit.observe.support import SOON, Core, Sink


def delivery_threads() -> int:
    return sum(thread.name == "rxtasks-delivery" for thread in threading.enumerate())


def test_all_streams_are_served_by_one_thread_in_one_order(core: Core) -> None:
    """R12: bus and trackers get their events on one thread that is not the publisher's, in the order published."""
    bus, one, two, merged = Sink(), Sink(), Sink(), Sink()
    first, second = core.submit("a"), core.submit("b")
    core.bus.subscribe(bus)
    first.subscribe(one)
    second.subscribe(two)
    rx.merge(first, second).subscribe(merged)
    published = [core.run("a"), core.run("b"), core.log("x", "a"), core.log("y", "b"), core.succeed(1, "b")]
    published.append(core.succeed(2, "a"))
    core.flush()
    assert bus.got == published
    assert merged.got == [*published, "done"]
    assert one.got == [event for event in published if event.task_id == "a"] + ["done"]
    assert two.got == [event for event in published if event.task_id == "b"] + ["done"]
    assert bus.threads == one.threads == two.threads == merged.threads
    assert len(bus.threads) == 1 and threading.get_ident() not in bus.threads


def test_several_streams_get_an_event_in_the_order_in_which_they_were_added(core: Core) -> None:
    """E-01: engine and bus show the same events."""
    engine: RxSubject[Any] = RxSubject()
    core.delivery.stream(engine)
    got = []
    core.bus.subscribe(lambda event: got.append(("bus", event.seq)))
    engine.subscribe(lambda event: got.append(("engine", event.seq)))
    core.run()
    core.log("x")
    core.flush()
    assert got == [("bus", 1), ("engine", 1), ("bus", 2), ("engine", 2)]


def test_what_is_observed_of_a_worker_gets_its_events(core: Core) -> None:
    """W-02: pool.worker(id).events: the events of the tasks in that worker."""
    worker: RxSubject[Any] = RxSubject()
    sink = Sink()
    worker.subscribe(sink)
    core.delivery.routes.watch("w", worker)
    published = [core.run("a"), core.run("b")]
    core.delivery.complete(worker, OSError("lost"))
    core.flush()
    assert sink.got[:2] == published
    assert isinstance(sink.got[2], OSError)


def test_without_subscribers_there_is_no_thread_and_nothing_waits() -> None:
    """L-04: events that nobody takes cost no thread and no memory, and are in the ledger."""
    before = delivery_threads()
    core = Core()
    core.submit()
    core.run()
    core.succeed()
    assert delivery_threads() == before
    report = core.delivery.ledger_report()
    assert (report.status.produced, report.status.delivered) == (2, 2) and report.exact


def test_close_leaves_no_thread() -> None:
    """W-10: the delivery thread is gone when close() has returned."""
    before = delivery_threads()
    core = Core()
    core.bus.subscribe(Sink())
    core.run()
    core.close()
    assert delivery_threads() == before


def test_calls_keep_their_place_in_the_order(core: Core) -> None:
    """R12: a call, an emission to another subject and an end come where they were asked for."""
    other: RxSubject[str] = RxSubject()
    got: list[Any] = []
    core.bus.subscribe(lambda event: got.append(event.seq), on_completed=lambda: got.append("bus done"))
    other.subscribe(got.append, on_completed=lambda: got.append("other done"))
    core.run()
    core.delivery.call(lambda: got.append("call"))
    core.log("x")
    core.delivery.emit(other, "emitted")
    core.delivery.complete(core.bus)
    core.delivery.emit(other, "after")
    core.delivery.complete(other)
    core.delivery.emit(other, "never")
    core.flush()
    assert got == [1, "call", 2, "emitted", "bus done", "after", "other done"]


def test_what_is_put_into_the_bus_comes_out_in_order(core: Core) -> None:
    """R12: the bus is a subject: events put in from any thread reach its observers on the delivery thread."""
    sink = Sink()
    core.bus.subscribe(sink)
    event = core.run()
    core.bus.on_next(event)
    core.bus.on_completed()
    core.bus.on_next(event)
    core.flush()
    assert sink.got == [event, event, "done"] and len(sink.threads) == 1


def test_a_bus_without_a_delivery_is_a_plain_subject() -> None:
    """R13: values, then the end, on the caller's thread."""
    from rxtasks.observe.bus import TaskEventBus

    bus, sink = TaskEventBus(), Sink()
    bus.subscribe(sink)
    event = Core().run()
    bus.on_next(event)
    bus.on_error(ValueError("end"))
    assert sink.got[0] == event and isinstance(sink.got[1], ValueError)


def test_a_subscriber_that_raises_is_reported_and_the_rest_goes_on(core: Core) -> None:
    """R15: on the delivery thread, on the bus and on a tracker; BaseExceptions, too."""
    sink = Sink()

    def boom(_: Any) -> None:
        raise SystemExit("not from here")

    def bang(_: Any) -> None:
        raise ValueError("bang")

    tracker = core.submit()
    core.bus.subscribe(boom)
    core.bus.subscribe(sink)
    tracker.subscribe(bang)
    core.run()
    core.log("x")
    core.flush()
    assert sink.seqs == [1, 2]
    assert sorted(type(error).__name__ for _, error in core.reports) == ["SystemExit", "ValueError"]
    assert core.delivery.ledger_report().raised == 2


def test_a_call_that_raises_is_reported(core: Core) -> None:
    """R15: callbacks on the delivery thread hurt nobody."""

    def boom() -> None:
        raise ValueError("callback")

    core.delivery.call(boom)
    sink = Sink()
    core.bus.subscribe(sink)
    core.run()
    core.flush()
    assert sink.seqs == [1]
    assert [str(error) for _, error in core.reports] == ["callback"]


def test_operators_over_several_streams_lose_nothing(core: Core) -> None:
    """R12: merge and scan over two trackers count every event, with two tasks interleaved."""
    total = Sink()
    trackers = [core.submit("a"), core.submit("b")]
    rx.merge(*trackers).pipe(ops.map(lambda _: 1), ops.scan(lambda x, y: x + y, 0)).subscribe(total)
    for task in ("a", "b"):
        core.run(task)
    for number in range(500):
        core.log(str(number), "ab"[number % 2])
    for task in ("a", "b"):
        core.succeed(None, task)
    core.flush()
    assert total.got[-2:] == [504, "done"]


def test_a_subscriber_may_dispose_itself_and_subscribe_others_in_on_next(core: Core) -> None:
    """R14: on the delivery thread as anywhere."""
    got, late = [], Sink()

    def once(event: Any) -> None:
        got.append(event.seq)
        core.bus.subscribe(late)
        handle.dispose()

    handle = core.bus.subscribe(once)
    for _ in range(3):
        core.log("x")
    core.flush()
    assert got == [1]
    assert late.seqs == [2, 3]


def test_a_subscriber_that_causes_events_neither_deadlocks_nor_grows_the_stack(core: Core) -> None:
    """R18: each event of ten thousand is published by the subscriber of the one before."""
    deepest = [0]

    def next_one(event: Any) -> None:
        import inspect

        if event.seq % 1000 == 0:
            deepest[0] = max(deepest[0], len(inspect.stack(0)))
        if event.seq < 10_000:
            core.log("again")

    core.bus.subscribe(next_one)
    finished = threading.Event()
    core.bus.subscribe(lambda event: finished.set() if event.seq == 10_000 else None)
    core.log("first")
    assert finished.wait(SOON)
    assert deepest[0] < 30


@pytest.mark.parametrize("stream", ["bus", "tracker", "logs", "outcome"])
def test_no_reference_to_a_disposed_subscriber_is_kept(core: Core, stream: str) -> None:
    """R14: bus, tracker and their parts keep nothing of a subscriber that has left."""

    class Subscriber(Sink):
        pass

    tracker = core.submit()
    source = {"bus": core.bus, "tracker": tracker, "logs": tracker.logs, "outcome": tracker.outcome}[stream]
    subscriber = Subscriber()
    there = weakref.ref(subscriber)
    handle = source.subscribe(subscriber)
    core.run()
    core.log("x")
    core.flush()
    handle.dispose()
    del subscriber, source
    core.log("y")
    core.flush()
    gc.collect()
    assert there() is None
    assert core.delivery.routes.by_id == {} and not core.delivery.routes.listening()


def test_an_ended_task_leaves_nothing_in_the_routes(core: Core) -> None:
    """L-04: routes hold tasks only while they are observed and run."""
    tracker = core.submit()
    there = weakref.ref(tracker)
    tracker.subscribe(Sink())
    tracker.future  # noqa: B018
    core.run()
    core.succeed()
    core.flush()
    assert core.delivery.routes.by_id == {}
    core.trackers.clear()
    del tracker
    gc.collect()
    assert there() is None


def test_the_same_stream_twice_gives_the_same(core: Core) -> None:
    """R12: two subscriptions see the same sequence."""
    tracker = core.submit()
    sinks = [Sink(), Sink()]
    for sink in sinks:
        tracker.statuses.subscribe(sink)
    core.run()
    core.log("x")
    core.succeed()
    core.flush()
    assert sinks[0].got == sinks[1].got
    assert [event.status for event in sinks[0].got[:-1]] == [TaskStatus.RUNNING, TaskStatus.SUCCEEDED]
