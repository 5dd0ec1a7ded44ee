"""Subscribers that hold the delivery thread."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rxtasks.errors import SubscriberStalled
from rxtasks.observe.delivery import Delivery
from rxtasks.observe.watchdog import Driver, Watchdog
from tests.unit.observe.support import SOON, Blocker, Core, Sink


def test_a_blocked_subscriber_delays_the_others_once_and_is_detached(core: Core) -> None:
    """R16: after stall_timeout a new thread goes on without it; the others get everything, in order."""
    blocker, other = Blocker(), Sink()
    core.bus.subscribe(blocker)
    core.bus.subscribe(other)
    for _ in range(3):
        core.log("x")
    assert blocker.entered.wait(SOON)
    core.pass_time(4.9)
    assert other.got == [] and core.reports == []
    core.pass_time(0.5)
    core.flush()
    assert other.seqs == [1, 2, 3]
    ((what, error),) = core.reports
    assert "Blocker" in what and "5 s" in what
    assert isinstance(error, SubscriberStalled) and error.first_undelivered_seq == 2
    core.log("y")
    core.flush()  # at once: it delays nobody a second time
    assert other.seqs == [1, 2, 3, 4]
    assert core.delivery.ledger_report().stalled == 1
    assert not blocker.ended.is_set()
    blocker.go_on.set()
    assert blocker.ended.wait(SOON)
    assert blocker.seqs == [1]
    last = blocker.got[-1]
    assert isinstance(last, SubscriberStalled) and last.first_undelivered_seq == 2


def test_a_subscriber_that_comes_back_in_time_stays(core: Core) -> None:
    """R16: less than stall_timeout costs nothing, however often."""
    blocker = Blocker()
    core.bus.subscribe(blocker)
    core.log("x")
    assert blocker.entered.wait(SOON)
    core.pass_time(4.5)
    blocker.go_on.set()
    core.log("y")
    core.flush()
    core.pass_time(4.5)
    assert blocker.seqs == [1, 2] and core.reports == []


def test_time_between_calls_does_not_count(core: Core) -> None:
    """R16: only one call's own time counts; an idle delivery is never suspected."""
    sink = Sink()
    core.bus.subscribe(sink)
    for _ in range(3):
        core.log("x")
        core.flush()
        core.pass_time(100)
    assert sink.seqs == [1, 2, 3] and core.reports == []
    assert core.delivery.check(core.clock.now) is None


@pytest.mark.parametrize("how", ["error", "completed", "callback", "future"])
def test_blocking_at_the_end_or_in_a_callback_is_the_same(core: Core, how: str) -> None:
    """R16: on_error, on_completed, callbacks of futures: each is a call like on_next."""
    entered, go_on = threading.Event(), threading.Event()
    tracker, other = core.submit(), Sink()

    def block(*_: Any) -> None:
        entered.set()
        assert go_on.wait(SOON)

    if how == "completed":
        tracker.subscribe(lambda _: None, on_completed=block)
    elif how == "error":
        core.bus.subscribe(lambda _: None, on_error=block)
        core.delivery.complete(core.bus, ValueError())
    elif how == "future":
        tracker.future.add_done_callback(block)
    else:
        core.delivery.call(block)
    tracker.subscribe(other)
    core.run()
    core.succeed()
    assert entered.wait(SOON)
    core.pass_time(5.5)
    assert other.ended.wait(SOON)
    assert other.seqs == [1, 2]
    go_on.set()


def test_a_call_that_returns_at_the_last_moment_wins() -> None:
    """R16: between the look and the deposition the call came back: nobody is detached, nobody replaced."""
    watchdog, driver = Watchdog(1000), Driver()
    first: Any = (object(), 1)
    driver.call = first
    with watchdog.lock:
        assert watchdog.stalled(driver, 0) is None
        assert watchdog.stalled(driver, 999) is None
        assert watchdog.stalled(driver, 1000) is first
        driver.call = None
        assert not watchdog.depose(driver, first)
    assert not driver.suspected and not watchdog.is_lost(driver)
    driver.call = first
    with watchdog.lock:
        assert watchdog.depose(driver, first)
    assert driver.suspected and watchdog.is_lost(driver)


def test_several_blocked_subscribers_are_detached_one_by_one(core: Core) -> None:
    """R16: each costs stall_timeout once."""
    blockers, other = [Blocker() for _ in range(3)], Sink()
    for blocker in blockers:
        core.bus.subscribe(blocker)
    core.bus.subscribe(other)
    core.log("x")
    for blocker in blockers:
        assert blocker.entered.wait(SOON)
        core.pass_time(5.5)
    core.flush()
    assert other.seqs == [1]
    for blocker in blockers:
        blocker.go_on.set()
        assert blocker.ended.wait(SOON)


def test_a_blocked_subscriber_that_raises_in_the_end_gets_its_error(core: Core) -> None:
    """R13: what it raises after it was detached changes nothing; it hears on_error once."""
    go_on, ended, got = threading.Event(), threading.Event(), []
    entered = threading.Event()

    def block(_: Any) -> None:
        entered.set()
        assert go_on.wait(SOON)
        raise ValueError("too late")

    def fail(error: Exception) -> None:
        got.append(error)
        ended.set()

    core.bus.subscribe(block, fail)
    core.log("x")
    assert entered.wait(SOON)
    core.pass_time(5.5)
    go_on.set()
    assert ended.wait(SOON)
    assert [type(error) for error in got] == [SubscriberStalled]
    assert [type(error) for _, error in core.reports] == [SubscriberStalled]


def test_a_blocked_subscriber_that_disposed_itself_hears_nothing(core: Core) -> None:
    """R14: after dispose no on_error either."""
    blocker = Blocker()
    handle = core.bus.subscribe(blocker)
    core.log("x")
    assert blocker.entered.wait(SOON)
    handle.dispose()
    core.pass_time(5.5)
    core.flush()
    blocker.go_on.set()
    core.log("y")
    core.flush()
    assert blocker.seqs == [1] and not blocker.ended.is_set()


def test_nothing_of_the_core_waits_for_a_blocked_subscriber(core: Core) -> None:
    """R16: publish, outcome, result, cancel and status go on while a subscriber blocks for ever."""
    blocker = Blocker()
    core.bus.subscribe(blocker)
    tracker = core.submit()
    core.run()
    assert blocker.entered.wait(SOON)
    for number in range(100):
        core.log(str(number))
    core.succeed(7)
    assert tracker.result(SOON) == 7
    assert tracker.future.result(SOON) == 7
    assert tracker.done and len(tracker.log_tail) == 100
    blocker.go_on.set()


def test_the_handshake_never_hands_one_event_out_twice() -> None:
    """R12: a watchdog that fires at the very moment when the call returns loses and duplicates nothing."""
    delivery = Delivery(stall_timeout=1e-9, report=lambda *_: None)
    core = Core()
    core.delivery, core.bus = delivery, type(core.bus)(delivery)
    got: list[int] = []
    all_in = threading.Event()

    def take(number: int) -> None:
        got.append(number)
        if len(got) >= 300:
            all_in.set()

    core.bus.subscribe(lambda event: None)  # may be detached: everything counts as stalled here
    for _ in range(200):
        core.bus.subscribe(lambda event: None)
    stop = threading.Event()

    def watch() -> None:
        now = 0
        while not stop.is_set():
            now += 10
            delivery.check(now)

    tracker = core.submit()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(300):
            core.delivery.call(lambda number=number: take(number))
            core.log(str(number))
        assert delivery.flush(SOON)
    finally:
        stop.set()
        watcher.join(SOON)
    assert all_in.wait(SOON)  # a call that was left behind ends when it ends
    assert sorted(got) == list(range(300))
    assert delivery.ledger_report().exact
    assert not tracker.done
    delivery.close(SOON)


def test_without_threads_to_start_the_old_one_goes_on(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """R16: where no thread can be started the stalled subscriber still goes, and delivery resumes when it returns."""
    blocker, other = Blocker(), Sink()
    core.bus.subscribe(blocker)
    core.bus.subscribe(other)
    core.log("x")
    assert blocker.entered.wait(SOON)

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    core.pass_time(5.5)
    monkeypatch.undo()
    blocker.go_on.set()
    assert blocker.ended.wait(SOON)
    core.flush()
    assert other.seqs == [1]
    assert isinstance(blocker.got[-1], SubscriberStalled)
