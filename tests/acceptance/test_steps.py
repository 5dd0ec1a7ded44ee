"""Composite tasks: named steps whose results are kept (E-14)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rxtasks import LogEvent, PayloadError, ProgressEvent, RetryPolicy, SettingsError
from tests.acceptance import jobs
from tests.acceptance.support import SOON, Gate, recorded, service

TWICE = RetryPolicy(max_attempts=2, base=0.01)
RESULT = ["one", (4, 5), ["three 4", "three 5"]]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory" if request.param == "memory" else f"sqlite:///{tmp_path / 'tasks.db'}"


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
@pytest.mark.parametrize("handler", [jobs.composite, jobs.composite_async])
def test_a_retry_goes_on_at_the_step_that_failed(store: str, isolation: str, handler: Any, tmp_path: Path) -> None:
    """E-14: what was done is not done again, types are kept, and steps are added while it runs."""
    notes = tmp_path / "notes"
    with service(isolation=isolation, store=store) as made:
        tracker = made.with_options(retry=TWICE).submit(handler, str(notes), str(tmp_path / "failing"))
        events = recorded(tracker)
        assert tracker.result(timeout=SOON) == RESULT
        assert notes.read_text("utf-8").split("\n") == ["one", "two", "two", "three 4", "three 5", ""]
        events.over()
    assert tracker.last_progress is not None
    assert (tracker.last_progress.data, tracker.last_progress.current) == ({"step": "three 5", "state": "finished"}, 4)
    told = [event.data["step"] for event in events.values if isinstance(event, ProgressEvent)]
    assert told[-1] == "three 5"


def test_progress_comes_before_and_after_each_step(tmp_path: Path) -> None:
    """E-14: with the step's name and how many are done; a step that is kept says so."""
    notes = tmp_path / "notes"
    with service(isolation="inline") as made:
        tracker = made.with_options(retry=TWICE).submit(jobs.composite, str(notes), str(tmp_path / "failing"))
        events = recorded(tracker)
        tracker.result(timeout=SOON)
        events.over()
    told = [
        (event.data["state"], event.data["step"], event.current) for event in events.values if event.kind == "progress"
    ]
    whole = [
        ("started", "one", 0),
        ("finished", "one", 1),
        ("started", "two", 1),
        ("failed", "two", 1),
        ("restored", "one", 1),
        ("started", "two", 1),
        ("finished", "two", 2),
        ("started", "three 4", 2),
        ("finished", "three 4", 3),
        ("started", "three 5", 3),
        ("finished", "three 5", 4),
    ]
    # What is overwritten before it is sent is missing (R8).
    rest = iter(whole)
    assert all(each in rest for each in told), told
    assert told[-1] == whole[-1]


def test_a_worker_that_is_killed_in_a_step_loses_none_before_it(store: str, tmp_path: Path) -> None:
    """E-14 W-07: the next worker goes on there."""
    notes = tmp_path / "notes"
    with service(isolation="process", store=store) as made:
        tracker = made.submit(jobs.composite, str(notes), str(tmp_path / "failing"), kill=True)
        assert tracker.result(timeout=SOON) == RESULT
        assert made.get(tracker.task_id).crashes == 1
    assert notes.read_text("utf-8").split("\n")[:3] == ["one", "two", "two"]


def test_a_service_that_stops_in_a_step_loses_none_before_it(tmp_path: Path) -> None:
    """E-14 Q-04: after a restart the task goes on at the step that was running."""
    store, notes, gate = f"sqlite:///{tmp_path / 'tasks.db'}", tmp_path / "notes", Gate(tmp_path)
    with service(isolation="process", store=store) as made:
        tracker = made.submit(jobs.waiting_step, gate.path, str(notes))
        steps = recorded(tracker.progress)
        steps.wait(lambda recorder: any(event.data["step"] == "wait" for event in recorder.values))
    with service(isolation="process", store=store) as made:
        made.start()
        again = made.track(tracker.task_id)
        gate.open()
        assert again.result(timeout=SOON) == "after"
    assert notes.read_text("utf-8") == "before\nafter\n"


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("handler", [jobs.stubborn_step, jobs.stubborn_step_async])
def test_a_step_has_retries_of_its_own(isolation: str, handler: Any, tmp_path: Path) -> None:
    """E-14 E-12: within the attempt; each leaves a log event, none counts as a failed attempt."""
    with service(isolation=isolation) as made:
        tracker = made.submit(handler, str(tmp_path / "count"))
        events = recorded(tracker)
        assert tracker.result(timeout=SOON) == 3
        assert made.get(tracker.task_id).attempt == 1
        events.over()
    said = [event.message for event in events.values if isinstance(event, LogEvent)]
    assert said == ["step stubborn: retry 1/2: failure 1", "step stubborn: retry 2/2: failure 2"]


def test_what_is_no_step_is_refused(store: str) -> None:
    """E-14 R26: a name that comes twice, a result that cannot be kept; called as a plain function, steps just run."""
    with service(store=store) as made:
        with pytest.raises(SettingsError, match="'x' has run in this attempt already"):
            made.submit(jobs.same_step_twice).result(timeout=SOON)
        with pytest.raises(PayloadError, match="result of step 'lock'"):
            made.submit(jobs.step_that_cannot_be_kept).result(timeout=SOON)


def test_a_handler_with_steps_is_still_a_plain_function(tmp_path: Path) -> None:
    """E-09 E-14: in a detached context a step is a call."""
    from rxtasks import task

    Path(tmp_path / "failing").touch()
    plain = task(registry=_registry())(jobs.composite)
    assert plain(str(tmp_path / "notes"), str(tmp_path / "failing")) == RESULT


def _registry() -> Any:
    from rxtasks.worker.registry import Registry

    return Registry()
