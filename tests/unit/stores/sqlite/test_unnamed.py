"""A commit that names no claim of a task whose events it brings is a mistake of the engine's, and says so at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rxtasks import ServiceStopped, TaskContext, task
from rxtasks.clock import utc_from_us
from rxtasks.lifecycle.events import StatusEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.sqlite.store import SqliteStore
from rxtasks.testing.store_suite import ANY, NOW, envelope
from tests.acceptance import jobs
from tests.acceptance.support import SOON, Gate, recorded, service


def test_events_without_a_change_are_refused_by_name(tmp_path: Path) -> None:
    """Q-02: nothing would fence them; the store says which task, and keeps nothing."""
    store = SqliteStore(str(tmp_path / "tasks.db"))
    try:
        store.enqueue([envelope("a")])
        store.claim(ANY, 1, NOW)
        with pytest.raises(AssertionError, match="events of task a and no change that names its claim"):
            _commit(store, StatusEvent("a", 1, 1, "w", utc_from_us(NOW), TaskStatus.RUNNING, None, None))
        assert store.events("a") == []
    finally:
        store.release()


def _commit(store: SqliteStore, event: StatusEvent) -> None:
    done = threading.Event()
    found: list[BaseException | None] = []

    def told(_: list[int], error: BaseException | None) -> None:
        found.append(error)
        done.set()

    store.commit([], [event], told)
    assert done.wait(SOON)
    if found[0] is not None:
        raise found[0]


@task("unnamed.says_late")
def says_late(begin: str, end: str, ctx: TaskContext) -> None:
    jobs.wait_at(begin)
    ctx.log.info("late")
    jobs.wait_at(end)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_forgets_to_name_them_ends_with_that_message(tmp_path: Path) -> None:
    """Q-02: whoever waits is told at once, instead of waiting while the same commit is tried again and again."""
    begin, end = Gate(tmp_path, "begin"), Gate(tmp_path, "end")
    before = threading.enumerate()
    made = service(store=f"sqlite:///{tmp_path / 'tasks.db'}")
    made.engine.core.recorder.durable = False
    tracker = made.submit(says_late, begin.path, end.path)
    recorded(tracker.statuses).wait(lambda recorder: bool(recorder.values))
    begin.open()  # what it says now comes in a commit of its own
    with pytest.raises(ServiceStopped, match=r"the engine failed: AssertionError: .* no change that names its claim"):
        tracker.result(timeout=SOON)
    end.open()
    with pytest.raises(ServiceStopped):
        made.stop()
    ours = [thread for thread in threading.enumerate() if thread not in before and thread.name.startswith("rxtasks-")]
    for thread in ours:
        # A worker's name ends with a part of its id; it has left too.
        if thread.name == "rxtasks-core" or thread.name[-6:].isupper():
            thread.join(SOON)
            assert not thread.is_alive()
