"""What RxSubject promises beyond a stock Subject, and where a stock Subject fails."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.internal import DisposedException
from reactivex.subject import Subject

from rxtasks.errors import QueueFull
from rxtasks.reactive import subject as subject_module
from rxtasks.reactive.subject import RxSubject


class Recorded(RxSubject[Any]):
    """A subject that keeps what is reported."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[tuple[str, BaseException | None]] = []

    def _report(self, what: str, error: BaseException | None) -> None:
        self.reports.append((what, error))


class Sink:
    """An observer that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def on_next(self, value: Any) -> None:
        self.got.append(value)

    def on_error(self, error: Exception) -> None:
        self.got.append(error)

    def on_completed(self) -> None:
        self.got.append("done")


def boom(value: Any) -> None:
    raise ValueError(value)


def test_it_is_a_subject_and_stock_operators_work_on_it() -> None:
    subject: RxSubject[int] = RxSubject()
    sink = Sink()
    subject.pipe(ops.filter(lambda x: x > 1), ops.map(lambda x: x * 10), ops.take(2)).subscribe(sink)
    rx.from_([1, 2, 3, 4]).subscribe(subject)
    assert isinstance(subject, Subject)
    assert sink.got == [20, 30, "done"]


def test_what_a_stock_subject_sets_is_there_when_asked_for() -> None:
    subject: RxSubject[int] = RxSubject()
    assert vars(subject) == {}
    assert (subject.is_stopped, subject.is_disposed, subject.exception, subject.observers) == (False, False, None, [])
    assert subject.lock is subject.lock
    subject.subscribe(print)
    assert len(subject.observers) == 1
    error = ValueError()
    subject.on_error(error)
    assert (subject.is_stopped, subject.exception) == (True, error)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        subject.absent  # type: ignore[attr-defined]  # noqa: B018


def test_a_subscriber_that_raises_does_not_stop_the_others() -> None:
    """R15: a subscriber that raises is reported once and detached; the emitter and the others notice nothing."""
    subject = Recorded()
    before, after = Sink(), Sink()
    subject.subscribe(before)
    subject.subscribe(boom)
    subject.subscribe(after)
    subject.on_next(1)
    subject.on_next(2)
    assert before.got == after.got == [1, 2]
    ((what, error),) = subject.reports
    assert "boom" in what and isinstance(error, ValueError)
    assert len(subject.observers) == 2


@pytest.mark.parametrize("end", ["on_completed", "on_error"])
def test_a_subscriber_that_raises_at_the_end_does_not_stop_the_others(end: str) -> None:
    """R15: also where it raises in on_completed or on_error."""
    subject = Recorded()
    sink = Sink()
    failure = OSError("end")

    def raising(*_: Any) -> None:
        raise ValueError("late")

    subject.subscribe(lambda _: None, raising, raising)
    subject.subscribe(sink)
    subject.on_completed() if end == "on_completed" else subject.on_error(failure)
    assert sink.got == ["done" if end == "on_completed" else failure]
    assert [type(error) for _, error in subject.reports] == [ValueError]


def test_an_error_without_a_handler_is_no_fault_of_the_subscriber() -> None:
    """R15: a subscriber without on_error is not reported when the stream fails."""
    subject = Recorded()
    subject.subscribe(lambda _: None)
    subject.on_error(OSError("end"))
    assert subject.reports == []


def test_a_reporter_that_raises_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """R15: neither the emitter nor the others see what the reporter raises."""

    class Bad(RxSubject[int]):
        def _report(self, what: str, error: BaseException | None) -> None:
            raise RuntimeError("no reporter")

    subject = Bad()
    sink = Sink()
    subject.subscribe(boom)
    subject.subscribe(sink)
    subject.on_next(1)
    assert sink.got == [1]
    assert "no reporter" in caplog.text


def test_an_interrupt_belongs_to_the_program() -> None:
    """R15: Ctrl-C while a subscriber runs on the main thread goes to the emitter and detaches nobody."""
    subject = Recorded()
    seen = []

    def interrupted(value: int) -> None:
        seen.append(value)
        if value == 1:
            raise KeyboardInterrupt

    subject.subscribe(interrupted)
    with pytest.raises(KeyboardInterrupt):
        subject.on_next(1)
    subject.on_next(2)
    assert seen == [1, 2] and subject.reports == []


def test_nothing_follows_the_end() -> None:
    """R13: on_next* (on_completed or on_error)?, nothing after, for subscribers early and late."""
    subject: RxSubject[int] = RxSubject()
    early, late = Sink(), Sink()
    subject.subscribe(early)
    subject.on_next(1)
    subject.on_completed()
    subject.on_completed()
    subject.on_error(ValueError())
    subject.on_next(2)
    subject.subscribe(late)
    assert early.got == [1, "done"]
    assert late.got == ["done"]
    failed: RxSubject[int] = RxSubject()
    error = ValueError()
    failed.on_error(error)
    late = Sink()
    failed.subscribe(late)
    assert late.got == [error]


def test_the_end_emitted_by_a_subscriber_comes_after_the_current_value_for_all() -> None:
    """R12: a subscriber that ends the stream in on_next does not cut the others off from the value."""
    subject: RxSubject[int] = RxSubject()
    other = Sink()
    subject.subscribe(lambda _: subject.on_completed())
    subject.subscribe(other)
    subject.on_next(1)
    assert other.got == [1, "done"]


def test_a_subscriber_may_dispose_itself_in_on_next() -> None:
    """R14: self-disposal in on_next takes effect at once and skips nobody."""
    subject: RxSubject[int] = RxSubject()
    got, other = [], Sink()

    def once(value: int) -> None:
        got.append(value)
        handle.dispose()

    handle = subject.subscribe(once)
    subject.subscribe(other)
    subject.on_next(1)
    subject.on_next(2)
    assert got == [1]
    assert other.got == [1, 2]


def test_a_subscriber_may_dispose_another_in_on_next() -> None:
    """R14: who is disposed during an emission gets nothing more of it."""
    subject: RxSubject[int] = RxSubject()
    other = Sink()
    subject.subscribe(lambda _: handle.dispose())
    handle = subject.subscribe(other)
    subject.on_next(1)
    assert other.got == []


def test_a_subscriber_may_subscribe_in_on_next() -> None:
    """R12: who subscribes during an emission gets the values after it."""
    subject: RxSubject[int] = RxSubject()
    late = Sink()
    subject.pipe(ops.take(1)).subscribe(lambda _: subject.subscribe(late))
    subject.on_next(1)
    subject.on_next(2)
    assert late.got == [2]


def test_a_subscriber_that_emits_does_not_grow_the_stack() -> None:
    """R18: ten times the recursion limit of nested emissions, in order, the same for all subscribers."""
    subject: RxSubject[int] = RxSubject()
    other = Sink()
    subject.subscribe(lambda value: subject.on_next(value + 1) if value < 10_000 else None)
    subject.subscribe(other)
    subject.on_next(0)
    assert other.got == list(range(10_001))


def test_a_subscriber_that_emits_without_end_is_refused() -> None:
    """R6: what waits for the current emission is bounded; who overdoes it gets QueueFull and is detached."""
    subject = Recorded()

    def flood(value: int) -> None:
        for each in range(subject_module.PENDING_LIMIT + 1):
            subject.on_next(each)

    subject.subscribe(flood)
    subject.on_next(0)
    assert [type(error) for _, error in subject.reports] == [QueueFull]


@pytest.mark.parametrize("round", range(5))
def test_two_emitting_threads_never_overlap_and_all_see_one_order(round: int) -> None:
    """R12: calls to one subscriber never overlap, nothing is lost, and all subscribers see one order."""
    subject: RxSubject[tuple[int, int]] = RxSubject()
    inside, overlaps = [0], [0]

    def guarded(_: Any) -> None:
        inside[0] += 1
        overlaps[0] += inside[0] > 1
        inside[0] -= 1

    first, second, total = Sink(), Sink(), Sink()
    subject.subscribe(first)
    subject.subscribe(guarded)
    subject.subscribe(second)
    subject.pipe(ops.map(lambda _: 1), ops.scan(lambda a, b: a + b, 0)).subscribe(total)
    start = threading.Barrier(4)

    def emit(who: int) -> None:
        start.wait()
        for number in range(500):
            subject.on_next((who, number))

    threads = [threading.Thread(target=emit, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert overlaps == [0]
    assert first.got == second.got
    assert total.got[-1] == len(first.got) == 2000
    for who in range(4):
        assert [number for source, number in first.got if source == who] == list(range(500))


def test_a_thread_over_the_bound_waits_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """R6: while a subscriber is busy, another thread's values wait up to the bound, then that thread waits."""
    monkeypatch.setattr(subject_module, "PENDING_LIMIT", 3)
    subject: RxSubject[int] = RxSubject()
    entered, go_on = threading.Event(), threading.Event()
    sink = Sink()

    def slow(value: int) -> None:
        if value == 0:
            entered.set()
            go_on.wait(10)

    subject.subscribe(slow)
    subject.subscribe(sink)
    busy = threading.Thread(target=subject.on_next, args=(0,))
    busy.start()
    assert entered.wait(10)
    fourth = threading.Event()

    def flood() -> None:
        for value in range(1, 4):
            subject.on_next(value)
        fourth.set()
        subject.on_next(4)

    other = threading.Thread(target=flood)
    other.start()
    assert fourth.wait(10)
    go_on.set()
    busy.join(10)
    other.join(10)
    assert sink.got == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", ["dispose", "completed", "error", "raised", "subject"])
def test_no_reference_to_a_subscriber_is_kept(how: str) -> None:
    """R14: after the end of a subscription nothing of ours refers to the subscriber, its own disposable included."""
    subject = Recorded()

    class Subscriber(Sink):
        def on_next(self, value: Any) -> None:
            if how == "raised":
                raise ValueError

    subscriber = Subscriber()
    there = weakref.ref(subscriber)
    handle = subject.subscribe(subscriber)
    piped = subject.pipe(ops.map(lambda x: x)).subscribe(subscriber)
    subject.on_next(1)
    if how == "dispose":
        handle.dispose()
    elif how == "completed":
        subject.on_completed()
    elif how == "error":
        subject.on_error(ValueError())
    elif how == "subject":
        subject.dispose()
    del piped, subscriber
    subject.reports.clear()
    gc.collect()
    if how != "dispose":
        assert subject.observers == []
    else:
        for target in subject.observers:
            target.dispose()  # type: ignore[attr-defined]
        gc.collect()
    assert there() is None
    assert handle is not None


def test_a_disposed_subject_refuses() -> None:
    """R13: as a stock Subject, a disposed one raises; its subscribers hear nothing."""
    subject: RxSubject[int] = RxSubject()
    sink = Sink()
    subject.subscribe(sink)
    subject.dispose()
    for use in (lambda: subject.on_next(1), subject.on_completed, lambda: subject.on_error(ValueError())):
        with pytest.raises(DisposedException):
            use()
    refused = Sink()
    subject.subscribe(refused)
    assert sink.got == [] and [type(error) for error in refused.got] == [DisposedException]


def test_a_subclass_may_emit_something_else_than_it_takes() -> None:
    """E-01: an engine takes requests and gives events; the input is its own."""

    class Doubler(RxSubject[int]):
        def on_next(self, value: int) -> None:
            self._emit_next(value * 2)

    doubler, sink = Doubler(), Sink()
    doubler.subscribe(sink)
    rx.from_([1, 2]).subscribe(doubler)
    assert sink.got == [2, 4, "done"]


def test_it_redefines_no_name_of_observable_or_subject() -> None:
    """E-01: what RxPY calls run, retry, timeout, first, lock ... stays what it is."""
    known = set(dir(Subject()))
    allowed = {"on_next", "on_error", "on_completed", "dispose", "__await__"}
    ours = {name for name in vars(RxSubject) if not name.startswith("_")}
    assert ours & known <= allowed


def test_an_emission_is_cheap() -> None:
    """L-04: making a subject makes two objects at most; nothing waits in it."""
    subject: RxSubject[int] = RxSubject()
    subject.on_next(1)
    assert set(vars(subject)) <= {"_gate"}
