"""The filters: of_task, statuses, logs, progress, outputs, terminal."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
import reactivex
from reactivex.subject import Subject

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.events import TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.bus import TaskEventBus
from rxtasks.observe.delivery import Delivery
from rxtasks.operators import logs, of_task, outputs, progress, statuses, terminal
from rxtasks.reactive.flow import flow_of
from rxtasks.reactive.subject import RxSubject
from tests.unit.reactive.operator_parts import Recorder, every_kind, log, status


def seqs(operator: Any) -> list[int]:
    seen = Recorder()
    reactivex.from_(every_kind()).pipe(operator).subscribe(seen)
    assert seen.completed == 1
    return [event.seq for event in seen.values]


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (of_task("t1"), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (of_task("t"), []),
        (of_task("t11"), []),
        (statuses(), [1, 6, 7, 9]),
        (logs(), [2, 3, 8]),
        (logs("TRACE"), [2, 3, 8]),
        (logs("INFO"), [3, 8]),
        (logs("warn"), [3, 8]),
        (logs(logging.ERROR), [8]),
        (logs("CRITICAL"), []),
        (progress(), [4]),
        (outputs(), [5]),
        (terminal(), [9]),
    ],
)
def test_a_filter_passes_its_events_in_order_and_no_others(operator: Any, expected: list[int]) -> None:
    """E-03, E-08: each kind of event has its filter; ids match exactly."""
    assert seqs(operator) == expected


@pytest.mark.parametrize("word", [TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_terminal_passes_each_way_to_end(word: TaskStatus) -> None:
    """E-04: succeeded, failed and cancelled end a task."""
    seen = Recorder()
    reactivex.of(status(), status(word, 2), log(3)).pipe(terminal()).subscribe(seen)
    assert [event.status for event in seen.values] == [word]


def test_a_level_that_is_not_in_the_list_is_never_hidden() -> None:
    """E-10: a log event of an unknown level passes every minimum."""
    seen = Recorder()
    reactivex.of(log(1, "NOTICE"), log(2, "DEBUG")).pipe(logs("ERROR")).subscribe(seen)
    assert [event.level for event in seen.values] == ["NOTICE"]


@pytest.mark.parametrize("level", ["LOUD", "", True, 2.5, object()])
def test_a_wrong_level_is_refused_with_the_list_of_levels(level: Any) -> None:
    with pytest.raises(SettingsError, match="TRACE, DEBUG, INFO"):
        logs(level)


def test_of_task_wants_an_id() -> None:
    with pytest.raises(SettingsError, match="id of a task"):
        of_task(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("operator", [of_task("t1"), statuses(), logs("INFO"), progress(), outputs(), terminal()])
def test_a_filter_passes_the_flow_of_a_services_stream_on(operator: Any) -> None:
    """L-04: behind filters a strategy still is directly on the service's stream."""
    delivery = Delivery()
    bus = TaskEventBus(delivery)
    assert flow_of(bus.pipe(operator)) is delivery
    assert flow_of(bus.pipe(of_task("t1"), operator)) is delivery
    plain: Subject[TaskEvent] = Subject()
    assert flow_of(plain.pipe(operator)) is None


@pytest.mark.parametrize("operator", [of_task("t1"), statuses(), logs("INFO"), progress(), outputs(), terminal()])
def test_the_error_of_the_source_passes(operator: Any) -> None:
    """R13: on_error ends the stream."""
    seen = Recorder()
    reactivex.throw(KeyError("x")).pipe(operator).subscribe(seen)
    assert isinstance(seen.error, KeyError)


def test_of_task_on_values_that_are_no_events_ends_with_an_error() -> None:
    """R13: a foreign value is an on_error, as with a predicate that raises."""
    seen = Recorder()
    subject: Subject[Any] = Subject()
    subject.pipe(of_task("t1")).subscribe(seen)
    subject.on_next(1)
    subject.on_next(log(1))
    assert isinstance(seen.error, AttributeError)
    assert (seen.values, seen.errors) == ([], 1)
    assert not subject.observers


def test_dispose_leaves_the_source() -> None:
    """R14: after dispose the source knows the subscriber no more."""
    subject: Subject[TaskEvent] = Subject()
    seen = Recorder()
    subscription = subject.pipe(of_task("t1"), logs("INFO")).subscribe(seen)
    subject.on_next(log(1))
    subscription.dispose()
    subject.on_next(log(2))
    assert [event.seq for event in seen.values] == [1]
    assert not subject.observers


@pytest.mark.parametrize("operator", [of_task("t1"), statuses(), logs("INFO"), terminal()])
def test_a_filter_costs_less_than_a_third_of_a_microsecond(operator: Any) -> None:
    """L-04: filters are cheap; the best of several runs counts, for the machine is shared."""
    events = every_kind() * 200

    def best(stream: Any) -> float:
        stream.subscribe(lambda _: None)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            for event in events:
                subject.on_next(event)
            times.append(time.perf_counter() - start)
        return min(times) / len(events) * 1e6

    costs = []
    for _ in range(20):
        subject: RxSubject[TaskEvent] = RxSubject()
        bare = best(subject)
        subject = RxSubject()
        costs.append(best(subject.pipe(operator)) - bare)
        if costs[-1] < 0.3:
            return
    raise AssertionError(f"microseconds an event: {costs}")
