"""The same program gives the same events and the same outcome inline, in a thread and in a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings

from rxtasks import (
    LogEvent,
    OutputEvent,
    ProgressEvent,
    StatusEvent,
    TaskErrorInfo,
    TaskEvent,
    TaskService,
    ValueRef,
)
from rxtasks.testing import handlers
from rxtasks.testing.isolation_suite import all_events
from rxtasks.testing.programs import programs
from rxtasks.worker.normalise import number, optional_number

ISOLATIONS = ("inline", "thread", "process")


@attrs.frozen
class Told:
    """What a run told, without what may differ: ids, times, sizes on the way."""

    #: Statuses, logs and outputs in order.
    sequence: list[Any]
    progress: list[Any]
    outcome: Any


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, TaskService]]:
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(TaskService(1, isolation=kind, echo=None, on_exit="force")) for kind in ISOLATIONS
        }


def value_of(value: Any) -> Any:
    """A value that travelled has a size, one that was handed over has none."""
    return (value.type, value.preview) if isinstance(value, ValueRef) else value


def error_of(info: TaskErrorInfo | None) -> Any:
    if info is None:
        return None
    last = info.traceback.rstrip("\n").rsplit("\n", 1)[-1]
    return info.type, info.message, info.code, info.details, last, error_of(info.cause)


def told(event: TaskEvent) -> Any:
    match event:
        case StatusEvent():
            return "status", event.attempt, event.status, value_of(event.result), error_of(event.error)
        case LogEvent():
            return "log", event.attempt, event.level, event.message, event.stream, event.fields
        case OutputEvent():
            return "output", event.attempt, value_of(event.value)
        case ProgressEvent():
            return event.attempt, event.current, event.total, event.message, event.data
    raise AssertionError(event)


def run(service: TaskService, program: list[Any]) -> Told:
    tracker = service.submit(handlers.play, program)
    try:
        outcome = ("returned", repr(tracker.result(timeout=20)))
    except Exception as error:
        outcome = (type(error).__qualname__, repr(error.args), repr(vars(error)))
    events = all_events(tracker)
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    steps = [told(event) for event in events if isinstance(event, ProgressEvent)]
    rest = [told(event) for event in events if not isinstance(event, ProgressEvent)]
    return Told(rest, steps, outcome)


def is_subsequence(some: list[Any], whole: list[Any]) -> bool:
    left = iter(whole)
    return all(item in left for item in some)


def said_progress(program: list[Any]) -> list[Any]:
    """Return what the program says, as the numbers of its progress calls."""
    steps: list[Any] = []
    current: Any = 0
    total: Any = None
    text: Any = None
    for step in program:
        if step[0] == "progress":
            _, current, total, text, data = step
            current, total = number(current), optional_number(total)
            steps.append((1, current, total, text, data))
        elif step[0] == "advance":
            current = number(current + number(step[1]))
            steps.append((1, current, total, text, {}))
    return steps


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=programs())
@example(program=[("progress", -(2**63), None, None, {}), ("advance", -1)])
def test_a_program_tells_the_same_everywhere(services: dict[str, TaskService], program: list[Any]) -> None:
    """E-05, R7: statuses, logs, outputs, result and error are equal; progress is a subsequence with the same end."""
    runs = {kind: run(service, program) for kind, service in services.items()}
    first = runs["inline"]
    said = said_progress(program)
    for kind, other in runs.items():
        assert first.sequence == other.sequence, kind
        assert first.outcome == other.outcome, kind
        assert is_subsequence(other.progress, said), kind
        assert other.progress[-1:] == said[-1:], kind
