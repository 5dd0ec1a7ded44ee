"""Q-09 and rule 3 of the security page: what a durable store carries, exactly or not at all."""

from __future__ import annotations

import functools
import math
import os
import pickle
import stat
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import pytest

from rxtasks import PayloadError, Secret, TaskCancelled, TaskRequest, TaskService, UnknownTask
from rxtasks.errors import SettingsError
from tests.acceptance.stored_values import (
    Box,
    Colour,
    Point,
    Unknown,
    boom,
    echo,
    fails_with_secret,
    large,
    said,
    unknown,
    unpicklable,
    uses_secret,
)
from tests.acceptance.support import SOON


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskService]:
    place = f"sqlite:///{tmp_path_factory.mktemp('store') / 'tasks.db'}"
    with TaskService(1, store=place, modules=["tests.acceptance.stored_values"], echo=None, on_exit="force") as service:
        yield service


def url(made: TaskService) -> str:
    store: Any = made._store
    return f"sqlite:///{store.path}"


VALUES = [
    (1, (2, (3,))),
    {1, 2},
    frozenset({"a"}),
    b"\x00\xff",
    datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))),
    date(2026, 1, 2),
    time(1, 2, 3),
    timedelta(days=-1, microseconds=1),
    Decimal("1.10"),
    UUID(int=7),
    Path("/tmp/x"),
    PurePosixPath("a/b"),
    Colour.RED,
    Point(1, (2,)),
    Box((1, Point(2))),
    2**200,
    -(2**63) - 1,
    math.inf,
    {1: "int key", (1, 2): [b"x"]},
    {"$t": "not a tag"},
    "a\0b",
    "lone \ud800 surrogate",
    {"\udfff": ["\0"]},
    -0.0,
    Secret("env:NAME"),
]


@pytest.mark.parametrize(
    "value", VALUES, ids=[repr(value)[:40].encode("ascii", "replace").decode() for value in VALUES]
)
def test_a_value_comes_back_from_a_worker_and_from_the_file_as_it_was(made: TaskService, value: Any) -> None:
    tracker = made.submit(echo, value)
    result = tracker.result(SOON)
    assert value == result and type(value) is type(result) and repr(value) == repr(result)
    with TaskService(0, store=url(made)) as other:
        again = other.track(tracker.task_id).result(SOON)
    assert value == again and repr(value) == repr(again)
    made.flush(SOON)


def test_nan_comes_back_as_nan(made: TaskService) -> None:
    (result,) = made.submit(echo, [math.nan]).result(SOON)
    assert math.isnan(result)


def test_what_cannot_be_carried_is_refused_at_submit_with_the_path_to_it(made: TaskService) -> None:
    before = len(made.list(limit=1000))
    for args, kwargs, path in (
        (({"k": [1, Unknown("x")]},), {}, "args[0]['k'][1]"),
        ((), {"value": (1, {2: Unknown("x")})}, "kwargs['value'][1][2]"),
        (({"deep": made.put([1, 2])},), {}, "args[0]['deep']"),
    ):
        with pytest.raises(PayloadError) as caught:
            made.submit(echo, *args, **kwargs)
        assert path == caught.value.path and path in str(caught.value)
    with pytest.raises(PayloadError, match=r"put\(\) lives only as long as this service"):
        made.submit(echo, made.put("x"))
    with pytest.raises(PayloadError, match="allowed are 16777216"):
        made.submit(echo, "x" * 2**24)
    assert before == len(made.list(limit=1000)), "nothing of them is in the store"


def test_sixteen_mebibytes_are_carried(made: TaskService) -> None:
    text = "x" * (2**24 - 100)
    assert text == made.submit(echo, text).result(SOON)


def plain() -> int:
    return 1


def test_functions_that_have_no_name_are_refused(made: TaskService) -> None:
    """A stored row names its function: a partial, a closure, a method of an object would come back as something else."""

    def inner() -> int:
        return 1

    class Callable:
        def __call__(self) -> int:
            return 1

    for function in (lambda: 1, inner, functools.partial(plain), functools.partial(echo, 1), [].append, Callable()):
        with pytest.raises(SettingsError, match="a durable store keeps tasks by the name of their function"):
            made.submit(function)


def test_a_result_that_cannot_be_stored_is_kept_as_a_file_that_the_error_names(made: TaskService) -> None:
    """The task fails with PayloadError; the file is for its owner alone, and goes with the task."""
    tracker = made.submit(unknown, "precious")
    with pytest.raises(PayloadError, match=r"result\['deep'\]\[0\] cannot be stored.*It was kept as") as caught:
        tracker.result(SOON)
    (path,) = [Path(word.rstrip(":")) for word in str(caught.value).split() if word.endswith(".pickle:")]
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)
    assert "precious" == pickle.loads(path.read_bytes())["deep"][0].word
    record = made.get(tracker.task_id)
    assert "failed" == record.status and record.error is not None and str(path) in record.error.message
    assert record.result is None
    with TaskService(0, store=url(made)) as other, pytest.raises(PayloadError, match="It was kept as"):
        other.track(tracker.task_id).result(SOON)
    made.delete(tracker.task_id)
    assert not path.exists()


def test_the_file_goes_when_its_task_is_pruned_and_its_name_stays_in_its_directory(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path / 'tasks.db'}"
    with TaskService(1, isolation="thread", store=place, echo=None) as service:
        for task_id in ("../../escape", "a/b\0c", ".", "x" * 300):
            tracker = service.push(TaskRequest(unknown, ("w",), task_id=task_id))
            with pytest.raises(PayloadError, match="It was kept as"):
                tracker.result(SOON)
        service.engine.wait_idle(SOON)
        folder = tmp_path / "tasks.db-results"
        assert 4 == len(list(folder.iterdir()))
        assert {"tasks.db"} == {name.split("-")[0] for name in os.listdir(tmp_path)}
        assert 4 == service.prune(0)
        assert [] == list(folder.iterdir())


def test_a_result_that_is_too_large_for_the_store_is_kept_too(made: TaskService) -> None:
    with pytest.raises(PayloadError, match=r"allowed are 16777216.*It was kept as"):
        made.submit(large, 2**24 + 1).result(SOON)


def test_a_result_that_cannot_even_be_pickled_says_so(made: TaskService) -> None:
    with pytest.raises(PayloadError, match="could not be kept as a file either"):
        made.submit(unpicklable).result(SOON)


NUL, LONE = "a\0b", "a\ud800b"


def test_nul_survives_in_every_text(made: TaskService) -> None:
    view = made.with_options(name=NUL, dedup_key=NUL, tags=(NUL,))
    request = TaskRequest(said, (NUL,), task_id=f"id {NUL}", trace=NUL)
    tracker = view.push(request)
    assert 3 == tracker.result(SOON)
    record = made.get(request.task_id)
    assert (NUL, (NUL,), NUL) == (record.name, record.tags, record.options.dedup_key)
    assert [record.task_id] == [found.task_id for found in made.list(name=NUL, tag=NUL)]
    with TaskService(0, store=url(made)) as other:
        events: Any = other._store.events(request.task_id)  # type: ignore[attr-defined]
    assert f"said {NUL}" in [getattr(event, "message", None) for event in events]
    with pytest.raises(ValueError, match="a\0b"):
        made.submit(boom, NUL).result(SOON)
    made.delete(request.task_id)
    with pytest.raises(UnknownTask):
        made.get(request.task_id)


def test_lone_surrogates_survive_in_values_and_are_refused_by_name_elsewhere(made: TaskService) -> None:
    """One caller's text costs nobody else anything: what is refused never comes to the writer."""
    for make in (
        lambda: made.push(TaskRequest(said, ("x",), task_id=LONE)),
        lambda: made.push(TaskRequest(said, ("x",), trace=LONE)),
        lambda: made.with_options(name=LONE).submit(said, "x"),
        lambda: made.with_options(dedup_key=LONE).submit(said, "x"),
        lambda: made.with_options(tags=(LONE,)).submit(said, "x"),
        lambda: made.with_options(queue=LONE).submit(said, "x"),
    ):
        with pytest.raises(SettingsError, match=r"cannot be stored|Unicode"):
            make()
    with pytest.raises(UnknownTask):
        made.get(LONE)
    assert [] == made.list(name=LONE)
    waiting = made.with_options(delay=1000).submit(said, "x")
    with pytest.raises(SettingsError, match="reason cannot be stored"):
        made.cancel(waiting.task_id, LONE)
    assert made.cancel(waiting.task_id, "plain")
    with pytest.raises(TaskCancelled):
        waiting.result(SOON)
    assert 3 == made.submit(said, LONE).result(SOON), "in logs and messages they are shown"
    with pytest.raises(ValueError, match="a"):
        made.submit(boom, LONE).result(SOON)
    assert made.health()["ok"]


def test_the_value_of_a_secret_is_nowhere_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary: neither in the file, nor its log, nor an event, nor a kept file; only its name is."""
    canary = "canary-5f1e9d-secret-value"
    monkeypatch.setenv("RXTASKS_TEST_CANARY", canary)
    place = f"sqlite:///{tmp_path / 'tasks.db'}"
    modules = ["tests.acceptance.stored_values"]
    secret = Secret("env:RXTASKS_TEST_CANARY")
    with TaskService(1, store=place, modules=modules, echo=None) as service:
        events: list[Any] = []
        service.events.subscribe(events.append)
        assert len(canary) == service.submit(uses_secret, secret).result(SOON)
        with pytest.raises(ZeroDivisionError):
            service.submit(fails_with_secret, secret=secret).result(SOON)
        service.flush(SOON)
        assert any("env:RXTASKS_TEST_CANARY" in repr(event) for event in events)
        store: Any = service._store
        dump = store._reader.read(
            lambda db: repr(
                [db.db.execute(f"select * from {name}").fetchall() for name in ("tasks", "events", "notes")]
            )
        )
        assert "env:RXTASKS_TEST_CANARY" in dump and canary not in dump
        assert canary not in repr(events)
        wal = (tmp_path / "tasks.db-wal").read_bytes()
        assert b"RXTASKS_TEST_CANARY" in wal and canary.encode() not in wal
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path
