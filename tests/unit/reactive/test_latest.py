"""latest: the newest value, or the newest of each key."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import reactivex
from reactivex.scheduler import VirtualTimeScheduler
from reactivex.subject import Subject

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.events import ProgressEvent
from rxtasks.operators import latest
from rxtasks.reactive import latest as module
from tests.unit.reactive.operator_parts import LIMIT, Recorder, feeding, joined, step


def test_a_busy_subscriber_finds_only_the_newest() -> None:
    """R17, R8: what came meanwhile is dropped and counted, the newest is not."""
    source: Subject[int] = Subject()
    seen = Recorder(held=True)
    newest = source.pipe(latest())
    newest.subscribe(seen)
    source.on_next(0)
    assert seen.entered.wait(LIMIT)
    for value in range(1, 100):
        source.on_next(value)
    assert newest.dropped == 98
    seen.go.set()
    source.on_completed()
    assert seen.wait() == [0, 99]


def test_the_newest_of_each_key_in_the_order_of_arrival() -> None:
    """R17: what is delivered is a subsequence of the source, with the last value of every key."""
    scheduler = VirtualTimeScheduler()
    source: Subject[ProgressEvent] = Subject()
    seen = Recorder()
    source.pipe(latest(key=lambda event: event.task_id, scheduler=scheduler)).subscribe(seen)
    for event in (step(1, "a"), step(1, "b"), step(2, "a"), step(1, "c"), step(2, "b")):
        source.on_next(event)
    scheduler.start()
    assert [(event.task_id, event.seq) for event in seen.values] == [("a", 2), ("c", 1), ("b", 2)]
    source.on_next(step(3, "a"))
    source.on_completed()
    scheduler.start()
    assert [(event.task_id, event.seq) for event in seen.wait()][3:] == [("a", 3)]


@pytest.mark.parametrize("key", [lambda _: 1 / 0, lambda value: [value]], ids=["raises", "unhashable"])
def test_a_key_that_fails_is_an_error_of_the_stream(key: Any) -> None:
    """R13: as with a mapper that raises; the source is left, the emitter sees no exception."""
    source: Subject[int] = Subject()
    seen = Recorder()
    source.pipe(latest(key=key)).subscribe(seen)
    source.on_next(1)
    source.on_next(2)
    seen.wait()
    assert isinstance(seen.error, (ZeroDivisionError, TypeError))
    assert not source.observers


def test_more_keys_than_there_is_room_for_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """R6: the number of keys that wait is bounded, and no last value is lost for it."""
    monkeypatch.setattr(module, "MAX_KEYS", 3)
    source: Subject[int] = Subject()
    seen = Recorder(held=True)
    newest = source.pipe(module.latest(key=lambda value: value % 100))
    newest.subscribe(seen)
    source.on_next(0)
    assert seen.entered.wait(LIMIT)
    for value in (1, 2, 3, 101, 102):
        source.on_next(value)
    through = threading.Event()
    emitter = feeding(source, [4], through=through)
    assert not through.wait(0.05)
    seen.go.set()
    joined([emitter])
    source.on_completed()
    assert seen.wait() == [0, 3, 101, 102, 4]
    assert newest.dropped == 2


def test_a_wrong_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="function"):
        latest(key="task_id")  # type: ignore[arg-type]


def test_of_an_empty_source_there_is_no_newest() -> None:
    """R13: just the completion."""
    seen = Recorder()
    reactivex.empty().pipe(latest()).subscribe(seen)
    assert seen.wait() == []
    assert seen.completed == 1
