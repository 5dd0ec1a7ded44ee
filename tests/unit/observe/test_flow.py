"""The delivery as flow control for strategies: hold, release, flush, drop, stall."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from reactivex import abc

from rxtasks import operators
from rxtasks.errors import SubscriberStalled
from rxtasks.lifecycle.events import ProgressEvent, TaskEvent
from rxtasks.reactive.flow import Flow, flow_of
from tests.unit.observe.support import SOON, Core, Sink


class Valve:
    """A strategy by hand: holds at `bound`, gives away when told."""

    def __init__(self, flow: Flow, bound: int) -> None:
        self.flow, self.bound = flow, bound
        self.waits: deque[Any] = deque()
        self.got: list[Any] = []
        self.most = 0
        self.taken = 0
        self.full = threading.Event()
        self.ended = threading.Event()
        self.stalls = 0
        self.marks: list[tuple[int, Callable[[], None]]] = []
        flow.enlist(self)

    @property
    def waiting(self) -> int:
        return len(self.waits)

    def on_next(self, value: Any) -> None:
        self.waits.append(value)
        self.most = max(self.most, len(self.waits))
        if len(self.waits) >= self.bound:
            assert self.flow.hold(self)
            self.full.set()

    def on_error(self, error: Exception) -> None:
        self.got.append(error)
        self.ended.set()

    def on_completed(self) -> None:
        self.waits.append("done")
        self.ended.set()

    def give(self) -> None:
        """Empty the buffer and go on."""
        self.full.clear()
        while self.waits:
            self.got.append(self.waits.popleft())
            self.taken += 1
        due = [done for at, done in self.marks if at <= self.taken]
        self.marks = [entry for entry in self.marks if entry[0] > self.taken]
        for done in due:
            done()
        self.flow.release(self)

    def when_taken(self, done: Callable[[], None]) -> None:
        if self.waits:
            self.marks.append((self.taken + len(self.waits), done))
        else:
            done()

    def stall(self) -> None:
        self.stalls += 1


def settle(core: Core) -> None:
    """Wait until the delivery thread has done everything it can do now."""
    passed = threading.Event()
    core.delivery.call(passed.set)
    assert passed.wait(SOON)


def subscribe(core: Core, valve: Valve, source: Any) -> abc.DisposableBase:
    handle: abc.DisposableBase = source.subscribe(valve)
    settle(core)
    return handle


@pytest.mark.parametrize("stream", ["bus", "tracker"])
def test_a_held_subscription_gets_nothing_more_until_released(core: Core, stream: str) -> None:
    """R6, R17: the strategy's buffer never grows over its bound; on release all comes, in order, the end last."""
    tracker, other = core.submit(), Sink()
    source = core.bus if stream == "bus" else tracker
    flow = flow_of(source)
    assert flow is core.delivery and isinstance(flow, Flow)
    valve = Valve(flow, 3)
    subscribe(core, valve, source)
    core.bus.subscribe(other)
    made = [core.run(), *[core.log(str(number)) for number in range(10)], core.succeed()]
    if stream == "bus":
        core.delivery.complete(core.bus)
    settle(core)
    assert valve.full.is_set() and valve.waiting == 3
    assert other.got[:12] == made  # nobody else is held up
    while not valve.ended.is_set():
        valve.give()
        settle(core)
    valve.give()
    assert valve.got == [*made, "done"]
    assert valve.most <= 4  # the end is no value
    assert not core.delivery.congested and not core.delivery._holds


def test_a_full_buffer_withholds_credit_of_those_that_feed_it(core: Core) -> None:
    """L-04: held on the bus: everything; held on one task's stream: that task only; relief is told."""
    chatty = core.submit("chatty")
    core.submit("other")
    valve = Valve(core.delivery, 1)
    subscribe(core, valve, chatty)
    core.run("chatty")
    core.run("other")
    settle(core)
    assert core.delivery.withheld("chatty") and not core.delivery.withheld("other")
    assert not core.delivery.congested
    core.relieved.clear()
    valve.give()
    assert core.relieved.wait(SOON)
    assert not core.delivery.withheld("chatty")
    on_bus = Valve(core.delivery, 1)
    subscribe(core, on_bus, core.bus)
    core.log("x", "other")
    settle(core)
    assert core.delivery.congested and core.delivery.withheld("other")
    on_bus.give()
    assert not core.delivery.congested


def test_what_waits_for_a_held_subscription_counts_against_the_buffer() -> None:
    """R6: a held subscription cannot make the delivery's own memory grow past the bound unseen."""
    core = Core(buffer_events=20)
    tracker = core.submit()
    valve = Valve(core.delivery, 1)
    subscribe(core, valve, tracker)
    for number in range(30):
        core.log(str(number))
    settle(core)
    core.log("one more")
    assert core.delivery.full
    core.relieved.clear()
    while core.delivery._holds:
        valve.give()
        settle(core)
    assert core.relieved.is_set() and not core.delivery.full
    assert [event.message for event in valve.got][:3] == ["0", "1", "2"]
    assert len(valve.got) + valve.waiting == 31
    assert core.delivery._backlog.held_events == 0 == core.delivery._backlog.held_size
    core.close()


def test_progress_that_waits_for_a_held_subscription_is_overwritten() -> None:
    """R8: the last progress stays; what goes is counted."""
    core = Core(buffer_events=64)
    tracker = core.submit()
    valve = Valve(core.delivery, 1)
    subscribe(core, valve, tracker)
    core.run()
    for number in range(5000):
        core.progress(number)
        if number % 16 == 0:
            settle(core)
    settle(core)
    assert len(core.delivery._holds.all()[0].spill) < 64
    core.succeed()
    while not valve.ended.is_set():
        valve.give()
        settle(core)
    valve.give()
    seen = [event.current for event in valve.got if isinstance(event, ProgressEvent)]
    assert seen == sorted(seen) and seen[-1] == 4999
    report = core.delivery.ledger_report()
    assert report.exact and report.progress.produced == 5000
    core.close()


def test_flush_waits_for_buffers_and_for_what_waits_behind_them(core: Core) -> None:
    """E-06: flush() returns when all events published before have been taken, strategy buffers included."""
    valve = Valve(core.delivery, 2)
    subscribe(core, valve, core.bus)
    for number in range(5):
        core.log(str(number))
    settle(core)
    assert not core.delivery.flush(0)
    flushed: list[bool] = []
    waiter = threading.Thread(target=lambda: flushed.append(core.delivery.flush(SOON)))
    waiter.start()
    while not valve.marks and not core.delivery._holds.all()[0].spill[-1][0] is not None:
        settle(core)
    for _ in range(4):
        settle(core)
        assert not flushed or len(valve.got) == 5
        valve.give()
    waiter.join(SOON)
    assert flushed == [True] and len(valve.got) == 5


def test_a_subscription_that_ends_while_it_is_held_holds_nothing_up(core: Core) -> None:
    """R14: dispose of a held subscription: what waited goes, flush returns, credit flows."""
    valve = Valve(core.delivery, 1)
    handle = subscribe(core, valve, core.bus)
    for number in range(5):
        core.log(str(number))
    settle(core)
    assert core.delivery.congested
    handle.dispose()
    core.delivery.discharge(valve)
    core.flush()
    assert not core.delivery.congested and not core.delivery._holds
    assert core.delivery._backlog.held_events == 0
    assert len(valve.waits) == 1


def test_a_held_buffer_that_takes_nothing_is_told_to_stall(core: Core) -> None:
    """R16: for stall_timeout; one that takes a value now and then stays."""
    slow, stuck = Valve(core.delivery, 4), Valve(core.delivery, 1)
    subscribe(core, slow, core.bus)
    subscribe(core, stuck, core.bus)
    for number in range(10):
        core.log(str(number))
    settle(core)
    for _ in range(3):
        core.pass_time(3)
        slow.got.append(slow.waits.popleft())
        slow.taken += 1
    assert (slow.stalls, stuck.stalls) == (0, 1)
    settle(core)
    assert [type(error) for _, error in core.reports] == [SubscriberStalled]
    assert len(core.bus.observers) == 1
    assert core.delivery.ledger_report().stalled == 1
    while core.delivery._holds:
        slow.give()
        settle(core)
    slow.give()
    core.pass_time(100)
    assert slow.stalls == 0


def test_hold_works_in_on_next_of_the_stream_only(core: Core) -> None:
    """R6: anywhere else it says so, and the strategy blocks its caller."""
    valve = Valve(core.delivery, 5)
    assert core.delivery.hold(valve) is False
    answers: list[bool] = []
    core.delivery.call(lambda: answers.append(core.delivery.hold(valve)))
    core.flush()
    assert answers == [False]
    core.delivery.release(valve)
    assert not core.delivery.congested


def test_dropped_events_are_counted_once_whoever_drops_them(core: Core) -> None:
    """L-05: produced = delivered + conflated + dropped, with several strategies that drop the same event."""
    first, second = Valve(core.delivery, 99), Valve(core.delivery, 99)
    for valve in (first, second):
        subscribe(core, valve, core.bus)
    core.run()
    for number in range(4):
        core.log(str(number))
    settle(core)
    for valve in (first, second):
        for _ in range(3):
            core.delivery.dropped(valve.waits.popleft())
    core.delivery.dropped("no event")
    report = core.delivery.ledger_report()
    assert (report.status.dropped, report.log.dropped, report.log.delivered) == (1, 2, 2)
    assert report.exact
    first.give()
    second.give()


@pytest.mark.parametrize("on_full", ["block", "drop_oldest", "drop_newest"])
def test_the_public_strategies_work_on_a_services_stream(core: Core, on_full: str) -> None:
    """R17: "block" loses nothing and never blocks the delivery thread; the others count what they drop."""
    entered, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    got: list[Any] = []
    tracker, other = core.submit(), Sink()

    def slow(event: TaskEvent) -> None:
        got.append(event)
        entered.set()
        assert go_on.wait(SOON)

    tracker.pipe(operators.buffer_bounded(4, on_full=on_full)).subscribe(slow, on_completed=ended.set)
    tracker.subscribe(other)
    core.run()
    for number in range(50):
        core.log(str(number))
    core.succeed()
    assert entered.wait(SOON)
    assert other.ended.wait(SOON)  # a full strategy delays nobody
    go_on.set()
    core.flush()
    assert ended.wait(SOON)
    report = core.delivery.ledger_report()
    assert report.exact
    dropped = report.log.dropped + report.status.dropped
    if on_full == "block":
        assert [event.seq for event in got] == list(range(1, 53)) and dropped == 0
    else:
        assert len(got) + dropped == 52 and dropped > 0


def test_a_stuck_subscriber_behind_block_is_detached(core: Core) -> None:
    """R16: behind a strategy, too, it costs its own subscription only; credit flows again."""
    entered, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    errors: list[Exception] = []

    def stuck(_: TaskEvent) -> None:
        entered.set()
        assert go_on.wait(SOON)

    def fail(error: Exception) -> None:
        errors.append(error)
        ended.set()

    core.bus.pipe(operators.buffer_bounded(2, on_full="block")).subscribe(stuck, fail)
    for number in range(20):
        core.log(str(number))
    assert entered.wait(SOON)
    settle(core)
    assert core.delivery.congested
    core.pass_time(11)
    assert not core.delivery.congested
    go_on.set()
    assert ended.wait(SOON)
    assert isinstance(errors[0], SubscriberStalled) and errors[0].first_undelivered_seq == 2
