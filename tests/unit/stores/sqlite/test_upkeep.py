"""Q-07: what is old is forgotten, the files stay bounded, a copy can be taken at any time, and damage is found."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from rxtasks import TaskService, TaskStatus, UnknownTask, task
from rxtasks.clock import SystemClock, utc_from_us
from rxtasks.errors import SettingsError
from rxtasks.lifecycle.events import StatusEvent
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.stores.sqlite.store import SqliteStore
from tests.acceptance.support import SOON, service
from tests.unit.stores.sqlite.parts import change, claim, envelope, store_at


@task("upkeep.text")
def text(length: int) -> str:
    return "x" * length


def finish(store: SqliteStore, finished_us: int, text: str = "") -> list[str]:
    """End everything that waits; return the ids."""
    ended: list[str] = []
    while held := claim(store, 500):
        changes = [
            change(one, "succeeded", next_seq=3, finished_us=finished_us, release=True, value=["j", text])
            for one in held
        ]
        events: list[Any] = []
        for one in held:
            at = utc_from_us(finished_us)
            events.append(StatusEvent(one.envelope.task_id, 1, 1, "w", at, TaskStatus.RUNNING))
            events.append(StatusEvent(one.envelope.task_id, 2, 1, "w", at, TaskStatus.SUCCEEDED, text))
        done = threading.Event()
        store.commit(changes, events, lambda refused, error, done=done: done.set())  # type: ignore[misc]
        assert done.wait(SOON)
        ended += [one.envelope.task_id for one in held]
    return ended


def rows(store: SqliteStore, query: str) -> Any:
    return store._reader.read(lambda db: db.db.execute(query).fetchall())


def test_prune_forgets_what_ended_before_then_with_all_that_was_kept_of_it_and_nothing_else(tmp_path: Path) -> None:
    store, _ = store_at(tmp_path / "tasks.db")
    long = b'[["' + b"y" * 5000 + b'"],{}]'
    store.enqueue([envelope(long) for _ in range(250)])
    old = finish(store, 1_000)
    store.enqueue([envelope() for _ in range(3)])
    new = finish(store, 5_000)
    store.enqueue([envelope(long)])
    assert 250 == len(old) and 10 == store.prune(2_000, 10)
    assert 240 == store.prune(2_000, 10_000) and 0 == store.prune(2_000, 10_000)
    assert new == [record.task_id for record in store.list(status=TaskStatus.SUCCEEDED)]
    assert [(6 // 2,)] == rows(store, "select count(*) from events")
    assert [(1,)] == rows(store, "select count(*) from arguments")
    assert [] == store.check()
    assert 1 == len(claim(store))
    store.release()


def test_a_service_forgets_by_itself_what_is_older_than_its_retention(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path / 'tasks.db'}"
    with service(1, store=place) as made:
        task_id = made.submit(text, 3).task_id
        assert "xxx" == made.track(task_id).result(SOON)
    store, _ = store_at(tmp_path / "tasks.db")
    store._writer.ask(lambda db: db.db.execute("update tasks set finished_us = finished_us - 2 * 86400000000"))
    store.release()
    with service(0, store=place, retention=3) as made:
        made.start()
        assert "succeeded" == made.get(task_id).status
    with service(0, store=place, retention=1) as made:
        gone = threading.Event()
        store_of: Any = made._store
        prune = store_of._prune

        def pruned(*given: Any) -> Any:
            found = prune(*given)
            gone.set()
            return found

        store_of._prune = pruned
        made.start()
        assert gone.wait(SOON)
        with pytest.raises(UnknownTask):
            made.get(task_id)


def test_prune_of_a_service_takes_seconds_and_works_in_memory_too(tmp_path: Path) -> None:
    for place in ("memory", f"sqlite:///{tmp_path / 'tasks.db'}"):
        with service(1, store=place) as made:
            trackers = [made.submit(text, number) for number in range(5)]
            assert ["x" * number for number in range(5)] == [tracker.result(SOON) for tracker in trackers]
            made.engine.wait_idle(SOON)
            assert 0 == made.prune(3600)
            assert 2 == made.prune(0, limit=2)
            assert [tracker.task_id for tracker in trackers[2:]] == [record.task_id for record in made.list()]
            assert 3 == made.prune(0)
            with pytest.raises(SettingsError, match="older_than"):
                made.prune(-1)


def test_the_files_do_not_grow_for_ever_when_old_tasks_are_pruned(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store, _ = store_at(path)
    sizes: list[int] = []
    for _ in range(12):
        store.enqueue([envelope() for _ in range(1000)])
        finish(store, 1_000, "x" * 1000)
        assert 1000 == store.prune(2_000, 10_000)
        sizes.append(path.stat().st_size)
    assert max(sizes) <= 8 * 2**20, sizes  # 30 MB were written
    assert Path(f"{path}-wal").stat().st_size <= 24 * 2**20
    store.release()


def test_a_backup_taken_under_load_is_a_store_of_that_moment(tmp_path: Path) -> None:
    """Q-07: online. What was acknowledged before is in it; it can be opened beside the other, and its tasks run."""
    place = f"sqlite:///{tmp_path / 'tasks.db'}"
    with service(0, store=place) as made:
        first = [made.submit(text, 2000).task_id for _ in range(300)]
        ended = threading.Event()

        def push() -> None:
            while not ended.is_set():
                made.submit(text, 10)

        pusher = threading.Thread(target=push)
        pusher.start()
        copy = tmp_path / "copy.db"
        size = made.backup(copy)
        ended.set()
        pusher.join()
        assert size == copy.stat().st_size and 0o600 == copy.stat().st_mode & 0o777
        with pytest.raises(SettingsError, match="exists; give the path of a new file"):
            made.backup(copy)
        with pytest.raises(SettingsError, match="does not exist; create it"):
            made.backup(tmp_path / "nowhere" / "copy.db")
        assert [] == [name for name in os.listdir(tmp_path) if ".part-" in name]
        with service(1, store=f"sqlite:///{copy}") as restored:
            assert [] == restored.check()
            restored.start()
            assert ["x" * 2000] * 300 == [restored.track(task_id).result(SOON) for task_id in first]
        assert "pending" == made.get(first[0]).status, "the other knows nothing of it"


def test_what_ran_when_the_backup_was_taken_runs_again_in_the_copy(tmp_path: Path) -> None:
    store, _ = store_at(tmp_path / "tasks.db")
    member = store.join(lease=15.0, max_interruptions=20)
    task = envelope(name="upkeep.text", function="upkeep.text", payload=b"[[4],{}]")
    store.enqueue([task])
    (held,) = claim(store)
    assert member is not None and held.token > 0
    store.backup(str(tmp_path / "copy.db"))
    with service(1, store=f"sqlite:///{tmp_path / 'copy.db'}") as restored:
        restored.start()
        assert "xxxx" == restored.track(task.task_id).result(SOON)
    store.release()


def test_the_memory_store_has_nothing_to_copy(tmp_path: Path) -> None:
    with TaskService(0) as made:
        with pytest.raises(SettingsError, match="memory store has nothing to copy"):
            made.backup(tmp_path / "copy.db")
        assert [] == made.check()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("update tasks set token = 77, service = 9 where number = 1", "claimed by a service that is not registered"),
        ("update tasks set token = 5 where finished_us is not null", "has ended and is claimed all the same"),
        ("update events set first = first + 1 where number = 1", "events that do not follow each other"),
        ("delete from events where number = 1", "has other events than its record counts"),
        ("update tasks set status = 'pending' where number = 1", "a status and an end that do not fit together"),
        ("update tasks set payload = null where number = 2", "has lost its arguments"),
        ("delete from tasks where number = 1", "rows of the log belong to no task"),
        ("insert into arguments values (99, '[]')", "1 arguments belong to no task"),
        (
            "insert into notes (number, seq, target, actor, time_us) values (99, 1, 'x', 'y', 0)",
            "1 notes belong to no task",
        ),
        ("update events set data = '[[0,1' where number = 1", "cannot be read"),
        ("update tasks set options = '{' where number = 2", "the record of task .* cannot be read"),
    ],
)
def test_check_finds_what_cannot_be_true(tmp_path: Path, damage: str, said: str) -> None:
    import re

    store, _ = store_at(tmp_path / "tasks.db")
    store.enqueue([envelope()])
    finish(store, SystemClock().wall_us())
    store.enqueue([envelope()])
    assert [] == store.check()
    store._writer.ask(lambda db: db.db.execute(damage))
    assert any(re.search(said, found) for found in store.check()), store.check()
    store.release()


def test_check_finds_pages_that_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store, _ = store_at(path)
    store.enqueue([envelope() for _ in range(2000)])
    store.release()
    with open(path, "r+b") as file:
        for page in range(20, 60):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    assert store.check() and any("malformed" in found or "file" in found for found in store.check())
    store.release()


def _fill(store: SqliteStore, count: int = 300) -> None:
    store.enqueue([envelope(b'[["' + os.urandom(5000).hex().encode() + b'"],{}]') for _ in range(count)])


def test_what_is_pruned_makes_room_for_what_comes_and_can_be_given_back(tmp_path: Path) -> None:
    """Q-07: the file does not grow by a round of prune and new tasks; vacuum makes it small again, and nothing else changes."""
    path = tmp_path / "tasks.db"
    store, _ = store_at(path)
    store.enqueue([envelope(b'["kept"]', options=TaskOptions(tags=("kept",)), hold=True)])
    sizes = []
    for _ in range(4):
        _fill(store)
        finish(store, 1_000, "y" * 2_000)
        store.release()  # what is in the log goes into the file
        sizes.append(path.stat().st_size)
        store.prune(2_000, 10_000)
    assert sizes[-1] <= sizes[0] * 1.05
    _fill(store, 10)
    new = finish(store, 5_000)
    before = (store.list(), [store.events(task_id) for task_id in new])
    given = store.vacuum()
    assert given > sizes[0] * 0.8 and path.stat().st_size < sizes[0] * 0.2
    assert (store.list(), [store.events(task_id) for task_id in new]) == before
    assert store.check() == [] and store.vacuum() == 0
    _fill(store, 1)
    assert len(claim(store)) == 1
    store.release()


def test_a_store_is_given_back_room_while_services_use_it(tmp_path: Path) -> None:
    """Q-07: pushes, claims and reads here and elsewhere wait and go on; all of them are there."""
    place = f"sqlite:///{tmp_path / 'tasks.db'}"
    with service(1, store=place) as made, service(0, store=place) as other:
        gone = [made.submit(text, 50_000) for _ in range(100)]
        assert all([len(tracker.result(SOON)) == 50_000 for tracker in gone])
        del gone
        assert made.prune(0) == 100
        trackers: list[Any] = []
        begun = threading.Event()

        def push() -> None:
            for at in range(60):
                trackers.append((made, other)[at % 2].submit(text, at))
                begun.set()

        thread = threading.Thread(target=push)
        thread.start()
        assert begun.wait(SOON)
        assert other.vacuum() > 1_000_000
        thread.join()
        assert [len(tracker.result(SOON)) for tracker in trackers] == list(range(60))
        assert made.check() == []
    with service(0) as memory, pytest.raises(SettingsError, match="memory store has no file"):
        memory.vacuum()
