"""Strategies directly on a service's stream: credit is withheld, the delivery thread is never held."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from rxtasks.errors import SubscriberStalled
from rxtasks.observe.bus import TaskEventBus
from rxtasks.observe.delivery import Delivery
from rxtasks.operators import batch, buffer_bounded, deliver_on, latest, logs
from rxtasks.reactive.iterate import iterate
from tests.unit.reactive.operator_parts import LIMIT, NewThreads, Post, Recorder, Reports, log


class Service:
    """A delivery with its bus, and the clock by hand."""

    def __init__(self, **settings: Any) -> None:
        self.relief = threading.Event()
        self.delivery = Delivery(on_relief=self.relief.set, report=lambda *_: None, **settings)
        self.bus = TaskEventBus(self.delivery)
        self.seq = 0
        self.now = 0

    def congested(self) -> bool:
        return self.delivery.congested

    def publish(self, count: int) -> None:
        events: list[Any] = [log(self.seq + step) for step in range(1, count + 1)]
        self.seq += count
        self.delivery.publish(events, 100 * count)

    def handed_out(self) -> None:
        """Wait until the delivery thread has come to what was published, held subscriptions aside."""
        reached = threading.Event()
        self.delivery.call(reached.set)
        assert reached.wait(LIMIT)

    def pass_time(self, seconds: float) -> None:
        self.delivery.check(self.now)
        self.now += int(seconds * 1e9)
        self.delivery.check(self.now)


@pytest.fixture
def service() -> Any:
    made = Service()
    yield made
    made.delivery.close(LIMIT)


LOSSLESS = [
    pytest.param(lambda: buffer_bounded(5), id="buffer"),
    pytest.param(lambda: batch(5, 0.0), id="batch"),
    pytest.param(lambda: deliver_on(lambda call: call(), n=5), id="deliver_on"),
]


@pytest.mark.parametrize("make", LOSSLESS)
@pytest.mark.parametrize("filtered", [False, True])
def test_every_event_arrives_in_order(service: Service, make: Any, filtered: bool) -> None:
    """R1, R17: more events than there is room for, none lost, none twice."""
    seen = Recorder()
    stream: Any = service.bus.pipe(logs("INFO")) if filtered else service.bus
    stream.pipe(make()).subscribe(seen)
    for _ in range(20):
        service.publish(50)
    service.bus.on_completed()
    flat = [event for item in seen.wait() for event in (item if isinstance(item, list) else [item])]
    assert [event.seq for event in flat] == list(range(1, 1001))
    assert (seen.overlaps, seen.completed) == (0, 1)


def test_full_withholds_credit_and_the_delivery_thread_goes_on(service: Service) -> None:
    """R5, L-04: another subscriber gets everything meanwhile; credit comes back when half has been taken."""
    slow, other = Recorder(held=True), Recorder()
    service.bus.pipe(buffer_bounded(4)).subscribe(slow)
    service.bus.subscribe(other)
    service.publish(1)
    assert slow.entered.wait(LIMIT)
    service.publish(30)
    assert len(other.wait_for(31)) == 31
    assert service.congested()
    slow.go.set()
    assert [event.seq for event in slow.wait_for(31)] == list(range(1, 32))
    assert service.delivery.flush(LIMIT)
    assert not service.congested()
    assert service.relief.is_set()


def test_the_bound_holds_while_held(service: Service) -> None:
    """R6: not one value more than n waits in the buffer, whatever is published."""
    slow = Recorder(held=True)
    stream = service.bus.pipe(buffer_bounded(4))
    stream.subscribe(slow)
    service.publish(1)
    assert slow.entered.wait(LIMIT)
    service.publish(100)
    service.handed_out()
    (buffer,) = service.delivery._buffers
    assert buffer.waiting == 5  # four, and the one in hand
    slow.go.set()
    slow.wait_for(101)


def test_a_subscriber_that_takes_nothing_while_full_is_detached(service: Service) -> None:
    """R16: SubscriberStalled with the first seq not delivered, when its call returns; credit comes back at once."""
    slow = Recorder(held=True)
    stream = service.bus.pipe(buffer_bounded(4))
    stream.subscribe(slow)
    service.publish(1)
    assert slow.entered.wait(LIMIT)
    service.publish(10)
    service.handed_out()
    service.pass_time(4.9)
    assert service.congested()
    service.pass_time(5.1)
    assert not service.congested()
    assert not slow.errors
    slow.go.set()
    assert [event.seq for event in slow.wait()] == [1]
    assert isinstance(slow.error, SubscriberStalled)
    assert slow.error.first_undelivered_seq == 2
    assert stream.dropped == 4
    service.publish(1)
    assert service.delivery.flush(LIMIT)
    assert (slow.errors, slow.after_end) == (1, 0)


def test_a_slow_subscriber_that_takes_something_stays(service: Service) -> None:
    """R16: only who takes nothing at all is detached."""
    post = Post()
    got: list[int] = []
    service.bus.pipe(deliver_on(post, n=4)).subscribe(lambda event: got.append(event.seq))
    for round_ in range(3):
        service.publish(8)
        service.handed_out()
        service.pass_time(4.0)
        post.run()
        service.handed_out()
        assert len(got) > 4 * round_
    service.bus.on_completed()
    while len(got) < 24:
        service.handed_out()
        post.run()
    assert got == list(range(1, 25))


def test_a_loop_that_runs_no_more_is_detached(service: Service) -> None:
    """R16: a window that is gone does not stop the service."""
    service.bus.pipe(deliver_on(lambda _: None, n=4)).subscribe(lambda _: None)
    service.publish(10)
    service.handed_out()
    assert service.congested()
    service.pass_time(5.1)
    assert not service.congested()
    assert not service.bus._targets


@pytest.mark.parametrize("end", ["dispose", "raise"])
def test_a_hold_ends_with_the_subscription(service: Service, end: str) -> None:
    """R14, R15: whatever ends it, credit comes back."""
    threads = NewThreads()
    entered, go = threading.Event(), threading.Event()

    def slow(_: Any) -> None:
        entered.set()
        assert go.wait(LIMIT)
        raise ZeroDivisionError

    subscription = service.bus.pipe(buffer_bounded(2)).subscribe(slow)
    service.publish(1)
    assert entered.wait(LIMIT)
    service.publish(10)
    service.handed_out()
    assert service.congested()
    lane_threads = [thread for thread in threads.there() if "buffer_bounded" in thread.name]
    with Reports() as reports:
        if end == "dispose":
            subscription.dispose()
            go.set()
        else:
            go.set()
            reports.wait()
        for thread in lane_threads:
            thread.join(LIMIT)
    assert not service.congested()
    assert not service.bus._targets
    assert not service.delivery._buffers


def test_flush_waits_for_what_is_in_the_buffers(service: Service) -> None:
    """R22: flush() returns when the subscriber has had everything, an unfinished batch included."""
    slow = Recorder(held=True)
    parts = Recorder()
    service.bus.pipe(buffer_bounded(100)).subscribe(slow)
    service.bus.pipe(batch(1000, 3600.0)).subscribe(parts)
    service.publish(7)
    assert not service.delivery.flush(0.05)
    slow.go.set()
    assert service.delivery.flush(LIMIT)
    assert len(slow.values) == 7
    assert [len(part) for part in parts.values] == [7]


def test_close_delivers_to_a_held_subscriber_that_keeps_taking(service: Service) -> None:
    """R22: stop() delivers what waits behind a full buffer."""
    seen = Recorder()
    service.bus.pipe(buffer_bounded(2)).subscribe(seen)
    service.publish(500)
    service.bus.on_completed()
    report = service.delivery.close(LIMIT)
    assert [event.seq for event in seen.wait()] == list(range(1, 501))
    assert not report.undelivered


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (lambda: buffer_bounded(3, "drop_oldest"), [1, 9, 10, 11]),
        (lambda: buffer_bounded(3, "drop_newest"), [1, 2, 3, 4]),
        (lambda: latest(), [1, 11]),
        (lambda: latest(key=lambda event: event.task_id), [1, 11]),
    ],
)
def test_what_a_strategy_drops_is_in_the_ledger(service: Service, make: Any, kept: list[int]) -> None:
    """L-05, R17: produced = delivered + dropped, and the operator itself tells."""
    seen = Recorder(held=True)
    stream = service.bus.pipe(make())
    stream.subscribe(seen)
    service.publish(1)
    assert seen.entered.wait(LIMIT)
    service.publish(10)
    service.handed_out()
    seen.go.set()
    service.bus.on_completed()
    assert [event.seq for event in seen.wait()] == kept
    assert stream.dropped == 11 - len(kept)
    assert service.delivery.flush(LIMIT)
    lane = service.delivery.ledger_report().lanes["log"]
    assert (lane.produced, lane.dropped, lane.delivered) == (11, 11 - len(kept), len(kept))
    assert service.delivery.ledger_report().exact


def test_iterate_withholds_credit(service: Service) -> None:
    """R6, L-04: a loop that does not ask slows the work down, it does not fill the memory."""
    with iterate(service.bus, buffersize=3) as events:
        service.publish(20)
        service.handed_out()
        assert service.congested()
        assert [next(events).seq for _ in range(20)] == list(range(1, 21))
        assert service.delivery.flush(LIMIT)
        assert not service.congested()
    assert not service.bus._targets


def test_iterate_that_does_not_ask_for_too_long_is_detached(service: Service) -> None:
    """R16: next() then raises SubscriberStalled."""
    with iterate(service.bus, buffersize=3) as events:
        service.publish(1)
        assert next(events).seq == 1
        service.publish(20)
        service.handed_out()
        service.pass_time(5.1)
        with pytest.raises(SubscriberStalled) as caught:
            next(events)
        assert caught.value.first_undelivered_seq == 2
        with pytest.raises(StopIteration):
            next(events)


def test_after_the_service_has_stopped_a_full_buffer_blocks_the_caller() -> None:
    """R22: without a delivery thread values come on the calling thread; none is lost."""
    service = Service()
    service.publish(1)
    service.delivery.close(LIMIT)
    seen = Recorder()
    service.bus.pipe(buffer_bounded(2)).subscribe(seen)
    for seq in range(50):
        service.bus.on_next(log(seq))
    service.bus.on_completed()
    assert len(seen.wait()) == 50


def test_flush_returns_however_it_meets_the_subscribers_call(service: Service) -> None:
    """R22: many flushes, each racing the last call of each buffer."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        service.bus.pipe(buffer_bounded(3)).subscribe(lambda _: None)
        service.bus.pipe(batch(3, 0.0)).subscribe(lambda _: None)
        service.bus.pipe(latest()).subscribe(lambda _: None)
        for _ in range(300):
            service.publish(5)
            assert service.delivery.flush(LIMIT)
    finally:
        sys.setswitchinterval(interval)
    service.bus.on_completed()
