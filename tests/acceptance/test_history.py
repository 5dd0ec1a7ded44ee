"""Q-06: how a task came to where it is, in memory and in a file."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rxtasks import (
    Reschedule,
    RetryPolicy,
    TaskContext,
    TaskOptions,
    TaskRequest,
    TaskService,
    TaskTracker,
    UnknownTask,
    task,
)
from rxtasks.errors import TaskCancelled
from rxtasks.lifecycle.history import Transition
from rxtasks.lifecycle.transitions import LEGAL
from tests.acceptance.support import SOON, recorded, service


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory" if request.param == "memory" else f"sqlite:///{tmp_path / 'tasks.db'}"


@task("history.fails_once", retry=RetryPolicy(max_attempts=2, base=0.001, cap=0.001))
def fails_once(ctx: TaskContext) -> int:
    if ctx.attempt == 1:
        raise ValueError("not yet")
    return ctx.attempt


@task("history.one")
def one() -> int:
    return 1


def steps(made: TaskService, task_id: str) -> list[tuple[str | None, str]]:
    return [(step.source, step.target) for step in made.history(task_id)]


def test_the_history_has_every_transition_with_its_actor_reason_and_time(place: str) -> None:
    with service(store=place) as made:
        began = datetime.now(UTC)
        tracker = made.submit(fails_once)
        assert 2 == tracker.result(SOON)
        made.flush(SOON)
        history = made.history(tracker.task_id)
        found = [(step.source, step.target) for step in history if step.reason != "its time has come"]
        assert found[0] == (None, "created") and found[1] == ("created", "pending")
        assert ["pending", "created"] != found[1]
        targets = [target for _, target in found[2:]]
        assert ["running", "retrying", "running", "succeeded"] == targets
        assert all(before.target == after.source for before, after in pairwise(history))
        retrying = next(step for step in history if step.target == "retrying")
        assert "not yet" in (retrying.reason or "")
        worker = made.get(tracker.task_id).worker_id
        assert worker == history[-1].actor and "client" == history[0].actor
        assert began - timedelta(seconds=5) < history[0].time <= history[-1].time <= datetime.now(UTC)


def test_what_was_done_to_a_task_before_it_ran_is_in_its_history(place: str) -> None:
    with service(0, store=place) as made:
        request = TaskRequest(one)
        made.create(request)
        assert [(None, "created")] == steps(made, request.task_id)[:1]
        made.push(request)
        made.update(request.task_id, priority=7)
        history = made.history(request.task_id)
        assert [(None, "created"), ("created", "pending"), ("pending", "pending")] == steps(made, request.task_id)
        assert "updated" in (history[-1].reason or "")
        made.start()
        assert made.cancel(request.task_id, "no longer wanted")
        with pytest.raises(TaskCancelled):
            made.track(request.task_id).result(SOON)
        last = made.history(request.task_id)[-1]
        assert "cancelled" == last.target and "no longer wanted" in (last.reason or "")


def test_a_history_outlives_the_service_and_only_grows(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path / 'tasks.db'}"
    with service(0, store=place) as made:
        task_id = made.schedule(one, at=timedelta(days=1)).task_id
        assert [(None, "created"), ("created", "scheduled")] == steps(made, task_id)
        before = made.history(task_id)
    with service(1, store=place) as made:
        made.start()
        made.update(task_id, run_at=datetime.now(UTC))
        assert 1 == made.track(task_id).result(SOON)
        history = made.history(task_id)
        assert before == history[: len(before)]
        assert "succeeded" == history[-1].target and "pending" in [step.target for step in history]


def test_of_an_unknown_task_there_is_no_history(place: str) -> None:
    with service(0, store=place) as made, pytest.raises(UnknownTask):
        made.history("01ARZ3NDEKTSV4RRFFQ69G5FAV")


def test_in_memory_the_first_and_the_last_of_a_task_that_nobody_follows_is_kept() -> None:
    with service(1) as made:
        task_id: Any = made.submit(one).task_id
        made.engine.wait_idle(SOON)
        made.flush(SOON)
        assert ["created", "pending", "running", "succeeded"] == [step.target for step in made.history(task_id)]


@task("history.again_later")
def again_later(marker: str) -> None:
    if not Path(marker).exists():
        Path(marker).touch()
        raise Reschedule(at=datetime.now(UTC) + timedelta(seconds=0.02))


@task("history.dies_once")
def dies_once(marker: str) -> None:
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(3)


@task("history.too_long", timeout=0.05, grace=0.05)
def too_long() -> None:
    time.sleep(600)


def test_each_transition_of_the_table_is_in_the_history(place: str, tmp_path: Path) -> None:
    """Q-06 E-02: with actor and reason, the same in memory and in a file; nothing that the table does not hold."""
    free, ripe, not_yet = "all that it depends on has ended", "its time has come", "its time has not come"
    with service(2, store=place, isolation="process") as made:
        root = made.with_options(delay=0.5).submit(one)
        after = made.with_options(depends_on=root.task_id)
        bad = made.submit(too_long)
        far = made.with_options(delay=3600)
        repeated: Any = made.schedule(one, cron="0 0 1 1 *")
        held = {name: TaskRequest(one, task_id=name, options=TaskOptions(**more)) for name, more in _held(root).items()}
        trackers = {
            "delayed": root,
            "blocked": after.submit(one),
            "blocked and delayed": after.with_options(delay=1.5).submit(one),
            "locked": made.with_options(lock="l").submit(one),
            "timed out": bad,
            "doomed": made.with_options(depends_on=bad.task_id).submit(one),
            "retried": made.submit(fails_once),
            "rescheduled": made.submit(again_later, str(tmp_path / "later")),
            "crashed": made.submit(dies_once, str(tmp_path / "died")),
            "cancelled": far.submit(one),
            "updated": made.with_options(depends_on=far.submit(one).task_id).submit(one),
            **{name: made.create(request) for name, request in held.items()},
        }
        trackers["cancelled"].cancel("not wanted")
        made.update(trackers["updated"].task_id, priority=2)
        trackers["updated"].cancel()
        for request in held.values():
            made.push(request)
        first = made.update(repeated.schedule_id, run_at=datetime.now(UTC)).task_id
        assert repeated.result(SOON) == 1
        for tracker in trackers.values():
            recorded(tracker).over()
        made.flush(SOON)
        found = {name: made.history(tracker.task_id) for name, tracker in trackers.items()}
        found["first"], found["next"] = made.history(first), made.history(repeated.schedule_id)
    for name, history in found.items():
        for before, step in pairwise(history):
            assert step.source == before.target, name
            assert step.target == step.source or step.target in LEGAL[step.source], name
    ran = [("running", ""), ("succeeded", "")]
    assert {name: _told(history[1:]) for name, history in found.items()} == {
        "delayed": [("scheduled", ""), ("pending", ripe), *ran],
        "blocked": [("blocked", ""), ("pending", free), *ran],
        "blocked and delayed": [("blocked", ""), ("pending", free), ("scheduled", not_yet), ("pending", ripe), *ran],
        "locked": [("pending", ""), *ran],
        "timed out": [("pending", ""), ("running", ""), ("failed", "the attempt ran")],
        "doomed": [("blocked", ""), ("cancelled", "the task was cancelled: its dependency")],
        "retried": [("pending", ""), ("running", ""), ("retrying", "not yet"), ("pending", ripe), *ran],
        "rescheduled": [
            *(("pending", ""), ("running", ""), ("scheduled", "asked for by the handler (Reschedule)")),
            *(("pending", ripe), *ran),
        ],
        "crashed": [("pending", ""), ("running", ""), ("pending", "worker"), *ran],
        "cancelled": [
            *(("scheduled", ""), ("scheduled", "cancel asked for: not wanted")),
            ("cancelled", "the task was cancelled: not wanted"),
        ],
        "updated": [
            *(("blocked", ""), ("blocked", "updated: priority 2"), ("blocked", "cancel asked for")),
            ("cancelled", "the task was cancelled"),
        ],
        "held": [("pending", "pushed"), *ran],
        "held and delayed": [("scheduled", "pushed"), ("pending", ripe), *ran],
        "held and locked": [("pending", "pushed"), *ran],
        "held and blocked": [("blocked", "pushed"), ("pending", free), *ran],
        "first": [("scheduled", ""), ("scheduled", "updated: run_at"), ("pending", ripe), *ran],
        "next": [("scheduled", "the schedule's next, behind")],
    }
    words = ("client", "engine", "store")
    actors = {
        name: [step.actor if step.actor in words else "worker" for step in history] for name, history in found.items()
    }
    assert actors["blocked"] == ["client", "client", "engine", "worker", "worker"]
    assert actors["cancelled"] == ["client", "client", "client", "engine"]
    assert actors["next"] == ["store", "store"]
    assert (actors["timed out"][-1], actors["crashed"][3], actors["crashed"][-1]) == ("engine", "engine", "worker")


def _held(root: TaskTracker) -> dict[str, dict[str, Any]]:
    return {
        "held": {},
        "held and delayed": {"delay": 0.02},
        "held and locked": {"lock": "h"},
        "held and blocked": {"depends_on": (root.task_id,)},
    }


def _told(history: list[Transition]) -> list[tuple[str, str]]:
    """Return target and reason of each; of reasons with ids or times in them the beginning."""
    begins = (
        *("the attempt ran", "the task was cancelled: its dependency", "worker", "updated: run_at"),
        "the schedule's next, behind",
    )
    told = []
    for step in history:
        reason = step.reason or ""
        told.append((str(step.target), next((word for word in begins if reason.startswith(word)), reason)))
    return told
