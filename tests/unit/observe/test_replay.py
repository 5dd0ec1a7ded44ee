"""A run once more from its event log: at any speed under a scheduler, and as a marble diagram."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from reactivex.testing import TestScheduler

from rxtasks import ProtocolError, SettingsError, TaskContext, TaskService, task
from rxtasks.lifecycle.events import LogEvent, OutputEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.replay import marbles, replay

_START = datetime(2026, 1, 1, tzinfo=UTC)


def _at(seconds: float) -> datetime:
    return _START + timedelta(seconds=seconds)


def _status(task_id: str, seq: int, seconds: float, status: str) -> StatusEvent:
    return StatusEvent(task_id, seq, 1, "w", _at(seconds), TaskStatus(status))


RUN: list[TaskEvent] = [
    _status("A", 1, 0, "running"),
    _status("B", 1, 1, "running"),
    OutputEvent("A", 2, 1, "w", _at(2), "x"),
    LogEvent("B", 2, 1, "w", _at(3), "INFO", "hello"),
    _status("A", 3, 4, "succeeded"),
    _status("B", 3, 8, "failed"),
]


def _played(scheduler: TestScheduler, speed: float, events: Any = RUN) -> list[tuple[float, Any]]:
    seen: list[tuple[float, Any]] = []
    replay(events, speed=speed).subscribe(
        lambda event: seen.append((scheduler.clock, event.seq)),
        lambda error: seen.append((scheduler.clock, error)),
        lambda: seen.append((scheduler.clock, "over")),
        scheduler=scheduler,
    )
    scheduler.start()
    return seen


@pytest.mark.parametrize("speed", [1.0, 2, 0.5, 1000.0])
def test_events_come_again_as_far_apart_as_they_were_divided_by_the_speed(speed: float) -> None:
    """N-05: in their order, under virtual time."""
    times = [(round(at, 6), what) for at, what in _played(TestScheduler(), speed)]
    wanted = [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (8, 3), (8, "over")]
    assert [(round(at / speed, 6), what) for at, what in wanted] == times


def test_at_infinite_speed_nothing_waits_and_a_clock_set_back_costs_nothing() -> None:
    """N-05: order is by the log, never by the time."""
    assert {0.0} == {at for at, _ in _played(TestScheduler(), math.inf)}
    back = [_status("A", 1, 10, "running"), _status("A", 2, 3, "pending"), _status("A", 3, 11, "succeeded")]
    assert [(0, 1), (0, 2), (1, 3), (1, "over")] == [
        (round(at, 6), what) for at, what in _played(TestScheduler(), 1, back)
    ]


def test_a_subscriber_that_leaves_gets_nothing_more_and_each_has_a_run_of_its_own() -> None:
    scheduler = TestScheduler()
    first: list[int] = []
    second: list[int] = []
    source = replay(RUN, scheduler=scheduler)
    leaving = source.subscribe(lambda event: first.append(event.seq))
    source.subscribe(lambda event: second.append(event.seq))
    scheduler.advance_to(1.5)
    leaving.dispose()
    scheduler.start()
    assert ([1, 1], [1, 1, 2, 2, 3, 3]) == (first, second)


def test_lines_of_json_are_a_log_too_and_a_bad_one_is_an_error() -> None:
    data = b"\n".join(event.to_json() for event in RUN) + b"\n"
    assert 7 == len(_played(TestScheduler(), 1, data))
    assert marbles(RUN) == marbles(data) == marbles(data.decode())
    *_, (_, error) = _played(TestScheduler(), 1, [RUN[0], b"{}"])
    assert isinstance(error, ProtocolError)
    with pytest.raises(ProtocolError):
        marbles(["no event"])


def test_a_run_is_drawn_with_a_line_for_each_task() -> None:
    """N-05: each marble at its time."""
    assert (
        "A  *---o---|\nB    *---l---------X\n| succeeded  X failed  * running  o output  l log  - 500 ms"
    ) == marbles(RUN, width=17)
    assert "(no events)" == marbles([])
    assert "A  *\n* running  - 0.000143 ms" == marbles(RUN[:1], width=8)


@pytest.mark.parametrize("speed", [0, -1, math.nan, True, "2", None])
def test_a_speed_that_is_none_is_refused(speed: Any) -> None:
    with pytest.raises(SettingsError, match="speed is a number above 0"):
        replay(RUN, speed=speed)


@pytest.mark.parametrize("width", [0, 7, 10.0, True, None])
def test_a_width_that_is_none_is_refused(width: Any) -> None:
    with pytest.raises(SettingsError, match="width is a whole number"):
        marbles(RUN, width=width)


@task
def steps(ctx: TaskContext) -> int:
    for number in ctx.track(range(3)):
        ctx.emit(number)
    return 3


def test_a_real_run_is_replayed_and_drawn() -> None:
    """N-05: what a subscriber kept, on timer threads."""
    kept: list[TaskEvent] = []
    with TaskService(workers=2, isolation="thread", echo=None) as service:
        service.events.subscribe(kept.append)
        for tracker in [service.submit(steps) for _ in range(3)]:
            assert 3 == tracker.result(30)
    over = threading.Event()
    again: list[TaskEvent] = []
    replay(kept, speed=100).subscribe(again.append, on_completed=over.set)
    assert over.wait(30)
    assert kept == again and len(kept) >= 15
    drawn = marbles(kept).splitlines()
    assert 4 == len(drawn) and all(line.rstrip().endswith("|") for line in drawn[:3])
