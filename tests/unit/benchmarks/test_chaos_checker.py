"""The checker of the chaos protocol is checked: each promise that is broken is named, and no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from benchmarks.chaos.__main__ import render
from benchmarks.chaos.checker import Evidence, Execution, check
from rxtasks import OutputEvent, StatusEvent, TaskEvent, TaskRecord, TaskStatus
from rxtasks.lifecycle.options import DEFAULT_OPTIONS

_START = datetime(2026, 1, 1, tzinfo=UTC)


def _at(seconds: float) -> datetime:
    return _START + timedelta(seconds=seconds)


def _us(seconds: float) -> int:
    return round(_at(seconds).timestamp() * 1e6)


def _status(seq: int, status: TaskStatus, at: float, task_id: str = "t") -> StatusEvent:
    result = [1, 7] if status is TaskStatus.SUCCEEDED else None
    return StatusEvent(task_id, seq, 1, "w", _at(at), status, result, None)


def _record(status: TaskStatus, **more: Any) -> TaskRecord:
    made = TaskRecord(
        "t", "f", status, 1, 0, 0, 0, "w", None, _at(0), _at(1), _at(3), [1, 7], None, DEFAULT_OPTIONS, ()
    )
    return attrs.evolve(made, **more)


def _sound() -> Evidence:
    """A task that ran once under the fence 7 and succeeded, seen by an observer; a zombie was refused."""
    events: list[TaskEvent] = [
        _status(1, TaskStatus.RUNNING, 1),
        OutputEvent("t", 2, 1, "w", _at(2), "x"),
        _status(3, TaskStatus.SUCCEEDED, 3),
    ]
    seen = [
        {"id": "t", "seq": event.seq, "event": event.to_json().decode(), "at": _us(event.seq + 0.1)} for event in events
    ]
    return Evidence(
        driver=[
            {"what": "fault", "kind": "kill worker", "name": "a", "pid": 99, "killed": [99], "at": _us(0)},
            {"what": "left", "processes": []},
        ],
        pushed=[{"what": "pushed", "id": "t", "at": _us(0)}],
        services=[{"what": "refused", "id": "t"}, {"what": "stopped", "pid": 5, "open": []}],
        seen={"seen-observer-o-1": seen},
        executions={"t": [Execution("t", "a", 10, 7, _us(1), _us(2.5), True)]},
        records={"t": _record(TaskStatus.SUCCEEDED)},
        events={"t": events},
        litter=[],
    )


def _broken(evidence: Evidence) -> set[str]:
    return {promise.name for promise in check(evidence).promises if promise.broken}


def test_a_sound_run_keeps_every_promise() -> None:
    verdict = check(_sound())
    assert verdict.kept, render(verdict)
    assert 1 == verdict.tasks
    assert {"kill worker": 1} == verdict.faults
    assert "NO" not in render(verdict)


def _lose(evidence: Evidence) -> None:
    evidence.pushed.append({"what": "pushed", "id": "gone", "at": 0})


def _never_try(evidence: Evidence) -> None:
    evidence.records["u"] = _record(TaskStatus.PENDING, task_id="u")


def _end_twice(evidence: Evidence) -> None:
    evidence.events["t"].append(_status(4, TaskStatus.SUCCEEDED, 4))


def _leave_a_gap(evidence: Evidence) -> None:
    evidence.events["t"][2] = _status(4, TaskStatus.SUCCEEDED, 3)
    evidence.seen.clear()
    evidence.seen["seen-service-a-1"] = []


def _change(evidence: Evidence) -> None:
    evidence.events["t"][1] = OutputEvent("t", 2, 1, "w", _at(2), "y")


def _miss_the_end(evidence: Evidence) -> None:
    evidence.seen["seen-observer-o-1"].pop()


def _repeat(evidence: Evidence) -> None:
    rows = evidence.seen["seen-observer-o-1"]
    rows.append(rows[-1])


def _start_cancelled(evidence: Evidence) -> None:
    """By what was seen: the time in the event is of a wall clock that may have been set."""
    end = evidence.events["t"][2] = _status(3, TaskStatus.CANCELLED, 0.5)
    evidence.records["t"] = _record(TaskStatus.CANCELLED)
    evidence.seen["seen-observer-o-1"][2] = {"id": "t", "seq": 3, "event": end.to_json().decode(), "at": _us(0.5)}


def _start_again_after_the_wish(evidence: Evidence) -> None:
    evidence.pushed.append({"what": "cancelled", "id": "t", "said": True, "at": _us(0.5)})
    evidence.executions["t"].insert(0, Execution("t", "b", 11, 6, _us(0.6), _us(0.7), False))


def _overlap(evidence: Evidence) -> None:
    evidence.executions["t"].insert(0, Execution("t", "b", 11, 6, _us(0.5), _us(1.5), False))


def _reuse_a_fence(evidence: Evidence) -> None:
    evidence.executions["t"].insert(0, Execution("t", "b", 11, 7, _us(0.5), _us(0.7), False))


def _accept_a_zombie(evidence: Evidence) -> None:
    evidence.executions["t"].append(Execution("t", "b", 11, 8, _us(2.8), _us(2.9), True))


def _blame(evidence: Evidence) -> None:
    evidence.records["t"] = _record(TaskStatus.SUCCEEDED, crashes=1)


def _litter(evidence: Evidence) -> None:
    evidence.litter.append("tmp/rxtasks-1")


def _leave_a_process(evidence: Evidence) -> None:
    evidence.driver.append({"what": "left", "processes": ["python"]})


def _leave_a_descriptor(evidence: Evidence) -> None:
    evidence.services.append({"what": "stopped", "pid": 6, "open": ["socket:[1]"]})


def _start_an_old_claim(evidence: Evidence) -> None:
    evidence.executions["t"].append(Execution("t", "b", 11, 6, _us(2.6), _us(2.7), True))


@pytest.mark.parametrize(
    "harm, names",
    [
        (_lose, {"acknowledged but lost"}),
        (_never_try, {"in store but never tried", "tried but without an end"}),
        (_end_twice, {"terminal events != 1", "observer's gaps, repeats, ends missed"}),
        (_leave_a_gap, {"seq gaps"}),
        (_change, {"observed, then lost or changed"}),
        (_miss_the_end, {"observer's gaps, repeats, ends missed"}),
        (_repeat, {"observer's gaps, repeats, ends missed"}),
        (_start_cancelled, {"cancelled, then started"}),
        (_start_again_after_the_wish, {"cancelled, then started"}),
        (_overlap, {"overlapping executions"}),
        (_reuse_a_fence, {"fence that does not grow"}),
        (_accept_a_zombie, {"zombie writes accepted"}),
        (_blame, {"WorkerCrashed where only services were killed"}),
        (_litter, {"processes, files left; stops that hung"}),
        (_leave_a_process, {"processes, files left; stops that hung"}),
        (_leave_a_descriptor, {"descriptors left"}),
        (_start_an_old_claim, {"fence that does not grow"}),
    ],
)
def test_a_broken_promise_is_named(harm: Callable[[Evidence], None], names: set[str]) -> None:
    evidence = _sound()
    harm(evidence)
    assert names == _broken(evidence)
    assert not check(evidence).kept
    assert "NO" in render(check(evidence))


def _freeze(evidence: Evidence, service: str, at: float, seconds: float) -> None:
    row = {"what": "fault", "kind": "stop service", "name": service, "pid": 5, "seconds": seconds, "at": _us(at)}
    evidence.driver.append(row)


@pytest.mark.parametrize("harm", [_overlap, _start_an_old_claim, _start_cancelled])
def test_what_a_service_does_that_was_frozen_for_longer_than_its_lease_is_allowed_and_counted(
    harm: Callable[[Evidence], None],
) -> None:
    evidence = _sound()
    harm(evidence)
    service = "a" if harm is _start_cancelled else "b"
    _freeze(evidence, service, -1, 3.4)
    verdict = check(evidence)
    assert verdict.kept, render(verdict)
    assert 1 == verdict.frozen


@pytest.mark.parametrize("service, at, seconds", [("a", -1, 3.4), ("b", 3, 3.4), ("b", -1, 2.9)])
def test_another_service_or_a_later_or_a_shorter_freeze_excuses_nothing(
    service: str, at: float, seconds: float
) -> None:
    evidence = _sound()
    _start_an_old_claim(evidence)
    _freeze(evidence, service, at, seconds)
    assert {"fence that does not grow"} == _broken(evidence)


def test_what_a_service_claims_after_its_freeze_is_not_excused() -> None:
    """By the jump of the tokens at its new registration."""
    evidence = _sound()
    evidence.executions["t"] = [
        Execution("t", "b", 11, 1_000_008, _us(2.45), _us(2.9), True),
        Execution("t", "a", 10, 1_000_009, _us(2.6), _us(2.8), True),
    ]
    evidence.executions["u"] = [Execution("u", "a", 10, 7, _us(0), _us(0.1), True)]
    _freeze(evidence, "b", -1, 3.4)
    assert {"overlapping executions", "zombie writes accepted"} == _broken(evidence)


def test_the_time_from_a_kill_to_the_next_start_is_a_recovery() -> None:
    evidence = _sound()
    evidence.executions["t"].insert(0, Execution("t", "b", 99, 6, _us(-0.5), _us(-0.2), False))
    assert (1.0,) == check(evidence).recoveries


def test_a_promise_that_was_never_put_to_the_test_is_not_kept() -> None:
    evidence = _sound()
    evidence.services.clear()
    kind = "stop service beyond its lease"
    evidence.driver.append({"what": "fault", "kind": kind, "name": "b", "pid": 5, "seconds": 3.0, "at": _us(9)})
    assert not check(evidence).kept
    assert set() == _broken(evidence)
