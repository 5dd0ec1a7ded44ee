"""Who subscribes to a stream of a service gets what is published from then on."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops

from rxtasks.isolation.base import Worker
from rxtasks.observe.published import Published
from tests.unit.observe.support import SOON, Blocker, Core, Sink


def held_up(core: Core) -> Blocker:
    """Return a subscriber that holds the delivery thread in its first event."""
    blocker = Blocker()
    core.bus.subscribe(blocker)
    core.run("other")
    assert blocker.entered.wait(SOON)
    return blocker


@pytest.mark.parametrize("stream", ["bus", "engine"])
def test_what_waits_to_be_handed_out_is_not_given_to_who_subscribes_now(core: Core, stream: str) -> None:
    """R12: a late subscriber of a hot stream gets what is published behind its subscription, in the common order."""
    subject: Published[Any] = core.bus
    if stream == "engine":
        subject = Published()
        subject._flow = core.delivery
        core.delivery.stream(subject)
    blocker, late = held_up(core), Sink()
    core.run()
    core.log("before")
    subject.subscribe(late)
    after = [core.log("after"), core.succeed()]
    blocker.go_on.set()
    core.flush()
    assert late.got == after
    assert len(blocker.got) == 5


def test_an_event_that_is_being_handed_out_is_of_the_past_too(core: Core) -> None:
    """R12: the rest of a batch of which the first event is in a subscriber's hands is not for who comes now."""
    blocker, late = Blocker(), Sink()
    core.bus.subscribe(blocker)
    core.batch([core.make_log("a"), core.make_log("b"), core.make_log("c")])
    assert blocker.entered.wait(SOON)
    core.bus.subscribe(late)
    blocker.go_on.set()
    core.flush()
    assert late.got == []
    event = core.log("d")
    core.flush()
    assert late.got == [event]


def test_what_the_core_holds_for_a_moment_is_of_the_past(core: Core) -> None:
    """R12: an event whose outcome is known is not for who subscribes then, though it is published a moment later."""
    marks: list[Callable[[], None]] = []

    class Upstream:
        held = 1

        def mark(self, call: Callable[[], None]) -> None:
            marks.append(call)

    core.delivery.upstream = upstream = Upstream()
    late = Sink()
    core.bus.subscribe(late)
    core.log("held when it subscribed")
    upstream.held = 0
    (mark,) = marks
    mark()
    event = core.log("after")
    core.flush()
    assert late.got == [event]


def test_a_subscriber_that_leaves_before_its_place_is_reached_gets_nothing_and_is_forgotten(core: Core) -> None:
    """R14: dispose between subscribe and the mark."""
    blocker, late = held_up(core), Sink()
    subscription = core.bus.subscribe(late)
    subscription.dispose()
    reference = weakref.ref(late)
    del late
    gc.collect()
    assert reference() is None
    core.log("x")
    blocker.go_on.set()
    core.flush()
    assert len(core.bus._targets) == 1


def test_who_subscribes_in_an_on_next_gets_what_follows_the_event_in_hand(core: Core) -> None:
    """R18: its place is behind that event, whatever waits."""
    inner, got = Sink(), threading.Event()

    def on_next(event: Any) -> None:
        if not got.is_set():
            got.set()
            core.bus.subscribe(inner)

    core.bus.subscribe(on_next)
    core.batch([core.make_log("a"), core.make_log("b"), core.make_log("c")])
    core.flush()
    assert [event.message for event in inner.got] == ["b", "c"]


def test_retry_goes_on_behind_the_event_that_failed(core: Core) -> None:
    """R18: nothing is lost where the subscription is made again on the delivery thread."""
    sink, failed = Sink(), []

    def convert(event: Any) -> str:
        if event.message == "b" and not failed:
            failed.append(event)
            raise ValueError("once")
        return str(event.message)

    core.bus.pipe(ops.map(convert), ops.retry(2)).subscribe(sink)
    core.batch([core.make_log(text) for text in "abcd"])
    core.flush()
    assert sink.got == ["a", "c", "d"]


def test_a_stream_that_ends_before_the_place_is_reached_ends_for_who_waits_there(core: Core) -> None:
    """R13: it completes, with no value before."""
    blocker, late = held_up(core), Sink()
    core.log("x")
    core.bus.subscribe(late)
    core.delivery.complete(core.bus)
    blocker.go_on.set()
    assert late.ended.wait(SOON)
    assert late.got == ["done"]


def test_a_subscriber_in_waiting_is_told_when_the_rest_is_given_up(core: Core) -> None:
    """R22: what was published behind its subscription is not delivered: it gets on_error as the others do."""
    blocker, late = held_up(core), Sink()
    core.bus.subscribe(late)
    core.log("x")
    report = core.delivery.close(0.05)
    assert report.undelivered == {"status": 1, "log": 1}
    assert late.ended.wait(SOON)
    assert [type(value).__name__ for value in late.got] == ["ServiceStopped"]
    blocker.go_on.set()


def test_a_worker_is_routed_while_somebody_observes_it(core: Core) -> None:
    """W-02: the events of its tasks come to a worker's stream; nothing is kept of it when nobody observes it."""
    worker = Worker("w", None, None)  # type: ignore[arg-type]
    worker._flow = core.delivery
    sink = Sink()
    subscription = worker.subscribe(sink)
    event = core.run()
    core.flush()
    assert sink.got == [event]
    subscription.dispose()
    assert core.delivery.routes.by_id == {}


@given(st.lists(st.sampled_from(["event", "subscribe", "dispose", "let go"]), max_size=30))
def test_each_subscriber_gets_exactly_what_was_published_while_it_was_there(steps: list[str]) -> None:
    """R12, R14: whatever waits and whenever it is handed out, as of a plain subject; up to what dispose cuts off."""
    core = Core()
    try:
        blocker = held_up(core)
        expected: list[list[Any]] = []
        sinks: list[Sink] = []
        subscriptions: list[Any] = []
        gone: set[int] = set()
        for step in steps:
            if step == "event":
                event = core.log("x")
                for at in range(len(sinks)):
                    if at not in gone:
                        expected[at].append(event)
            elif step == "subscribe":
                sinks.append(Sink())
                expected.append([])
                subscriptions.append(core.bus.subscribe(sinks[-1]))
            elif step == "dispose" and subscriptions:
                subscriptions[0].dispose()
                gone.add(0)
            elif step == "let go":
                blocker.go_on.set()
        blocker.go_on.set()
        core.flush()
        for at, sink in enumerate(sinks):
            if at in gone:
                assert sink.got == expected[at][: len(sink.got)]
            else:
                assert sink.got == expected[at]
    finally:
        core.close()
