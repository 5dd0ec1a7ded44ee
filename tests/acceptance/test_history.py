"""Q-06: how a task came to where it is, in memory and in a file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rxtasks import RetryPolicy, TaskContext, TaskRequest, TaskService, UnknownTask, task
from rxtasks.errors import TaskCancelled
from tests.acceptance.support import SOON, service


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
