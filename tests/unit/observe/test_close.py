"""The end of a delivery: everything is delivered to those that take it, the rest is reported."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from rxtasks.errors import ServiceStopped
from rxtasks.lifecycle.events import TaskEvent
from rxtasks.observe.delivery import Delivery
from tests.unit.observe.support import SOON, Blocker, Core, Sink


def test_close_delivers_what_waits_and_reports_nothing(core: Core) -> None:
    """R22: every event reaches each subscriber that keeps taking them, completion included."""
    sink = Sink()
    core.bus.subscribe(sink)
    for _ in range(1000):
        core.log("x")
    core.delivery.complete(core.bus)
    report = core.delivery.close(SOON)
    assert (report.undelivered, report.stuck) == ({}, [])
    assert sink.seqs == list(range(1, 1001)) and sink.got[-1] == "done"
    assert core.delivery.close(SOON).undelivered == {}


def test_close_returns_in_time_and_says_what_was_not_delivered() -> None:
    """R22: with a subscriber that is stuck; the others hear that the service stopped, the ledger stays exact."""
    core = Core(stall_timeout=1000.0)
    blocker, other = Blocker(), Sink()
    tracker = core.submit()
    core.bus.subscribe(blocker)
    core.bus.subscribe(other)
    late = Sink()
    core.run()
    core.log("x")
    assert blocker.entered.wait(SOON)
    tracker.subscribe(late)
    core.succeed()
    core.delivery.complete(core.bus)
    started = time.monotonic()
    report = core.delivery.close(0.05)
    assert time.monotonic() - started < 5
    assert report.undelivered == {"status": 2, "log": 1}
    assert len(report.stuck) == 1 and "Blocker" in report.stuck[0]
    assert other.ended.wait(SOON) and late.ended.wait(SOON)
    assert [type(value) for value in other.got] == [ServiceStopped]
    assert late.seqs == [1, 2, 3] and late.got[-1] == "done"  # from what the tracker holds
    ledger = core.delivery.ledger_report()
    assert ledger.exact and ledger.status.pending == 2 and ledger.log.pending == 1
    blocker.go_on.set()
    assert blocker.ended.wait(SOON)
    assert isinstance(blocker.got[-1], ServiceStopped)


def test_close_itself_watches_for_stalled_subscribers() -> None:
    """R22: the core's timer may be gone; a stuck subscriber costs its stall_timeout, then the rest is delivered."""
    core = Core(stall_timeout=0.05)
    core.delivery = Delivery(stall_timeout=0.05, report=core.report)
    core.bus = type(core.bus)(core.delivery)
    blocker, other = Blocker(), Sink()
    core.bus.subscribe(blocker)
    core.bus.subscribe(other)
    core.log("x")
    core.log("y")
    report = core.delivery.close(SOON)
    assert report.undelivered == {} and other.seqs == [1, 2]
    blocker.go_on.set()
    assert blocker.ended.wait(SOON)


def test_on_the_delivery_thread_close_and_flush_do_not_wait_for_themselves(core: Core) -> None:
    """R18: in on_next flush raises at once, and close returns; the rest is delivered after the call."""
    got: list[Any] = []
    ended = threading.Event()

    def stop(event: TaskEvent) -> None:
        got.append(event.seq)
        if event.seq == 1:
            with pytest.raises(RuntimeError, match="wait for itself"):
                core.delivery.flush(1)
            core.log("y")
            core.log("z")
            got.append(core.delivery.close(SOON).undelivered)
        if event.seq == 3:
            ended.set()

    core.bus.subscribe(stop)
    core.log("x")
    assert ended.wait(SOON)
    assert got == [1, {"log": 3}, 2, 3]


def test_after_close_trackers_still_answer_late_subscribers(core: Core) -> None:
    """E-08: the stream of a task outlives the service that ran it: on the caller's thread."""
    tracker = core.submit()
    core.bus.subscribe(Sink())
    core.run()
    core.log("x")
    core.succeed(5)
    core.close()
    late, results = Sink(), []
    tracker.subscribe(late)
    tracker.outcome.subscribe(results.append)
    assert late.seqs == [1, 2, 3] and late.got[-1] == "done"
    assert late.threads == {threading.get_ident()}
    assert results == [5]
    tracker.future.add_done_callback(lambda future: results.append(future.result()))
    assert results == [5, 5]


def test_a_task_that_ends_after_close_is_complete_for_late_subscribers(core: Core) -> None:
    """R24: the last events may come when nobody delivers any more; the tracker has them all."""
    tracker, sink = core.submit(), Sink()
    core.bus.subscribe(Sink())
    core.run()
    core.close()
    core.succeed(1)
    tracker.subscribe(sink)
    assert sink.seqs == [1, 2] and sink.got[-1] == "done"


def test_what_is_published_after_close_is_counted_and_goes_nowhere(core: Core) -> None:
    """L-05: nothing piles up behind a closed delivery."""
    sink = Sink()
    core.bus.subscribe(sink)
    core.log("x")
    core.close()
    core.log("y")
    report = core.delivery.ledger_report()
    assert sink.seqs == [1] and report.exact and report.log.pending == 1
    assert core.delivery.check(core.clock.now) is None


def test_close_without_any_subscriber_returns_at_once() -> None:
    """W-05: nothing was started, nothing is waited for."""
    core = Core()
    core.run()
    assert core.delivery.close(0).undelivered == {}
    assert core.delivery.flush(0)


def test_a_subscriber_held_by_a_full_buffer_at_close_is_told() -> None:
    """R22: a strategy that stopped taking does not hold close() up."""
    from rxtasks import operators

    core = Core(stall_timeout=1000.0)
    entered, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    errors: list[Exception] = []

    def stuck(_: TaskEvent) -> None:
        entered.set()
        assert go_on.wait(SOON)

    def fail(error: Exception) -> None:
        errors.append(error)
        ended.set()

    core.bus.pipe(operators.buffer_bounded(2, on_full="block")).subscribe(stuck, fail, ended.set)
    for number in range(20):
        core.log(str(number))
    assert entered.wait(SOON)
    report = core.delivery.close(0.05)
    assert report.undelivered["log"] > 10 and len(report.stuck) == 1
    assert core.delivery.ledger_report().exact
    go_on.set()
    assert ended.wait(SOON)
