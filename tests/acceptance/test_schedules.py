"""The tracker of a schedule follows it from one occurrence to the next, in memory and in SQLite (E-16)."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from reactivex import operators as ops

from rxtasks import (
    SettingsError,
    TaskCancelled,
    TaskContext,
    TaskOptions,
    TaskRequest,
    TaskService,
    as_completed,
    iterate,
    task,
)
from rxtasks.operators import buffer_bounded
from tests.acceptance.support import SOON, recorded, service

RARELY = "0 0 1 1 *"


@task("schedules.count")
def count(path: str, bad: int, ctx: TaskContext) -> int:
    """Return which run this is; the bad one fails."""
    with open(path, "a", encoding="utf-8") as lines:
        lines.write("x")
    number = len(Path(path).read_text("utf-8"))
    ctx.log.info("run {}", number)
    ctx.progress(number)
    ctx.emit(number)
    if number == bad:
        raise ValueError(f"run {number}")
    return number


@pytest.fixture(params=["memory", "sqlite"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskService]:
    with service(2, store="memory" if request.param == "memory" else f"sqlite:///{tmp_path / 'tasks.db'}") as made:
        yield made


def again(made: TaskService, tracker: Any) -> str:
    """Let the next occurrence run now; return its id."""
    record = made.update(tracker.schedule_id, run_at=datetime.now(UTC))
    return record.task_id


def test_the_streams_go_on_from_one_occurrence_to_the_next(made: TaskService, tmp_path: Path) -> None:
    """E-16 R9 R13: every event of each, with the id of its own task and from seq 1; one end, that of the schedule."""
    tracker = made.schedule(count, str(tmp_path / "runs"), 2, cron=RARELY)
    everything, statuses = recorded(tracker), recorded(tracker.statuses)
    logs, progress, outputs = recorded(tracker.logs), recorded(tracker.progress), recorded(tracker.outputs)
    ids = []
    for number in range(1, 4):
        ids.append(again(made, tracker))
        statuses.wait(lambda recorder: len(recorder.values) == 2 * number)  # noqa: B023
    assert len(set(ids)) == 3
    assert [event.task_id for event in statuses.values] == [task_id for task_id in ids for _ in range(2)]
    assert [event.status for event in statuses.values] == [
        *("running", "succeeded"),
        *("running", "failed"),
        *("running", "succeeded"),
    ]
    assert not (statuses.completed or everything.completed or tracker.done)
    assert tracker.cancel("enough")
    for recorder in (everything, statuses, logs, progress, outputs):
        assert recorder.over().completed
    assert [event.status for event in statuses.values][6:] == ["cancelled"]
    assert [event.message for event in logs.values] == ["run 1", "run 2", "run 3"]
    assert [event.value for event in outputs.values] == [1, 2, 3] == [event.current for event in progress.values]
    for task_id in ids:
        seqs = [event.seq for event in everything.values if event.task_id == task_id]
        assert seqs == list(range(1, 6))


def test_what_the_tracker_shows_is_where_the_schedule_stands(made: TaskService, tmp_path: Path) -> None:
    """E-16: id, status and progress of the occurrence that is due next; the result of the one that ended last."""
    tracker: Any = made.schedule(count, str(tmp_path / "runs"), 2, cron=RARELY)
    first, future = tracker.task_id, tracker.future
    assert (tracker.status, tracker.done) == ("scheduled", False)
    statuses = recorded(tracker.statuses)
    again(made, tracker)
    assert tracker.result(SOON) == 1 == future.result(SOON)
    statuses.wait(lambda recorder: len(recorder.values) == 2)
    second = tracker.task_id
    assert second == made.get(tracker.schedule_id).task_id != first
    assert (tracker.status, tracker.done, tracker.last_progress) == ("scheduled", False, None)
    assert tracker.result(0) == 1
    assert [tracker] == list(as_completed([tracker], timeout=SOON))
    again(made, tracker)
    statuses.wait(lambda recorder: len(recorder.values) == 4)
    with pytest.raises(ValueError, match="run 2"):
        tracker.result(0)
    assert tracker.error.message == "run 2" and tracker.status == "scheduled"
    assert future.result(0) == 1
    assert tracker.cancel() and not tracker.cancel() and recorded(tracker).over().completed
    assert (tracker.done, tracker.status) == (True, "cancelled")
    with pytest.raises(TaskCancelled):
        tracker.result(0)


def test_results_as_a_stream(made: TaskService, tmp_path: Path) -> None:
    """E-16: one each; a failure is an error, and whoever subscribes again then gets those that follow."""
    tracker = made.schedule(count, str(tmp_path / "runs"), 2, cron=RARELY)
    once, lasting = recorded(tracker.outcome), recorded(tracker.outcome.pipe(ops.retry(2)))
    statuses = recorded(tracker.statuses)
    for number in range(1, 4):
        again(made, tracker)
        statuses.wait(lambda recorder: len(recorder.values) == 2 * number)  # noqa: B023
    assert str(once.over().error) == "run 2" and once.values == [1]
    assert lasting.wait(lambda recorder: len(recorder.values) == 2).values == [1, 3]
    assert recorded(tracker.outcome.pipe(ops.take(1))).over().values == [3]


def test_a_late_subscriber_gets_the_occurrence_that_ended_last_then_those_that_come(
    made: TaskService, tmp_path: Path
) -> None:
    """E-16 R19: no gap, no duplicate; one that leaves gets nothing more; a full buffer loses nothing."""
    tracker = made.schedule(count, str(tmp_path / "runs"), 0, cron=RARELY)
    left = recorded(tracker.outputs.pipe(ops.take(1)))
    slow = iterate(tracker.outputs.pipe(buffer_bounded(1)))
    first = again(made, tracker)
    assert tracker.result(SOON) == 1
    late = recorded(tracker)
    late.wait(lambda recorder: len(recorder.values) == 5)
    second = again(made, tracker)
    late.wait(lambda recorder: len(recorder.values) == 10)
    assert [(event.task_id, event.seq) for event in late.values] == [
        (task_id, seq) for task_id in (first, second) for seq in range(1, 6)
    ]
    assert left.completed and [event.value for event in left.values] == [1]
    tracker.cancel()
    assert [event.value for event in slow] == [1, 2]


def test_the_schedule_is_found_again_by_its_id_and_by_what_stands_for_it(made: TaskService, tmp_path: Path) -> None:
    """E-16: track(schedule_id) follows too; so does what a second push of the same key or id returns."""
    request = TaskRequest(count, (str(tmp_path / "runs"), 0), options=TaskOptions(cron=RARELY, dedup_key="nightly"))
    tracker: Any = made.push(request)
    others: list[Any] = [
        made.track(tracker.schedule_id),
        made.push(request),
        made.with_options(cron=RARELY, dedup_key="nightly").submit(count, str(tmp_path / "runs"), 0),
        *made.push_all([request]),
    ]
    assert {other.schedule_id for other in others} == {tracker.schedule_id}
    recorders = [recorded(other.outputs) for other in others]
    for number in range(1, 3):
        again(made, tracker)
        for recorder in recorders:
            recorder.wait(lambda recorder: len(recorder.values) == number)  # noqa: B023
    assert type(made.track(request.task_id)) is not type(tracker)
    assert made.track(request.task_id).result(0) == 1


def test_a_schedule_that_nobody_looks_at_is_not_followed(made: TaskService, tmp_path: Path) -> None:
    """R14: the tracker can be collected, and its schedule goes on; with a subscriber it stays."""
    tracker: Any = made.schedule(count, str(tmp_path / "runs"), 0, cron=RARELY)
    schedule_id, reference = tracker.schedule_id, weakref.ref(tracker)
    outputs = recorded(tracker.outputs)
    del tracker
    for number in range(1, 3):
        made.update(schedule_id, run_at=datetime.now(UTC))
        outputs.wait(lambda recorder: len(recorder.values) == number)  # noqa: B023
    tracker = made.schedule(count, str(tmp_path / "runs"), 0, cron=RARELY)
    reference = weakref.ref(tracker)
    del tracker
    gc.collect()
    assert reference() is None
    assert len(made.list(status="scheduled")) == 2


def test_a_map_does_not_repeat(made: TaskService) -> None:
    """E-16: it would never end; it is refused, and nothing is stored."""
    error = recorded(made.with_options(cron=RARELY).map(count, ["x"], [0])).over().error
    assert isinstance(error, SettingsError) and "leave TaskOptions.cron out" in str(error)
    assert made.list() == []
