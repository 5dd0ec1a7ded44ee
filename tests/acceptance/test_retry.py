"""E-02: an operator's retry of a task that has ended, and many tasks cancelled, retried and forgotten at once (C-03)."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rxtasks import RetryPolicy, SettingsError, TaskOptions, TaskRequest, TaskService, UnknownTask, task
from rxtasks.errors import PayloadError, TaskCancelled
from rxtasks.lifecycle.task import RetryRequest
from tests.acceptance.support import SOON, service


@task("retry.broken_until", timeout=20, tags=("repair",))
def broken_until(path: str, mark: str) -> str:
    if not os.path.exists(path):
        raise OSError(f"{path} is not there")
    return mark


@task("retry.fine")
def fine(number: int) -> int:
    return number


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tasks.db'}"


def failed(made: TaskService, *args: Any, **options: Any) -> str:
    tracker = made.with_options(**options).submit(broken_until, *args)
    assert isinstance(tracker.future.exception(SOON), OSError)
    return tracker.task_id


def test_a_retry_is_a_new_task_with_the_same_request(url: str, tmp_path: Path) -> None:
    """E-02 Q-06: arguments, options and trace are those of the old one, which stays as it is."""
    there = tmp_path / "there"
    with service(store=url) as made:
        old = made.push(TaskRequest(broken_until, (str(there), "m"), trace="00-7", options=TaskOptions(priority=4)))
        assert isinstance(old.future.exception(SOON), OSError)
        there.touch()
    with service(store=url) as made:
        new = made.retry(old.task_id, reason="made the file")
        assert new.task_id != old.task_id
        assert "m" == new.result(SOON)
        before, after = made.get(old.task_id), made.get(new.task_id)
        assert ("failed", None) == (before.status, before.retry_of)
        assert (old.task_id, "retry.broken_until", 4, 1) == (after.retry_of, after.name, after.priority, after.attempt)
        first, second, *_ = made.history(new.task_id)
        assert (None, "created") == (first.source, first.target)
        assert {("operator", f"retry of {old.task_id}: made the file")} == {
            (each.actor, each.reason) for each in (first, second)
        }
        last = made.history(old.task_id)[-1]
        assert ("failed", "failed", "operator") == (last.source, last.target, last.actor)
        assert f"retried as {new.task_id}: made the file" == last.reason


def test_a_service_without_workers_and_the_module_retries(url: str, tmp_path: Path) -> None:
    """E-02: what is stored is enough; nothing of the module is needed."""
    with service(store=url) as made:
        task_id = failed(made, str(tmp_path / "no"), "m")
    with TaskService(0, store=url) as made:
        assert made.get(made.retry(task_id).task_id).options == made.get(task_id).options
        assert asyncio.run(again(made, task_id)) != task_id


async def again(made: TaskService, task_id: str) -> str:
    return (await made.aretry(task_id)).task_id


def test_what_cannot_be_retried_says_why(url: str, tmp_path: Path) -> None:
    """E-02: not ended, unknown, refused at its push, no text."""
    with service(store=url) as made:
        waiting = made.schedule(fine, 1, at=timedelta(hours=1))
        with pytest.raises(SettingsError, match="is scheduled: only a task that has ended can be retried"):
            made.retry(waiting.task_id)
        with pytest.raises(UnknownTask):
            made.retry("no-such-task")
        with pytest.raises(SettingsError, match="reason is text or None, not 7"):
            made.retry(waiting.task_id, reason=7)  # type: ignore[arg-type]
        refused = TaskRequest(fine, (object(),))
        made.engine.on_next(refused)
        assert isinstance(made.track(refused.task_id).future.exception(SOON), PayloadError)
        with pytest.raises(SettingsError, match="it was refused when it was pushed"):
            made.retry(refused.task_id)


def test_the_memory_store_has_no_arguments_to_retry_with(tmp_path: Path) -> None:
    """E-02: a clear error, with what to try."""
    with service() as made:
        task_id = failed(made, str(tmp_path / "no"), "m")
        with pytest.raises(
            SettingsError, match=r"not kept by the memory store; submit it again, or use a durable store"
        ):
            made.retry(task_id)
        report = made.retry_all()
        assert (0, 1, task_id) == (report.done, report.refused, report.refusals[0][0])


def test_a_retry_runs_now_and_waits_for_what_has_not_ended(url: str, tmp_path: Path) -> None:
    """E-02 E-13: the time of the old one is past; a dependency that failed is retried first, and waited for then."""
    there = tmp_path / "there"
    with service(store=url) as made:
        base = failed(made, str(there), "base", delay=0.001)
        later = made.push(TaskRequest(fine, (5,), options=TaskOptions(depends_on=(base,))))
        with pytest.raises(TaskCancelled):
            later.result(SOON)
        with pytest.raises(
            SettingsError, match=f"depends on task {base}, which has ended as failed; retry that one first"
        ):
            made.retry(later.task_id)
        made.pause()
        there.touch()
        first = made.retry(base)
        second = made.retry(later.task_id)
        assert ("pending", "blocked") == (made.get(first.task_id).status, made.get(second.task_id).status)
        assert (first.task_id,) == made.get(second.task_id).options.depends_on
        made.resume()
        assert 5 == second.result(SOON)
        third = made.retry(later.task_id)  # what it depends on has succeeded by now
        assert 5 == third.result(SOON) and () == made.get(third.task_id).options.depends_on


def test_a_retried_occurrence_is_a_task_and_no_schedule(url: str) -> None:
    """E-02 E-11: what follows an occurrence is its schedule's affair."""
    with service(store=url) as made:
        schedule = made.schedule(fine, 3, cron="0 0 1 1 *")
        occurrence = made.get(schedule.schedule_id).task_id
        made.cancel(schedule.schedule_id)
        new = made.retry(occurrence)
        assert 3 == new.result(SOON)
        record = made.get(new.task_id)
        assert (None, None, occurrence) == (record.schedule_id, record.options.cron, record.retry_of)
        assert [] == made.list(status="scheduled")


def test_a_retry_keeps_to_the_locks_and_the_dedup_key_of_the_old_one(url: str, tmp_path: Path) -> None:
    """E-02 E-12: bounds hold for retries too, and one that stands for it is returned."""
    with service(2, store=url) as made:
        task_id = failed(made, str(tmp_path / "no"), "m", dedup_key="one", lock="l")
        made.pause()
        one, other = made.retry(task_id), made.retry(task_id)
        assert one.task_id == other.task_id
        assert ("one", "l") == (made.get(one.task_id).options.dedup_key, made.get(one.task_id).options.lock)
        made.resume()
        assert isinstance(one.future.exception(SOON), OSError)


def test_hooks_see_a_retry_with_its_arguments_and_who_it_repeats(url: str, tmp_path: Path) -> None:
    """E-02 E-22: hooks on push see the reason, may change the arguments, and may refuse."""
    with service(store=url) as made:
        task_id = failed(made, str(tmp_path / "no"), "m")
        seen: list[Any] = []

        def look(request: TaskRequest) -> TaskRequest:
            assert isinstance(request, RetryRequest)
            seen.append((request.args, request.retry_of, request.reason))
            return TaskRequest(fine, (len(request.args),), task_id=request.task_id)

        made.before("push")(look)
        made.after("push")(lambda request, tracker: seen.append((request.task_id, tracker.task_id)))
        new = made.retry(task_id, reason="why not")
        assert 2 == new.result(SOON)
        assert [((str(tmp_path / "no"), "m"), task_id, "why not"), (new.task_id, new.task_id)] == seen
        assert task_id == made.get(new.task_id).retry_of


# -- many -------------------------------------------------------------------------------------------------------------


def test_all_that_failed_are_retried_once(url: str, tmp_path: Path) -> None:
    """C-03: by the filters of list; what was retried before is left alone, its retry counts; in a service that runs too."""
    there = tmp_path / "there"
    with service(2, store=url) as made:
        olds = [made.submit(broken_until, str(there), str(number)) for number in range(230)]
        assert all(isinstance(old.future.exception(SOON), OSError) for old in olds)
        made.submit(fine, 1).result(SOON)
        assert 230 == made.retry_all(name="retry.broken_until", dry_run=True).done
        assert 0 == made.retry_all(name="no").done
        assert 0 == made.retry_all(tag="no").done
        made.pause()
        report = made.retry_all(tag="repair", limit=120, reason="disk")
        assert (120, 20, 0) == (report.done, len(report.first), report.refused)
        assert report.first == [old.task_id for old in olds[:20]]
        there.touch()
        report = made.retry_all()
        assert (110, 120) == (report.done, report.skipped)
        assert 0 == made.retry_all().done
        made.resume()
        for record in made.list(limit=1000):
            if record.retry_of is not None:
                made.track(record.task_id).result(SOON)
        assert 231 == len(made.list(status="succeeded", limit=1000))
        with pytest.raises(SettingsError, match="retry: this cannot be done with tasks that are running"):
            made.retry_all(status="running")


@pytest.mark.parametrize("started", [False, True])
def test_all_that_wait_are_cancelled(url: str, started: bool) -> None:
    """C-03 Q-06: in batches, with the reason and the actor in the histories, with or without an engine that runs."""
    with TaskService(0, store=url) as made:
        made.push_all([TaskRequest("retry.fine", (number,)) for number in range(250)])
        kept = made.push(TaskRequest("retry.other", task_id="kept")).task_id
        made.stop()
    with TaskService(0, store=url) as made:
        if started:
            made.start()
        assert 250 == made.cancel_all(name="retry.fine", dry_run=True).done
        assert 10 == made.cancel_all(name="retry.fine", limit=10, reason="too many", actor="operator").done
        report = made.cancel_all("pending", name="retry.fine", reason="all", actor="operator")
        assert 240 == report.done
        (one,) = made.list("cancelled", limit=1)
        assert one.error is not None and one.error.details == {"reason": "too many"}
        asked = [step for step in made.history(one.task_id) if step.actor == "operator"]
        assert ["cancel asked for: too many"] == [step.reason for step in asked]
        assert [kept] == [record.task_id for record in made.list("pending")]
        assert 0 == made.cancel_all(older_than=3600).done
        with pytest.raises(SettingsError, match="cancel: this cannot be done with tasks that are failed"):
            made.cancel_all("failed")
        with pytest.raises(SettingsError, match='actor is "client" or "operator"'):
            made.cancel_all(actor="me")


def test_those_that_run_are_cancelled_where_they_run(url: str, tmp_path: Path) -> None:
    """C-03: a service without workers cancels what another one runs."""
    with service(store=url, isolation="process") as made:
        tracker = made.submit(sleeps)
        _wait_for(tracker)
        with TaskService(0, store=url) as other:
            assert 1 == other.cancel_all("running", reason="enough", actor="operator").done
        with pytest.raises(TaskCancelled, match="enough"):
            tracker.result(SOON)


@task("retry.sleeps")
def sleeps() -> None:
    import threading

    threading.Event().wait(60)


def _wait_for(tracker: Any) -> None:
    from rxtasks import iterate

    with iterate(tracker.statuses) as statuses:
        assert "running" == next(statuses).status


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_ended_tasks_are_purged_by_filters(url: str, store: str, tmp_path: Path) -> None:
    """Q-07 C-03: by name and status; by how long ago they ended, not how long ago they came."""
    with service(2, store="memory" if store == "memory" else url) as made:
        for number in range(150):
            made.submit(fine, number)
        task_id = failed(made, str(tmp_path / "no"), "m")
        waits = made.schedule(fine, 1, at=datetime.now(UTC) + timedelta(hours=1)).task_id
        for record in made.list(limit=1000):
            if record.task_id not in (task_id, waits):
                made.track(record.task_id).result(SOON)
        assert 0 == made.purge(older_than=3600).done
        assert 150 == made.purge("succeeded", dry_run=True).done
        assert 30 == made.purge(name="retry.fine", limit=30).done
        assert 120 == made.purge(name="retry.fine").done
        assert {task_id, waits} == {record.task_id for record in made.list(limit=1000)}
        assert 1 == made.purge().done
        with pytest.raises(SettingsError, match="purge: this cannot be done with tasks that are pending"):
            made.purge("pending")
        with pytest.raises(SettingsError, match="purge: limit is a whole number from 0 or None"):
            made.purge(limit=-1)


def test_a_task_that_retries_by_itself_can_be_retried(url: str, tmp_path: Path) -> None:
    """E-02 E-10: the new one has its own attempts."""
    with service(store=url) as made:
        policy = RetryPolicy(max_attempts=2, base=0.001, jitter="none")
        task_id = failed(made, str(tmp_path / "no"), "m", retry=policy)
        new = made.retry(task_id)
        assert isinstance(new.future.exception(SOON), OSError)
        assert (2, 2) == (made.get(task_id).attempt, made.get(new.task_id).attempt)
