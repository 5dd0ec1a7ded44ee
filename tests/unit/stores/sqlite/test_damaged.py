"""A record that cannot be read is set aside and reported; claims, lists, trackers and everybody else's tasks go on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from rxtasks import TaskService, task
from rxtasks.errors import SettingsError, StoreError
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.stores.sqlite.store import SqliteStore
from tests.acceptance.support import SOON, Recorder
from tests.unit.stores.sqlite.parts import claim, envelope, store_at


@task("damaged.echo")
def echo(value: Any) -> Any:
    return value


def spoil(store: SqliteStore, task_id: str, column: str, value: Any) -> None:
    """Write into the file what damage, or a later version, may have left there."""
    shown = "cast(? as text)" if isinstance(value, bytes) else "?"
    store._writer.ask(lambda db: db.db.execute(f"update tasks set {column} = {shown} where id = ?", (value, task_id)))


DAMAGE = [
    ("options", '{"priority": '),
    ("options", '{"priority": "high"}'),
    ("options", "[]"),
    ("options", b'{"name": "\xff\xfe"}'),
    ("options", '{"retry": {"max_attempts": 3, "backoff": "fibonacci"}}'),
    ("payload", "[[1], {"),
    ("payload", b'[["\xc3\x28"],{}]'),
    ("payload", None),
    ("form", "z9"),
    ("name", b"\xff"),
]


@pytest.mark.parametrize(("column", "value"), DAMAGE, ids=[f"{column}-{at}" for at, (column, _) in enumerate(DAMAGE)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_that_cannot_be_read_is_set_aside_and_the_others_are_claimed(
    tmp_path: Path, column: str, value: Any, place: int
) -> None:
    store, said = store_at(tmp_path / "tasks.db")
    tasks = [envelope(options=TaskOptions(tags=("a", str(number)))) for number in range(3)]
    store.enqueue(tasks)
    bad = tasks[place].task_id
    spoil(store, bad, column, value)
    good = [task.task_id for task in tasks if task.task_id != bad]
    found = [held.envelope.task_id for held in claim(store)]
    assert good == found
    assert [] == claim(store), "and it is not looked at again"
    assert [bad] == [damaged.task_id for damaged in store.damaged()]
    assert any(f"task {bad} cannot be read and was set aside" in text for text in said), said
    assert [task.task_id for task in tasks] == [record.task_id for record in store.list()]
    assert 3 - (column == "options") <= len(store.list(tag="a")) <= 3
    record = store.get(bad)
    assert record is not None and record.finished_at is None
    assert store.waiting() == [] and store.counts().pending == 0
    store.release()


@pytest.mark.parametrize("column", ["created_us", "started_us", "finished_us"])
def test_a_time_that_no_calendar_has_hides_no_other_task(tmp_path: Path, column: str) -> None:
    store, _ = store_at(tmp_path / "tasks.db")
    tasks = [envelope() for _ in range(3)]
    store.enqueue(tasks)
    spoil(store, tasks[1].task_id, column, 2**62)
    records = store.list()
    assert [task.task_id for task in tasks] == [record.task_id for record in records]
    assert "cannot be read in full" in str(records[1].error) and None is records[0].error
    assert records[1] == store.get(tasks[1].task_id)
    store.release()


def test_what_is_set_aside_can_be_deleted_or_put_back_when_it_can_be_read_again(tmp_path: Path) -> None:
    store, _ = store_at(tmp_path / "tasks.db")
    tasks = [envelope(), envelope()]
    store.enqueue(tasks)
    for made in tasks:
        spoil(store, made.task_id, "form", "later")
    assert [] == claim(store)
    with pytest.raises(StoreError, match=r"still cannot be read .*upgrade rxtasks"):
        store.readmit(tasks[0].task_id)
    with pytest.raises(StoreError, match="set aside: delete"):
        answer(store, tasks[0].task_id)
    spoil(store, tasks[0].task_id, "form", "t")
    assert store.readmit(tasks[0].task_id)
    assert not store.readmit(tasks[0].task_id)
    assert [tasks[0].task_id] == [held.envelope.task_id for held in claim(store)]
    assert store.delete(tasks[1].task_id)
    assert [] == store.damaged() and 0 == store.count_damaged()
    store.release()


def answer(store: SqliteStore, task_id: str) -> Any:
    done = threading.Event()
    found: list[Any] = []

    def take(*given: Any) -> None:
        found.append(given)
        done.set()

    store.cancel_later(task_id, None, False, take)
    assert done.wait(SOON)
    asked, claimed, error = found[0]
    if error is not None:
        raise error
    return asked, claimed


def test_a_service_goes_on_beside_a_damaged_record_and_says_so(tmp_path: Path) -> None:
    """One poison row stops no claims, no lists, no trackers; health() counts it, the pool's stream tells of it."""
    place = f"sqlite:///{tmp_path / 'tasks.db'}"
    with TaskService(0, store=place, echo=None) as producer:
        bad = producer.submit(echo, "bad").task_id
        good = [producer.submit(echo, number).task_id for number in range(3)]
        store: Any = producer._store
        spoil(store, bad, "options", "{")
    with TaskService(1, isolation="thread", store=place, echo=None) as service:
        pool = Recorder()
        service.pool.subscribe(pool.on_next)
        service.start()
        assert [0, 1, 2] == [service.track(task_id).result(SOON) for task_id in good]
        pool.wait(lambda seen: any("was set aside" in (event.message or "") for event in seen.values))
        assert 1 == service.health()["damaged"]
        assert [bad] == [found.task_id for found in service.damaged()]
        assert "cannot be read in full" in str(service.get(bad).error)
        with pytest.raises(SettingsError, match="not set aside"):
            service.readmit(good[0])
        store = service._store
        spoil(store, bad, "options", None)
        service.readmit(bad)
        assert "bad" == service.track(bad).result(SOON)


@pytest.mark.parametrize("data", ["[[0,1,1,null,", "[[9,1,1,null,5]]", b"[\xff]", "[]", "{}"])
def test_a_tracker_goes_on_behind_events_that_cannot_be_read(tmp_path: Path, data: Any) -> None:
    """A line stands for each; the end is told as the record has it, and the result is there."""
    place = f"sqlite:///{tmp_path / 'tasks.db'}"
    with TaskService(1, isolation="thread", store=place, echo=None) as service:
        task_id = service.submit(echo, [1, 2]).task_id
        service.track(task_id).result(SOON)
        whole = [event.seq for event in service._store.events(task_id)]  # type: ignore[attr-defined]
    with TaskService(0, store=place, echo=None) as service:
        store: Any = service._store
        shown = "cast(? as text)" if isinstance(data, bytes) else "?"
        store._writer.ask(lambda db: db.db.execute(f"update events set data = {shown}", (data,)))
        events: list[Any] = []
        done = threading.Event()
        tracker = service.track(task_id)
        tracker.subscribe(events.append, lambda error: done.set(), done.set)
        assert done.wait(SOON)
        assert whole == [event.seq for event in events]
        assert "succeeded" == events[-1].status
        assert [1, 2] == tracker.result(SOON)


def test_a_result_that_cannot_be_read_is_an_error_and_never_another_result(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path / 'tasks.db'}"
    with TaskService(1, isolation="thread", store=place, echo=None) as service:
        first, second = (service.submit(echo, number).task_id for number in range(2))
        assert [0, 1] == [service.track(task_id).result(SOON) for task_id in (first, second)]
    with TaskService(0, store=place, echo=None) as service:
        store: Any = service._store
        spoil(store, first, "value", '["j",')
        with pytest.raises(StoreError, match=r"how task .* ended cannot be read"):
            service.track(first).result(SOON)
        assert 1 == service.track(second).result(SOON)
        assert [first, second] == [record.task_id for record in service.list()]
