"""Tasks that relate to others, as users do it: dependencies, locks, bounds, rates, schedules; in memory and in SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rxtasks import SettingsError, TaskCancelled, TaskOptions, TaskRequest, TaskService, TaskStatus, UnknownTask
from tests.acceptance import jobs
from tests.acceptance.support import SOON, Gate, recorded, service

RARELY = "0 0 1 1 *"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory" if request.param == "memory" else f"sqlite:///{tmp_path / 'tasks.db'}"


@pytest.fixture
def made(store: str) -> Iterator[TaskService]:
    with service(2, store=store) as made:
        yield made


def test_a_task_runs_after_those_that_it_depends_on(made: TaskService, tmp_path: Path) -> None:
    """E-15: blocked until both have ended well, then it runs by itself; fan-out as well."""
    gate, notes = Gate(tmp_path), str(tmp_path / "notes")
    one = made.submit(jobs.wait_at, gate.path)
    two = made.submit(jobs.note, notes, "two")
    after = made.with_options(depends_on=(one.task_id, two.task_id))
    last = [after.submit(jobs.note, notes, f"last {number}") for number in range(3)]
    assert two.result(timeout=SOON) == "two"
    assert {tracker.status for tracker in last} == {TaskStatus.BLOCKED}
    assert [record.task_id for record in made.list(status="blocked")] == [tracker.task_id for tracker in last]
    gate.open()
    assert [tracker.result(timeout=SOON) for tracker in last] == ["last 0", "last 1", "last 2"]


def test_a_failure_cancels_what_depends_on_it_also_while_no_worker_is_free(made: TaskService, tmp_path: Path) -> None:
    """E-15: at once and all the way down; the error names the one that failed."""
    gates = [Gate(tmp_path, name) for name in ("a", "b")]
    failing = made.with_options(delay=0.2).submit(jobs.fail, "no")
    first = made.with_options(depends_on=failing.task_id).submit(jobs.double, 1)
    second = made.with_options(depends_on=first.task_id).submit(jobs.double, 1)
    anyway = made.with_options(depends_on=second.task_id, on_dependency_failure="run").submit(jobs.double, 4)
    with pytest.raises(ValueError, match="no"):
        failing.result(timeout=SOON)
    busy = [made.submit(jobs.wait_at, gate.path) for gate in gates]
    with pytest.raises(TaskCancelled) as caught:
        first.result(timeout=SOON)
    assert caught.value.reason == f"its dependency {failing.task_id} has failed"
    with pytest.raises(TaskCancelled) as caught:
        second.result(timeout=SOON)
    assert caught.value.reason == f"its dependency {first.task_id} was cancelled"
    late = made.with_options(depends_on=failing.task_id).submit(jobs.double, 1)
    with pytest.raises(TaskCancelled):
        late.result(timeout=SOON)
    for gate in gates:
        gate.open()
    assert anyway.result(timeout=SOON) == 8
    assert [tracker.result(timeout=SOON) for tracker in busy] == [None, None]


def test_a_cancel_of_one_that_is_blocked_reaches_its_dependents(made: TaskService) -> None:
    """E-15: cancelled by hand, in the middle of a chain."""
    root = made.with_options(delay=60).submit(jobs.double, 1)
    middle = made.with_options(depends_on=root.task_id).submit(jobs.double, 1)
    leaf = made.with_options(depends_on=middle.task_id).submit(jobs.double, 1)
    assert middle.cancel("enough")
    with pytest.raises(TaskCancelled):
        leaf.result(timeout=SOON)
    assert made.get(root.task_id).status == "scheduled"


def test_circles_and_missing_dependencies_are_refused(made: TaskService) -> None:
    """E-15: with the path; a task that is refused is not there."""
    with pytest.raises(SettingsError, match="x -> nobody"):
        made.push(TaskRequest(jobs.double, (1,), task_id="x", options=TaskOptions(depends_on=("nobody",))))
    with pytest.raises(UnknownTask):
        made.get("x")
    made.create(TaskRequest(jobs.double, (1,), task_id="a", options=TaskOptions(depends_on=("b",))))
    made.create(TaskRequest(jobs.double, (1,), task_id="b", options=TaskOptions(depends_on=("a",))))
    with pytest.raises(SettingsError, match="a -> b -> a"):
        made.push(TaskRequest(jobs.double, (1,), task_id="a"))
    circle = [
        TaskRequest(jobs.double, (1,), task_id=one, options=TaskOptions(depends_on=(two,)))
        for one, two in (("p", "q"), ("q", "r"), ("r", "p"))
    ]
    with pytest.raises(SettingsError, match="p -> q -> r -> p"):
        made.push_all(circle)
    assert [record.task_id for record in made.list()] == ["a", "b"]
    chain = [*circle[:2], TaskRequest(jobs.double, (4,), task_id="r")]
    assert [tracker.result(timeout=SOON) for tracker in made.push_all(chain)] == [2, 2, 8]
    with pytest.raises(SettingsError, match="cron or depends_on"):
        made.with_options(cron="* * * * *", depends_on=("a",)).submit(jobs.double, 1)


def test_tasks_with_one_lock_never_overlap(made: TaskService, tmp_path: Path) -> None:
    """E-15: whatever workers there are, and others go on meanwhile."""
    folder = tmp_path / "running"
    folder.mkdir()
    locked = [made.with_options(lock="l").submit(jobs.overlaps, str(folder), 0.01) for _ in range(20)]
    assert [tracker.result(timeout=SOON) for tracker in locked] == [False] * 20
    gate = Gate(tmp_path)
    holder = made.with_options(lock="l").submit(jobs.wait_at, gate.path)
    waiting = made.with_options(lock="l").submit(jobs.double, 1)
    assert made.submit(jobs.double, 2).result(timeout=SOON) == 4
    assert waiting.status == "pending"
    after = made.with_options(depends_on=waiting.task_id).submit(jobs.double, 3)
    said = " ".join(made.explain())
    assert "wait for a lock" in said and "1 tasks wait for the end of others" in said
    gate.open()
    assert after.result(timeout=SOON) == 6
    assert holder.result(timeout=SOON) is None
    assert waiting.result(timeout=SOON) == 2


def test_two_services_of_a_store_keep_one_lock(tmp_path: Path) -> None:
    """E-15 E-20: the lock is the store's."""
    folder = tmp_path / "running"
    folder.mkdir()
    store = f"sqlite:///{tmp_path / 'tasks.db'}"
    with service(1, store=store) as one, service(1, store=store) as two:
        trackers = [
            made.with_options(lock="l").submit(jobs.overlaps, str(folder), 0.005)
            for _ in range(10)
            for made in (one, two)
        ]
        assert [tracker.result(timeout=SOON) for tracker in trackers] == [False] * 20


def test_bounds_by_settings_and_by_options(store: str, tmp_path: Path) -> None:
    """E-20: of a name and of a queue; a task's own option counts before the service's setting."""
    gate = Gate(tmp_path)
    name = "tests.acceptance.jobs:wait_at"
    with service(4, store=store, max_running={name: 2}, queue_running={"slow": 1}) as made:
        first = [made.submit(jobs.wait_at, gate.path) for _ in range(3)]
        for tracker in first[:2]:
            recorded(tracker.statuses).wait(lambda recorder: bool(recorder.values))
        assert made.submit(jobs.double, 1).result(timeout=SOON) == 2
        assert sorted(tracker.status for tracker in first) == ["pending", "running", "running"]
        slow = [made.with_options(queue="slow").submit(jobs.note, str(tmp_path / "notes"), word) for word in "abc"]
        assert [tracker.result(timeout=SOON) for tracker in slow] == ["a", "b", "c"]
        assert (tmp_path / "notes").read_text() == "a\nb\nc\n"
        for tracker in first:
            tracker.cancel()
    for wrong in ({"max_running": {"x": 0}}, {"rates": {"x": "fast"}}, {"queue_running": ["x"]}):
        with pytest.raises(SettingsError):
            TaskService(**wrong)  # type: ignore[arg-type]


def test_the_settings_of_a_service_that_starts_count_for_what_waits(tmp_path: Path) -> None:
    """E-20: of a name, a queue and a rate; what it says nothing of stays, and who waits there may go on at once."""
    store, name = f"sqlite:///{tmp_path / 'tasks.db'}", "tests.acceptance.jobs:wait_politely"
    with service(0, store=store, max_running={name: 1}, rates={"other": "1/d"}) as made:
        made.with_options(name="other").submit(jobs.double, 0)
        waiting = [made.submit(jobs.wait_politely).task_id for _ in range(4)]
        slow = [made.with_options(name="other").submit(jobs.double, number).task_id for number in (1, 2)]
    with service(4, store=store, queue_running={"default": 9}) as made:
        made.start()
        recorded(made.track(waiting[0]).statuses).wait(lambda recorder: bool(recorder.values))
        assert [record.task_id for record in made.list(status="running", name=name)] == waiting[:1]
        with service(0, store=store, max_running={name: 3, "unheard of": 5}, rates={"other": "1000/s"}) as other:
            other.start()
            for task_id in waiting[:3]:
                recorded(made.track(task_id).statuses).wait(lambda recorder: bool(recorder.values))
            assert [made.track(task_id).result(timeout=SOON) for task_id in slow] == [2, 4]
            assert made.get(waiting[3]).status == "pending"
        for task_id in reversed(waiting):
            made.cancel(task_id)
        for task_id in waiting:
            with pytest.raises(TaskCancelled):
                made.track(task_id).result(timeout=SOON)


def test_a_rate_that_is_raised_counts_for_what_waits_for_its_turn(made: TaskService) -> None:
    """E-20: the rate that was pushed last counts; nobody waits out the old one."""
    slow = made.with_options(rate="1/d")
    assert slow.submit(jobs.double, 0).result(timeout=SOON) == 0
    waiting = [slow.submit(jobs.double, number) for number in (1, 2)]
    assert made.submit(jobs.note, "/dev/null", "x").result(timeout=SOON) == "x"
    waiting.append(made.with_options(rate="1000/s").submit(jobs.double, 3))
    assert [tracker.result(timeout=SOON) for tracker in waiting] == [2, 4, 6]


def test_a_rate_holds(made: TaskService) -> None:
    """E-20: tasks of a name begin no faster than their rate; 20/s: two at once, then one each 50 ms."""
    trackers = [made.with_options(rate="20/s").submit(jobs.double, number) for number in range(8)]
    assert [tracker.result(timeout=SOON) for tracker in trackers] == [0, 2, 4, 6, 8, 10, 12, 14]
    begun = sorted(made.get(tracker.task_id).started_at or datetime.now(UTC) for tracker in trackers)
    assert begun[7] - begun[0] >= timedelta(seconds=0.25)


def test_a_schedule_goes_on_from_one_occurrence_to_the_next(made: TaskService, tmp_path: Path) -> None:
    """E-16: each is a task; the next one is there when one has ended, well or not; the schedule's id stands for it."""
    notes = str(tmp_path / "notes")
    first = made.schedule(jobs.note, notes, "x", cron=RARELY)
    schedule_id = made.get(first.task_id).schedule_id
    assert schedule_id is not None
    assert first.status == "scheduled"
    seen = [first.task_id]
    for _ in range(3):
        current = made.track(schedule_id)
        made.update(current.task_id, run_at=datetime.now(UTC))
        assert current.result(timeout=SOON) == "x"
        following = made.get(schedule_id)
        assert following.status == "scheduled"
        assert following.schedule_id == schedule_id
        seen.append(following.task_id)
    assert len(set(seen)) == 4
    assert made.cancel(schedule_id)
    with pytest.raises(UnknownTask):
        made.get(schedule_id)
    assert [record.task_id for record in made.list(status="cancelled")] == seen[-1:]
    with pytest.raises(SettingsError, match="five fields"):
        made.schedule(jobs.double, 1, cron="1 2 3")
    with pytest.raises(SettingsError, match="Mars"):
        made.schedule(jobs.double, 1, cron=RARELY, tz="Mars/Olympus")


def test_a_cancelled_occurrence_ends_its_schedule(made: TaskService) -> None:
    """E-16: by its tracker; one whose handler ignores a cancel of the schedule is the last one all the same."""
    first = made.schedule(jobs.double, 1, cron=RARELY)
    schedule_id = made.get(first.task_id).schedule_id or ""
    assert first.cancel("enough")
    with pytest.raises(TaskCancelled):
        first.result(timeout=SOON)
    assert made.list(status="scheduled") == []
    with pytest.raises(UnknownTask):
        made.track(schedule_id)


def test_all_of_it_is_there_after_a_restart(tmp_path: Path) -> None:
    """E-12 E-15 E-16 E-20 Q-04: dependencies, locks, schedules, retries, keys, priorities and times survive the service."""
    store = f"sqlite:///{tmp_path / 'tasks.db'}"
    notes, count = str(tmp_path / "notes"), str(tmp_path / "count")
    with service(0, store=store) as made:
        root = made.with_options(delay=0.01).submit(jobs.note, notes, "root")
        leaf = made.with_options(depends_on=root.task_id, priority=5).submit(jobs.note, notes, "leaf")
        lost = made.push(TaskRequest(jobs.fail, ("no",)))
        hopeless = made.with_options(depends_on=lost.task_id).submit(jobs.double, 1)
        locked = [made.with_options(lock="l").submit(jobs.note, notes, f"l{number}") for number in range(3)]
        schedule_id = made.get(made.schedule(jobs.double, 1, cron=RARELY).task_id).schedule_id
        keyed = made.with_options(dedup_key="k", delay=60).submit(jobs.double, 1)
        retried = made.with_options(retry=_twice()).submit(jobs.fail_until, count, 1)
    with service(0, store=store) as made:
        assert made.get(leaf.task_id).status == "blocked"
        assert made.with_options(dedup_key="k").submit(jobs.double, 1).task_id == keyed.task_id
        assert schedule_id is not None
        assert made.get(schedule_id).options.cron == RARELY
    with service(2, store=store) as made:
        made.start()
        assert made.track(leaf.task_id).result(timeout=SOON) == "leaf"
        assert [made.track(tracker.task_id).result(timeout=SOON) for tracker in locked] == ["l0", "l1", "l2"]
        assert made.track(retried.task_id).result(timeout=SOON) == 2
        with pytest.raises(TaskCancelled, match=lost.task_id):
            made.track(hopeless.task_id).result(timeout=SOON)


def _twice() -> Any:
    from rxtasks import RetryPolicy

    return RetryPolicy(max_attempts=2, base=0.01)
