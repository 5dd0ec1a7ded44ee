"""Leaving `with` waits for everything that will end, and for nothing that nothing lets run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from reactivex import operators as ops

from rxtasks import ServiceStopped, TaskOptions, TaskRequest, TaskService, task
from tests.acceptance import jobs
from tests.acceptance.support import SOON, Gate, service


@task("never.one")
def one() -> int:
    return 1


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory" if request.param == "memory" else f"sqlite:///{tmp_path / 'tasks.db'}"


def finishing(store: str) -> TaskService:
    return service(2, store=store, on_exit="finish")


def within(seconds: float, call: Callable[[], None]) -> None:
    """Fail loudly if it takes longer."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "leaving `with` waits for ever"


def test_what_depends_on_a_task_that_nobody_pushes_is_not_waited_for(
    store: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E-15 R24: it ends with an error that says why (in a durable store it stays), and a line in the log; all else finishes."""
    made = finishing(store)
    created = TaskRequest(one, task_id="created")
    found = {}

    def leave() -> None:
        with made:
            made.create(created)
            first = made.with_options(depends_on="created").submit(one)
            found["far"] = made.with_options(depends_on=(first.task_id,), on_dependency_failure="run").submit(one)
            found["first"] = first
            found["later"] = made.with_options(delay=0.2).submit(one)
            found["after"] = made.with_options(depends_on=found["later"].task_id).submit(one)

    with caplog.at_level(logging.WARNING, "rxtasks"):
        within(SOON, leave)
    assert [found[name].result(0) for name in ("later", "after")] == [1, 1]
    for name in ("first", "far"):
        with pytest.raises(ServiceStopped) as caught:
            found[name].result(0)
        if store == "memory":
            assert "waited for the end of" in str(caught.value) and "(depends_on)" in str(caught.value)
        else:
            assert made.get(found[name].task_id).status == "blocked"
    assert "depends on created" in caplog.text and caplog.text.count("is not waited for") == 2


def test_a_schedule_is_not_waited_for_but_what_is_due_is(store: str, tmp_path: Path) -> None:
    """E-16: an occurrence that runs finishes, one that was asked for now is run; none is waited for before its time."""
    made, gate, notes = finishing(store), Gate(tmp_path), str(tmp_path / "notes")
    trackers = []

    def leave() -> None:
        with made:
            trackers.append(made.schedule(one, cron="0 0 1 1 *"))
            runs = made.schedule(jobs.wait_at, gate.path, "done", cron="0 0 1 1 *")
            asked = made.schedule(jobs.note, notes, "now", cron="0 0 1 1 *")
            made.update(runs.task_id, run_at=datetime.now(UTC))
            made.update(asked.task_id, run_at=datetime.now(UTC))
            made.with_options(depends_on=trackers[0].task_id).submit(one)
            trackers.append(runs)
            threading.Thread(target=gate.open).start()

    within(SOON, leave)
    assert trackers[0].done or store != "memory"
    with pytest.raises(ServiceStopped):
        trackers[0].result(0)
    assert Path(notes).read_text("utf-8") == "now\n"
    assert "succeeded" in [record.status for record in made.list(name="tests.acceptance.jobs:wait_at")]


def test_one_that_is_pushed_by_then_is_waited_for(store: str, tmp_path: Path) -> None:
    """E-15: also by another thread while `with` waits for something else."""
    made, gate = finishing(store), Gate(tmp_path)
    found = {}

    def leave() -> None:
        with made:
            held = TaskRequest(one, options=TaskOptions(run_at=datetime.now(UTC) + timedelta(seconds=0.1)))
            made.create(held)
            found["last"] = made.with_options(depends_on=held.task_id).submit(one)
            made.submit(jobs.wait_at, gate.path)

            def push() -> None:
                made.push(held)
                gate.open()

            threading.Thread(target=push).start()

    within(SOON, leave)
    assert found["last"].result(0) == 1


def test_one_that_a_subscriber_pushes_when_the_last_has_ended_is_waited_for(store: str) -> None:
    """R18: what is reacted to is delivered before anything is given up."""
    made = finishing(store)
    found = {}

    def leave() -> None:
        with made:
            held = TaskRequest(one)
            made.create(held)
            found["last"] = made.with_options(depends_on=held.task_id).submit(one)
            before = made.submit(one)
            before.statuses.pipe(ops.filter(lambda event: event.status == "succeeded")).subscribe(
                lambda _: made.push(held)
            )

    within(SOON, leave)
    assert found["last"].result(0) == 1
