"""iterate: a stream in a for loop."""

from __future__ import annotations

import gc
import itertools
import threading
from typing import Any

import pytest
import reactivex
from reactivex import operators as ops
from reactivex.subject import ReplaySubject, Subject

from rxtasks import TaskService
from rxtasks.errors import QueueFull, SettingsError
from rxtasks.observe.bus import TaskEventBus
from rxtasks.observe.delivery import Delivery
from rxtasks.operators import buffer_bounded, logs
from rxtasks.reactive.iterate import iterate
from rxtasks.reactive.subject import RxSubject
from tests.unit.reactive.operator_parts import LIMIT, NewThreads, feeding, in_thread, joined, log


def test_it_gives_every_value_in_order_and_ends() -> None:
    """R13: a completed stream ends the loop, for good."""
    threads = NewThreads()
    values = iterate(reactivex.from_(range(5000)), buffersize=3)
    assert list(values) == list(range(5000))
    assert list(values) == []
    threads.join()


def test_an_error_is_raised_after_the_values_before_it() -> None:
    """R13: once; then the iterator is over."""
    values = iterate(reactivex.concat(reactivex.of(1, 2), reactivex.throw(KeyError("x"))))
    assert [next(values), next(values)] == [1, 2]
    with pytest.raises(KeyError):
        next(values)
    with pytest.raises(StopIteration):
        next(values)


def test_leaving_the_with_disposes() -> None:
    """R14: the source is left, whatever way the block is left."""
    subject: Subject[int] = Subject()
    with pytest.raises(ZeroDivisionError), iterate(subject) as values:
        subject.on_next(1)
        assert next(values) == 1
        raise ZeroDivisionError
    assert not subject.observers
    assert list(values) == []


def test_it_subscribes_at_once() -> None:
    """R19: what comes between iterate() and the first next() is not missed."""
    subject: Subject[int] = Subject()
    values = iterate(subject)
    subject.on_next(1)
    subject.on_completed()
    assert list(values) == [1]


def test_an_endless_source_ends_with_the_loop() -> None:
    """W-10: no thread goes on counting for nobody."""
    threads = NewThreads()
    with iterate(reactivex.from_(itertools.count()), buffersize=2) as values:
        assert [next(values) for _ in range(5)] == [0, 1, 2, 3, 4]
    threads.join()


def test_dropping_the_iterator_disposes_without_a_with() -> None:
    """R14: `for ... break` leaves nothing behind."""
    subject: Subject[int] = Subject()
    values = iterate(subject)
    subject.on_next(1)
    for _ in values:
        break
    del values
    gc.collect()
    assert not subject.observers


def test_a_full_buffer_makes_the_emitter_wait() -> None:
    """R6: at most buffersize values wait."""
    subject: Subject[int] = Subject()
    with iterate(subject, buffersize=2) as values:
        through = threading.Event()
        emitter = feeding(subject, range(3), through=through)
        assert not through.wait(0.05)
        assert next(values) == 0
        assert through.wait(LIMIT)
        joined([emitter])


def test_leaving_lets_a_waiting_emitter_go() -> None:
    """R14: a blocked emitter is released."""
    subject: Subject[int] = Subject()
    with iterate(subject, buffersize=1):
        emitter = feeding(subject, range(3))
    joined([emitter])


def test_close_wakes_threads_that_wait_in_next() -> None:
    """R18: never a hang."""
    subject: Subject[int] = Subject()
    values = iterate(subject)
    results: list[list[int]] = []
    threads = [in_thread(lambda: results.append(list(values))) for _ in range(3)]
    subject.on_next(1)
    values.close()
    joined(threads)
    assert sum(map(len, results)) <= 1


def test_several_threads_share_an_iterator() -> None:
    """R12: each value goes to one of them."""
    subject: Subject[int] = Subject()
    values = iterate(subject, buffersize=5)
    results: list[list[int]] = []
    threads = [in_thread(lambda: results.append(list(values))) for _ in range(3)]
    for value in range(500):
        subject.on_next(value)
    subject.on_completed()
    joined(threads)
    assert sorted(itertools.chain(*results)) == list(range(500))
    assert all(part == sorted(part) for part in results)


def test_several_emitters_lose_nothing() -> None:
    """R12, R17."""
    subject: Subject[Any] = Subject()
    values = iterate(subject, buffersize=3)
    threads = [feeding(subject, [(base, value) for value in range(300)]) for base in range(3)]
    got = [next(values) for _ in range(900)]
    joined(threads)
    for base in range(3):
        assert [value for where, value in got if where == base] == list(range(300))
    values.close()


def test_the_thread_that_takes_is_not_blocked_by_its_own_values() -> None:
    """R18: a clear error instead of a deadlock."""
    subject: Subject[int] = Subject()
    values = iterate(subject, buffersize=2)
    subject.on_next(0)
    assert next(values) == 0
    for value in (1, 2, 3):
        subject.on_next(value)
    assert [next(values), next(values)] == [1, 2]
    with pytest.raises(QueueFull):
        next(values)


def test_a_replayed_past_longer_than_the_buffer_is_no_deadlock() -> None:
    """R18: sources that emit inside subscribe."""
    subject: ReplaySubject[int] = ReplaySubject()
    for value in range(50):
        subject.on_next(value)
    subject.on_completed()
    assert list(iterate(subject, buffersize=2)) == list(range(50))


@pytest.mark.parametrize(
    "shape",
    [
        lambda bus: bus,
        lambda bus: bus.pipe(logs("INFO")),
        lambda bus: bus.pipe(logs("INFO"), buffer_bounded(5)),
    ],
    ids=["stream", "filtered", "behind a strategy"],
)
def test_on_the_delivery_thread_of_the_stream_it_raises_at_once(shape: Any) -> None:
    """R18: inside on_next iterate() of the same stream would wait for itself."""
    delivery = Delivery()
    bus = TaskEventBus(delivery)
    outcome: list[BaseException | None] = []
    done = threading.Event()

    def inside(_: Any) -> None:
        try:
            iterate(shape(bus))
        except RuntimeError as error:
            outcome.append(error)
        done.set()

    bus.subscribe(inside)
    bus.on_next(log(1))
    assert done.wait(LIMIT)
    assert len(outcome) == 1
    delivery.close(LIMIT)


def test_on_a_delivery_thread_waiting_for_what_went_through_rxpy_raises_too() -> None:
    """R18: an operator of RxPY hides where a stream comes from; waiting is refused, what is there is given."""
    delivery = Delivery()
    bus = TaskEventBus(delivery)
    outcome: list[Any] = []
    done = threading.Event()

    def inside(_: Any) -> None:
        outcome.append(list(iterate(reactivex.of(1, 2, 3))))
        try:
            next(iterate(bus.pipe(ops.map(str))))
        except RuntimeError as error:
            outcome.append(error)
        done.set()

    bus.subscribe(inside)
    bus.on_next(log(1))
    assert done.wait(LIMIT)
    assert outcome[0] == [1, 2, 3]
    assert isinstance(outcome[1], RuntimeError)
    delivery.close(LIMIT)


def test_inside_on_next_of_a_strategy_it_works() -> None:
    """R18: there the thread is the subscriber's own."""
    delivery = Delivery()
    bus = TaskEventBus(delivery)
    got: list[int] = []
    entered, done = threading.Event(), threading.Event()

    def inside(event: Any) -> None:
        if event.seq == 1:
            with iterate(bus) as later:
                entered.set()
                got.append(next(later).seq)
            done.set()

    subscription = bus.pipe(buffer_bounded(5)).subscribe(inside)
    bus.on_next(log(1))
    assert entered.wait(LIMIT)
    bus.on_next(log(2))
    assert done.wait(LIMIT)
    assert got == [2]
    subscription.dispose()
    delivery.close(LIMIT)


def test_a_plain_subject_of_ours() -> None:
    """R12: without a service too."""
    subject: RxSubject[int] = RxSubject()
    values = iterate(subject)
    joined([feeding(subject, range(3), complete=True)])
    assert list(values) == [0, 1, 2]


@pytest.mark.parametrize("size", [0, -1, None, 2.5, True])
def test_buffersize_is_a_whole_number_from_one(size: Any) -> None:
    with pytest.raises(SettingsError, match="buffersize"):
        iterate(reactivex.of(1), buffersize=size)


def test_a_source_that_fails_to_subscribe_raises_in_next() -> None:
    """R13."""

    def bad(_: Any, __: Any = None) -> Any:
        raise LookupError("no source")

    with pytest.raises(LookupError):
        next(iterate(reactivex.create(bad)))


def test_for_over_a_stream_is_refused_and_says_what_to_write() -> None:
    """RxPY's indexing makes Python take a stream for a sequence: `for` would never end, and give no value."""
    with TaskService(1, isolation="thread", echo=None) as service:
        tracker = service.submit(len, "a")
        for stream in (
            service.map(len, ["a"]),
            service.defer(len, "a"),
            service.engine,
            service.events,
            service.pool,
            tracker,
            tracker.logs,
            tracker.outcome,
        ):
            with pytest.raises(TypeError, match=r"is a stream, .*with iterate"):
                iter(stream)
            assert isinstance(stream[:1], reactivex.Observable)
        assert tracker.result(LIMIT) == 1
