"""A service on a SQLite store: what was acknowledged is there after the end of everything, and goes on."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rxtasks import (
    PayloadError,
    RetryPolicy,
    ServiceStopped,
    SettingsError,
    StatusEvent,
    TaskCancelled,
    TaskOptions,
    TaskRequest,
    TaskService,
    UnknownHandler,
    UnknownTask,
    iterate,
)
from rxtasks.worker.registry import Registry
from tests.acceptance import jobs
from tests.acceptance.support import SOON, Gate, recorded, service, started

ISOLATIONS = ("inline", "thread", "process")


def stored(folder: Path, workers: Any = 1, **more: Any) -> TaskService:
    return service(workers, store=f"sqlite:///{folder / 'tasks.db'}", **{"on_exit": "drain", **more})


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_everything_is_found_again(tmp_path: Path, isolation: str) -> None:
    """Q-05 R23: the task, its record, its events and its result are there after a stop, from any seq."""
    with stored(tmp_path, isolation=isolation) as made:
        chatted = made.submit(jobs.chat, 40)
        before = list(iterate(chatted))
        assert 40 == chatted.result(timeout=SOON)
        odd = made.submit(jobs.odd)
        assert odd.result(timeout=SOON) == jobs.odd()
        failed = made.submit(jobs.fail, "no")
        with pytest.raises(ValueError, match="no"):
            failed.result(timeout=SOON)
        records = made.list()
    with stored(tmp_path, isolation=isolation) as made:
        assert records == made.list()
        again = made.track(chatted.task_id)
        events = list(iterate(again))
        assert [event for event in before if event.kind != "progress"] == [e for e in events if e.kind != "progress"]
        assert list(range(1, len(events) + 1)) == [event.seq for event in events]
        assert 40 == again.result(0) and again.done and "line 39" == again.log_tail[-1].message
        assert events[9:] == list(iterate(made.track(chatted.task_id, from_seq=10)))
        assert [] == list(iterate(made.track(chatted.task_id, from_seq=len(events) + 5)))
        assert jobs.odd() == made.track(odd.task_id).result(0)
        with pytest.raises(ValueError, match="no") as caught:
            made.track(failed.task_id).result(0)
        assert "in fail" in str(caught.value.__cause__)
        with pytest.raises(UnknownTask):
            made.track("no-such-task")


def test_the_whole_of_a_long_stream_is_replayed(tmp_path: Path) -> None:
    """Q-05 R19: a tracker's subscriber gets all events of a durable log, not the last thousand; live ones follow them."""
    gate = Gate(tmp_path)
    with stored(tmp_path) as made:
        tracker = made.submit(jobs.chat_then_wait, 3000, gate.path)
        said = iterate(tracker.logs)
        first = [next(said) for _ in range(3000)]
        late = iterate(made.track(tracker.task_id))
        seqs = [next(late).seq for _ in range(3001)]
        gate.open()
        seqs += [event.seq for event in late]
        assert list(range(1, 3003)) == seqs
        assert [f"line {number}" for number in range(3000)] == [event.message for event in first]


def test_what_waits_is_kept_and_runs_after_the_next_start(tmp_path: Path) -> None:
    """Q-04: leaving drains: what runs finishes, the rest stays queued in its order, and retries go on where they were."""
    gate, notes = Gate(tmp_path), str(tmp_path / "notes")
    with stored(tmp_path) as made:
        blocker = started(made, jobs.wait_at, gate.path)
        low = made.submit(jobs.note, notes, "low")
        high = made.with_options(priority=3).submit(jobs.note, notes, "high")
        held = made.create(TaskRequest(jobs.note, (notes, "held")))
        later = made.schedule(jobs.note, notes, "later", at=datetime.now(UTC) + timedelta(hours=1))
        gate.open()
        assert blocker.result(timeout=SOON) is None
        made.pause()
        waiting = made.submit(jobs.note, notes, "last")
    kept = ("pending", "succeeded")
    with stored(tmp_path, workers=0) as made:
        assert {"created": 1, "scheduled": 1}.items() <= _counts(made).items()
        assert made.get(waiting.task_id).status in kept
    with stored(tmp_path) as made:
        trackers = [made.track(tracker.task_id) for tracker in (low, high, waiting)]
        made.start()
        assert ["low", "high", "last"] == [tracker.result(timeout=SOON) for tracker in trackers]
        assert "created" == made.get(held.task_id).status and "scheduled" == made.get(later.task_id).status
        made.update(later.task_id, run_at=datetime.now(UTC))
        assert "later" == made.track(later.task_id).result(timeout=SOON)
    assert 1 == Path(notes).read_text("utf-8").split().count("low")


def _counts(made: TaskService) -> dict[str, int]:
    found: dict[str, int] = {}
    for record in made.list():
        found[str(record.status)] = found.get(str(record.status), 0) + 1
    return found


def test_a_cancel_is_kept(tmp_path: Path) -> None:
    """Q-04 W-09: of a task that waits, runs or is scheduled: acknowledged means written; it never starts afterwards."""
    notes = str(tmp_path / "notes")
    with stored(tmp_path) as made:
        runs = started(made, jobs.wait_politely)
        waits = made.submit(jobs.note, notes, "never")
        assert waits.cancel("not wanted") and "cancelled" == made.get(waits.task_id).status
        assert runs.cancel()
        with pytest.raises(TaskCancelled):
            runs.result(timeout=SOON)
        assert not waits.cancel() and not runs.cancel()
        later = made.with_options(delay=3600).submit(jobs.note, notes, "never")
    with stored(tmp_path, workers=0) as made:
        assert made.cancel(later.task_id, "changed my mind")
        with pytest.raises(TaskCancelled, match="changed my mind"):
            made.track(later.task_id).result(timeout=SOON)
        with pytest.raises(UnknownTask):
            made.cancel("no-such-task")
    with stored(tmp_path) as made:
        assert "cancelled" == made.get(later.task_id).status == made.get(waits.task_id).status
        with pytest.raises(TaskCancelled, match="not wanted"):
            made.track(waits.task_id).result(0)
    assert not Path(notes).exists()


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_checkpoint_is_there_after_a_restart(tmp_path: Path, isolation: str) -> None:
    """W-08 Q-04: ctx.restored is the last checkpoint of an earlier attempt, tags included, whatever has ended between."""
    tries = str(tmp_path / "tries")
    policy = RetryPolicy(max_attempts=2, backoff="fixed", base=0.05)
    with stored(tmp_path, isolation=isolation) as made:
        tracker = made.with_options(retry=policy).submit(jobs.save_then_fail, tries)
        for event in iterate(tracker.statuses):
            if event.status == "retrying":
                break
    with stored(tmp_path, isolation=isolation) as made:
        again = made.track(tracker.task_id)
        made.start()
        assert (1, {2, 3}) == again.result(timeout=SOON)
        assert 2 == made.get(tracker.task_id).attempt
        statuses = [event for event in iterate(again) if isinstance(event, StatusEvent)]
        assert ["running", "retrying", "running", "succeeded"] == [event.status for event in statuses]


def test_what_a_row_cannot_hold_is_refused(tmp_path: Path) -> None:
    """Q-09: arguments that are not exact in JSON are refused with the path to them, functions without a name by name."""
    with stored(tmp_path) as made:
        with pytest.raises(PayloadError) as caught:
            made.submit(jobs.double, {"a": [1, object()]})
        assert "args[0]['a'][1]" == caught.value.path
        with pytest.raises(SettingsError, match="by the name of their function"):
            made.submit(lambda: 1)
        with pytest.raises(PayloadError):
            made.submit(jobs.give_object).result(timeout=SOON)
        with pytest.raises(UnknownHandler):
            made.push(TaskRequest("os:getcwd")).result(timeout=SOON)
        assert 4 == made.submit(jobs.double, 2).result(timeout=SOON)


def test_an_address_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path after three slashes is relative to the directory of the moment; what is no address is refused."""
    monkeypatch.chdir(tmp_path)
    made = service(store="sqlite:///here.db", on_exit="drain")
    monkeypatch.chdir("/")
    with made:
        assert 4 == made.submit(jobs.double, 2).result(timeout=SOON)
    assert (tmp_path / "here.db").exists()
    for wrong in ("sqlite:here.db", "sqlite:///", "sqlite://here.db", "SQLite:///x", "mysql:///x"):
        with pytest.raises(SettingsError, match="sqlite:///"):
            service(store=wrong)


def test_a_plain_function_says_what_to_do_so_that_others_can_run_it(tmp_path: Path) -> None:
    """Q-05, rule 1 of the security rules: a warning at the line that submits; in a process that does not know it, the error."""
    with stored(tmp_path, workers=0) as made, pytest.warns(RuntimeWarning) as caught:
        made.submit(_plain)
        made.submit(_plain)
    (warning,) = caught
    advice = r"put @task on _plain in \S*test_durable, and modules=\['\S*test_durable'\] into each service that runs it"
    assert re.search(f"_plain is not registered: .* {advice}", str(warning.message))
    assert warning.filename == __file__
    run = """
import sys, logging
logging.disable()
from rxtasks import TaskService
if sys.argv[4] == "imported": __import__(sys.argv[3])
service = TaskService(1, isolation="thread", store=sys.argv[1], echo=None, modules=["rxtasks.examples"])
service.start()
try:
    service.track(sys.argv[2]).result(30)
except LookupError as error:
    print(type(error).__name__, error)
service.stop()
"""
    root = str(Path(__file__).resolve().parents[2])
    hints = {
        "imported": advice,
        "not": r"pass modules=\['\S*test_durable'\] to each service that runs it, with @task on _plain there",
    }
    for how, hint in hints.items():
        with stored(tmp_path, workers=0) as made:
            task = made.submit(_plain).task_id
        command = [sys.executable, "-c", run, f"sqlite:///{tmp_path / 'tasks.db'}", task, __name__, how]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=True)
        assert re.match(f"UnknownHandler no handler is registered as '{__name__}:_plain'; {hint}", done.stdout), how


def _plain() -> int:
    return 1


def test_after_a_stop_the_streams_of_what_is_kept_end_and_nobody_waits(tmp_path: Path) -> None:
    """R24 R13: with ServiceStopped, also for who comes later; the tasks wait in the store, and can be cancelled there."""
    with stored(tmp_path, workers=0) as made:
        waits, created = made.submit(jobs.double, 1), made.create(TaskRequest(jobs.double, (2,)))
        repeats = made.schedule(jobs.double, 3, cron="0 0 1 1 *")
        recorders = [recorded(stream) for one in (waits, created, repeats) for stream in (one, one.logs, one.outcome)]
    for recorder in [*recorders, recorded(waits), recorded(made.track(waits.task_id).statuses), recorded(repeats)]:
        assert isinstance(recorder.over().error, ServiceStopped)
    for tracker in (waits, created, repeats, made.track(created.task_id), made.track(repeats.schedule_id or "")):
        with pytest.raises(ServiceStopped):
            tracker.result(timeout=SOON)
    assert [record.status for record in made.list()] == ["pending", "created", "scheduled"]
    assert made.cancel(waits.task_id, "after all") and made.cancel(repeats.schedule_id or "")
    assert not made.cancel(waits.task_id)
    with stored(tmp_path, workers=0) as made:
        assert [record.status for record in made.list()] == ["cancelled", "created", "cancelled"]
        with pytest.raises(TaskCancelled, match="after all"):
            made.track(waits.task_id).result(0)


@pytest.mark.parametrize("place", ["memory", "sqlite"])
def test_a_push_that_a_created_task_stands_for_runs_that_one(tmp_path: Path, place: str) -> None:
    """E-12: whoever pushes gets a tracker that ends, also where one with the dedup_key was only created before."""
    store = "memory" if place == "memory" else f"sqlite:///{tmp_path / 'tasks.db'}"
    with service(store=store) as made:
        view = made.with_options(dedup_key="k")
        created = view.create(TaskRequest(jobs.double, (21,)))
        assert view.create(TaskRequest(jobs.double, (1,))).task_id == created.task_id
        assert "created" == made.get(created.task_id).status
        pushed = view.submit(jobs.double, 5)
        assert (created.task_id, 42) == (pushed.task_id, pushed.result(SOON))
        assert 42 == created.result(SOON)
        assert ("created", "pending", "pushed") in [
            (step.source, step.target, step.reason) for step in made.history(created.task_id)
        ]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_task_pushed_by_name_runs_with_the_own_options_of_its_handler(tmp_path: Path, isolation: str) -> None:
    """E-06 Q-09: timeout and retry that @task gives count also where the push did not know the module; what it said stands."""
    with stored(tmp_path, 0) as made:
        made.engine._intake._registry = Registry()  # as in a process that has not imported the module
        plain = made.push(TaskRequest("jobs.stubborn", (str(tmp_path / "one"),))).task_id
        single = made.with_options(retry=RetryPolicy(max_attempts=2, base=0.001)).push(
            TaskRequest("jobs.stubborn", (str(tmp_path / "two"),))
        )
        whole = made.push(TaskRequest("jobs.stubborn", (str(tmp_path / "three"),), options=TaskOptions(tags=("t",))))
        assert TaskOptions() == made.get(plain).options, "a record has what was pushed"
        ids = (plain, single.task_id, whole.task_id)
    modules = ["tests.acceptance.jobs"]
    with stored(tmp_path, isolation=isolation, modules=modules, start_timeout=60.0) as made:
        if isolation == "process":
            made.engine._intake._registry = Registry()  # only its workers know the module
        made.start()
        for task_id in ids:
            assert isinstance(made.track(task_id).future.exception(SOON), OSError)
        assert [3, 2, 1] == [made.get(task_id).attempt for task_id in ids]
