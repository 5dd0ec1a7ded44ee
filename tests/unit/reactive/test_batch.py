"""batch: lists bounded in size and time; virtual time where time matters."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
import reactivex
from reactivex.subject import Subject
from reactivex.testing import ReactiveTest, TestScheduler

from rxtasks.errors import SettingsError
from rxtasks.operators import batch
from tests.unit.reactive.operator_parts import LIMIT, Recorder, feeding, in_thread, joined

on_next, on_completed, on_error = ReactiveTest.on_next, ReactiveTest.on_completed, ReactiveTest.on_error


def marbles(operator: Any, *messages: Any, scheduler: TestScheduler) -> list[Any]:
    source = scheduler.create_hot_observable(*messages)
    result = scheduler.start(lambda: source.pipe(operator), created=100, subscribed=200, disposed=1000)
    notes: list[tuple[float, Any]] = [(message.time, message.value) for message in result.messages]
    return [(time, note.kind, getattr(note, "value", None)) for time, note in notes]


def test_a_list_comes_when_it_is_full_or_its_first_value_is_old_enough() -> None:
    """R17: sizes and times are bounded."""
    scheduler = TestScheduler()
    got = marbles(
        batch(3, 50.0, scheduler),
        on_next(210, 1),
        on_next(220, 2),
        on_next(230, 3),
        on_next(240, 4),
        on_next(280, 5),
        on_next(300, 6),
        on_next(600, 7),
        on_completed(610),
        scheduler=scheduler,
    )
    assert [entry[2] for entry in got[:-1]] == [[1, 2, 3], [4, 5], [6], [7]]
    assert [entry[0] for entry in got] == pytest.approx([230, 290, 350, 610, 610])
    assert [entry[1] for entry in got] == ["N", "N", "N", "N", "C"]


def test_the_rest_comes_before_an_error_too() -> None:
    """R17, R13: an error does not swallow what came before it."""
    scheduler = TestScheduler()
    got = marbles(batch(10, 500.0, scheduler), on_next(210, 1), on_error(220, KeyError("x")), scheduler=scheduler)
    assert [(entry[1], entry[2]) for entry in got] == [("N", [1]), ("E", None)]


def test_an_empty_list_is_never_given() -> None:
    """R17: silence gives nothing."""
    scheduler = TestScheduler()
    assert marbles(batch(3, 10.0, scheduler), on_completed(900), scheduler=scheduler) == [(900, "C", None)]


def test_the_clock_of_a_list_starts_with_its_first_value() -> None:
    """R17: the remainder of a full list gets its own time, not that of the list before."""
    scheduler = TestScheduler()
    source: Subject[int] = Subject()
    seen = Recorder()
    source.pipe(batch(2, 100.0, scheduler)).subscribe(seen)
    source.on_next(1)
    scheduler.advance_to(90)
    source.on_next(2)
    source.on_next(3)
    scheduler.advance_to(180)
    assert seen.values == [[1, 2]]
    scheduler.advance_to(191)
    assert seen.values == [[1, 2], [3]]


def test_time_alone_gives_a_list_on_a_thread_of_its_own() -> None:
    """R17: without a scheduler the time is real."""
    source: Subject[int] = Subject()
    seen = Recorder()
    subscription = source.pipe(batch(1000, timedelta(milliseconds=1))).subscribe(seen)
    source.on_next(1)
    assert seen.wait_for(1) == [[1]]
    source.on_next(2)
    assert seen.wait_for(2) == [[1], [2]]
    subscription.dispose()


def test_time_alone_gives_a_list_on_a_loop() -> None:
    """E-18: and on an asyncio loop by the loop's time."""

    async def main() -> list[Any]:
        done = asyncio.Event()
        source: Subject[int] = Subject()
        got: list[Any] = []

        def take(part: list[int]) -> None:
            got.append(part)
            done.set()

        subscription = source.pipe(batch(1000, 0.001, asyncio.get_running_loop())).subscribe(take)
        joined([in_thread(lambda: source.on_next(1))])
        await asyncio.wait_for(done.wait(), LIMIT)
        subscription.dispose()
        return got

    assert asyncio.run(main()) == [[1]]


def test_zero_seconds_give_what_waits_at_once() -> None:
    seen = Recorder()
    reactivex.from_(range(100)).pipe(batch(10, 0)).subscribe(seen)
    parts = seen.wait()
    assert [value for part in parts for value in part] == list(range(100))
    assert max(map(len, parts)) <= 10


def test_a_slow_subscriber_bounds_what_waits() -> None:
    """R6: beyond the room the emitter waits; nothing is lost."""
    source: Subject[int] = Subject()
    seen = Recorder(held=True)
    source.pipe(batch(1, 1.0)).subscribe(seen)
    source.on_next(-1)
    assert seen.entered.wait(LIMIT)
    for value in range(1024):
        source.on_next(value)
    through = threading.Event()
    emitter = feeding(source, [1024], through=through)
    assert not through.wait(0.05)
    seen.go.set()
    joined([emitter])
    source.on_completed()
    assert [value for part in seen.wait() for value in part] == list(range(-1, 1025))


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "1", None])
def test_seconds_are_a_number_from_zero(seconds: Any) -> None:
    with pytest.raises(SettingsError, match="seconds"):
        batch(3, seconds)


def test_n_is_a_whole_number_from_one() -> None:
    with pytest.raises(SettingsError, match="n is a whole number"):
        batch(0, 1.0)
