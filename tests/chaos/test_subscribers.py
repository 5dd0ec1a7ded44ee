"""Subscribers that misbehave: the tasks, the other subscribers and stop() do not notice."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from rxtasks import StatusEvent, SubscriberStalled, TaskEvent, TaskService
from tests.chaos.handlers import add, block
from tests.chaos.support import LONG, Witness, service


def test_a_subscriber_that_raises_is_detached_and_the_others_miss_nothing() -> None:
    """R15: a subscriber that raises is reported once and detached; others miss nothing."""
    with service(1) as (tasks, witness):
        calls: list[TaskEvent] = []

        def bad(event: TaskEvent) -> None:
            calls.append(event)
            raise RuntimeError("a subscriber's bug")

        tasks.events.subscribe(bad)
        late: list[TaskEvent] = []
        tasks.events.subscribe(late.append)
        trackers = [tasks.submit(add, number, 1) for number in range(50)]
        assert [number + 1 for number in range(50)] == [tracker.result(LONG) for tracker in trackers]
        assert tasks.flush(LONG)
        assert 1 == len(calls)
        assert 100 == len(late) == sum(len(witness.of(tracker.task_id)) for tracker in trackers)
        assert 1 == len([event for event in witness.pool if event.kind == "subscriber_failed"])


def test_a_subscriber_that_blocks_for_ever_costs_only_itself() -> None:
    """R16: a subscriber that blocks delays others at most stall_timeout, once, and never dispatch, cancel or stop."""
    release = threading.Event()
    errors: list[Exception] = []
    told = threading.Event()
    stuck = threading.Event()

    def failed(error: Exception) -> None:
        errors.append(error)
        told.set()

    def hang(_: Any) -> None:
        stuck.set()
        release.wait()

    try:
        with service(2, stall_timeout=0.3) as (tasks, witness):
            tasks.events.subscribe(hang, failed)
            first = tasks.submit(add, 1, 1)
            assert 2 == first.result(LONG)
            assert stuck.wait(LONG)
            trackers = [tasks.submit(add, number, 1) for number in range(200)]
            runs = tasks.with_options(grace=0.1).submit(block)
            assert [number + 1 for number in range(200)] == [tracker.result(LONG) for tracker in trackers]
            assert runs.cancel("enough")
            stalled = witness.wait(lambda: [e for e in witness.pool if e.kind == "subscriber_stalled"])
            assert 1 == len(stalled)
            last = trackers[-1].task_id
            witness.wait(lambda: "succeeded" in witness.statuses(last))
            release.set()
            assert told.wait(LONG)
            assert [SubscriberStalled] == [type(error) for error in errors]
    finally:
        release.set()


def test_stop_returns_although_a_subscriber_is_stuck() -> None:
    """R22: stop() returns within its bounds whatever subscribers do, and reports what was not delivered."""
    release, stuck = threading.Event(), threading.Event()

    def hang(_: Any) -> None:
        stuck.set()
        release.wait()

    tasks = TaskService(workers=1, echo=None, stall_timeout=60.0)
    try:
        tasks.events.subscribe(hang)
        tracker = tasks.submit(add, 1, 2)
        assert 3 == tracker.result(LONG)
        assert stuck.wait(LONG)
        begin = time.monotonic()
        report = tasks.stop(timeout=0.5)
        assert time.monotonic() - begin < 10.5
        assert report.stuck
        assert tracker.done
    finally:
        release.set()
        tasks.stop(force=True)


def test_a_subscriber_that_disposes_itself_gets_nothing_more() -> None:
    """R14: after dispose, also from within on_next, delivery stops; the others go on."""
    with service(1) as (tasks, witness):
        seen: list[TaskEvent] = []
        subscription: list[Any] = []

        def once(event: TaskEvent) -> None:
            seen.append(event)
            subscription[0].dispose()

        subscription.append(tasks.events.subscribe(once))
        trackers = [tasks.submit(add, number, 1) for number in range(20)]
        assert 210 == sum(tracker.result(LONG) for tracker in trackers)
        assert tasks.flush(LONG)
        assert 1 == len(seen)
        assert 40 == sum(len(witness.of(tracker.task_id)) for tracker in trackers)


@pytest.mark.parametrize("isolation", ["process", "thread", "inline"])
def test_a_subscriber_may_submit_and_cancel_from_on_next(isolation: str) -> None:
    """R18: submit, cancel and result work inside on_next; never a deadlock, never a growing stack."""
    with service(2, isolation=isolation) as (tasks, _):
        results: list[int] = []
        over = threading.Event()

        def chain(event: TaskEvent) -> None:
            if isinstance(event, StatusEvent) and event.status == "succeeded":
                results.append(event.result)
                if event.result < 300:
                    tasks.submit(add, event.result, 1)
                else:
                    delayed = tasks.with_options(delay=1000).submit(add, 0, 0)
                    assert delayed.cancel()
                    over.set()

        subscription = tasks.events.subscribe(chain)
        tasks.submit(add, 0, 0)
        assert over.wait(LONG)
        subscription.dispose()
        assert list(range(301)) == results


def test_result_within_on_next_returns() -> None:
    """R18: result() of another task inside on_next does not wait for the delivery thread that it holds."""
    with service(2, stall_timeout=LONG) as (tasks, _):
        answers: list[int] = []
        over = threading.Event()

        def ask(event: TaskEvent) -> None:
            if isinstance(event, StatusEvent) and event.status == "succeeded" and not answers:
                answers.append(0)
                answers.append(tasks.submit(add, 40, 2).result(LONG))
                over.set()

        tasks.events.subscribe(ask)
        tasks.submit(add, 1, 1)
        assert over.wait(LONG)
        assert [0, 42] == answers


def test_a_tracker_s_subscriber_that_raises_leaves_its_task_alone() -> None:
    """R15: a subscriber of one task's stream that raises changes neither its result nor another task."""
    with service(1) as (tasks, witness):
        tracker = tasks.submit(add, 1, 1)

        def bad(_: Any) -> None:
            raise ValueError("no")

        tracker.subscribe(bad)
        tracker.statuses.subscribe(bad)
        assert 2 == tracker.result(LONG)
        assert 5 == tasks.submit(add, 2, 3).result(LONG)
        assert isinstance(witness, Witness)
