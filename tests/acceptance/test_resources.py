"""Resources of workers (E-17), with real workers: built once in each, closed when it leaves, built again in its successor."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rxtasks import PayloadError, SettingsError, TaskContext, TaskService, WorkerStartError
from rxtasks.errors import ResourceError

WAIT = 30.0
EVERYWHERE = pytest.mark.parametrize("isolation", ["process", "thread", "inline"])


def note(path: str, word: str) -> None:
    with open(path, "a") as file:
        file.write(f"{word} {os.getpid()}-{threading.get_ident()}\n")


def noted(path: Path, word: str) -> list[str]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{word} ")]


class Connection:
    """A connection as many are: closed by close()."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.open = True
        note(path, "open")

    def close(self) -> None:
        self.open = False
        note(self.path, "close")


def generated(path: str) -> Iterator[Connection]:
    connection = Connection(path)
    yield connection
    connection.close()


@contextlib.contextmanager
def managed(path: str) -> Iterator[Connection]:
    connection = Connection(path)
    try:
        yield connection
    finally:
        connection.close()


class AsyncClient:
    """A client that is good for one event loop, and keeps a task of its own running there."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def __aenter__(self) -> AsyncClient:
        note(self.path, "open")
        self.loop = asyncio.get_running_loop()
        self.gone = asyncio.Event()
        self.task = asyncio.create_task(self.gone.wait())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.gone.set()
        assert await self.task
        note(self.path, "close")

    @property
    def open(self) -> bool:
        return not self.task.done()


async def async_generated(path: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(path) as client:
        yield client


async def awaited(path: str) -> Connection:
    await asyncio.sleep(0)
    return Connection(path)


def use(ctx: TaskContext) -> tuple[str, bool]:
    return f"{os.getpid()}-{threading.get_ident()}", bool(ctx.resource("thing").open)


async def use_async(ctx: TaskContext) -> tuple[str, bool]:
    thing = ctx.resource("thing")
    await asyncio.sleep(0)
    here = getattr(thing, "loop", asyncio.get_running_loop()) is asyncio.get_running_loop()
    return f"{os.getpid()}-{threading.get_ident()}", bool(thing.open) and here


def misname(ctx: TaskContext) -> Any:
    return ctx.resource("thign")


def takes_lock(ctx: TaskContext) -> Any:
    return ctx.resource("db")


def takes_thing(ctx: TaskContext) -> Any:
    return ctx.resource("thing")


def die(ctx: TaskContext) -> None:
    os._exit(3)


def refuse() -> Any:
    raise ConnectionError("nobody listens")


@EVERYWHERE
@pytest.mark.parametrize("factory", [Connection, generated, managed, awaited, AsyncClient, async_generated])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_resource_is_built_once_in_each_worker_and_closed_by_it(
    isolation: str, factory: Callable[..., Any], concurrency: int, tmp_path: Path
) -> None:
    """E-17: of every form, for sync and async handlers, in the thread and the event loop of the handlers."""
    path = tmp_path / "notes"
    make = functools.partial(factory, str(path))
    with TaskService(2, isolation=isolation, concurrency=concurrency, resources={"thing": make}) as service:
        service.start()
        trackers = [service.submit(use if number % 2 else use_async) for number in range(10)]
        found = [tracker.result(WAIT) for tracker in trackers]
        assert all(fine for _, fine in found)
        users = {place for place, _ in found}
    built = noted(path, "open")
    assert len(built) == (1 if isolation == "inline" else 2)
    assert users <= set(built)
    assert len(noted(path, "close")) == len(built)
    if isolation != "inline":  # of which the end comes on another thread
        assert sorted(noted(path, "close")) == sorted(built)


def test_a_successor_builds_its_own(tmp_path: Path) -> None:
    """E-17: after a crash, and after a restart; what a crash took is not closed, what left in order is."""
    path = tmp_path / "notes"
    with TaskService(1, resources={"thing": functools.partial(Connection, str(path))}) as service:
        (first, _) = service.submit(use).result(WAIT)
        service.with_options(max_crashes=1).submit(die).future.exception(WAIT)
        (second, _) = service.submit(use).result(WAIT)
        (info,) = service.workers()
        service.pool.restart(info.worker_id)
        (third, _) = service.submit(use).result(WAIT)
    assert noted(path, "open") == [first, second, third]
    assert sorted(noted(path, "close")) == sorted([second, third])


@EVERYWHERE
def test_an_unknown_name_tells_those_that_there_are(isolation: str) -> None:
    """E-17: LookupError in the handler, with the names."""
    with (
        TaskService(1, isolation=isolation, resources={"thing": dict, "other": list}) as service,
        pytest.raises(LookupError, match=r"no resource 'thign' \(it has: thing, other\)"),
    ):
        service.submit(misname).result(WAIT)
    with (
        TaskService(1, isolation=isolation) as service,
        pytest.raises(LookupError, match="it has: none"),
    ):
        service.submit(misname).result(WAIT)


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_factory_that_fails_fails_the_start(isolation: str) -> None:
    """E-17 W-04: with the resource, the worker and what was raised; those built before it are closed."""
    ids: list[str] = []
    service = TaskService(1, isolation=isolation, resources={"fine": dict, "db": refuse})
    service.pool.subscribe(lambda event: ids.append(event.worker_id) if event.kind == "started" else None)
    with pytest.raises(WorkerStartError, match=r"resource 'db' of worker \w{26} could not be built") as caught:
        service.start()
    assert "ConnectionError: nobody listens" in str(caught.value)
    assert ids and ids[0] in str(caught.value)
    service.stop()
    with (
        TaskService(1, isolation=isolation, resources={"db": refuse}) as other,
        pytest.raises(WorkerStartError, match="'db'"),
    ):
        other.submit(use).result(WAIT)  # the same, where a submit starts


def test_an_inline_worker_builds_with_its_first_task() -> None:
    """E-17 W-18: on the caller's thread; where that fails the task fails, and the next one tries again."""
    answers = iter([ConnectionError("not yet"), None])

    def connect() -> sqlite3.Connection:
        error = next(answers)
        if error is not None:
            raise error
        return sqlite3.connect(":memory:")  # good for one thread

    def query(ctx: TaskContext) -> int:
        (found,) = ctx.resource("db").execute("select 7").fetchone()
        return int(found)

    with TaskService(isolation="inline", resources={"db": connect}) as service:
        with pytest.raises(ResourceError, match=r"'db'.*not yet") as caught:
            service.submit(query).result(WAIT)
        assert caught.value.name == "db"
        assert service.submit(query).result(WAIT) == 7


def test_a_resource_that_fails_to_close_is_reported() -> None:
    """E-17: as an event with its name; the others are closed, and the stop ends."""
    closed = threading.Event()

    class Bad:
        def close(self) -> None:
            raise OSError("broken pipe")

    class Good:
        def close(self) -> None:
            closed.set()

    seen: list[str] = []
    with TaskService(1, isolation="thread", resources={"good": Good, "bad": Bad}) as service:
        service.pool.subscribe(lambda event: seen.append(f"{event.kind}: {event.message}"))
        service.start()
    assert closed.is_set()
    assert [text for text in seen if text.startswith("resource_failed: resource bad failed: OSError: broken pipe")]


def test_a_factory_that_fails_in_a_successor_is_tried_again(tmp_path: Path) -> None:
    """E-17 W-04: with a delay, and with its error in the pool's stream; tasks wait meanwhile and are not lost."""
    broken, tries = tmp_path / "broken", tmp_path / "tries"

    def connect() -> str:
        if broken.exists():
            with open(tries, "a") as file:
                file.write("x")
            if tries.stat().st_size == 2:
                broken.unlink()
            raise ConnectionError("down")
        return "up"

    said: list[str] = []
    with TaskService(1, resources={"thing": connect}) as service:
        service.pool.subscribe(lambda event: said.append(event.kind))
        service.start()
        broken.touch()
        service.pool.kill(service.workers()[0].worker_id)
        assert service.submit(takes_thing).result(WAIT) == "up"
    assert tries.read_text() == "xx"
    assert said.count("failed") == 3 and said.count("ready") == 2


def test_what_a_resource_started_outlives_the_tasks() -> None:
    """E-17 W-17: child processes of a factory are the worker's: the end of an attempt does not end them."""

    def serve() -> Iterator[Any]:
        import subprocess

        process = subprocess.Popen(["sleep", "1000"])
        yield process
        process.kill()
        process.wait()

    def alive(ctx: TaskContext) -> bool:
        return ctx.resource("server").poll() is None

    with TaskService(1, resources={"server": serve}) as service:
        assert [service.submit(alive).result(WAIT) for _ in range(3)] == [True] * 3


def test_a_lock_is_not_taken() -> None:
    """E-17: entering a lock would be taking it, and no handler could."""

    def hold(ctx: TaskContext) -> bool:
        with ctx.resource("lock"):
            return True

    with TaskService(1, isolation="thread", resources={"lock": threading.Lock}) as service:
        assert service.submit(hold).result(WAIT)


def test_initializer_runs_again_and_before_the_resources(tmp_path: Path) -> None:
    """E-17: in each worker and each successor; what it raises fails the start with its own text."""
    path = tmp_path / "notes"

    def set_up(word: str) -> None:
        note(str(path), word)
        os.environ["WORD"] = word

    def build() -> str:
        return os.environ["WORD"]

    with TaskService(1, initializer=set_up, initargs=("first",), resources={"thing": build}) as service:
        assert service.submit(takes_thing).result(WAIT) == "first"
        service.with_options(max_crashes=1).submit(die).future.exception(WAIT)
        assert service.submit(takes_thing).result(WAIT) == "first"
        assert len(set(noted(path, "first"))) == 2


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"db": 3}, "resource 'db' is a factory.*not 3"),
        ({"db": {"a": 1}}, "lambda: value"),
        ({3: dict}, "3 is no name"),
        ({"": dict}, "is no name"),
        ([("db", dict)], "factories by name"),
        ({"db": lambda path: path}, r"factory of resource 'db' is called with no arguments.*needs \(path\)"),
    ],
)
def test_bad_resources_are_refused_at_once(resources: Any, words: str) -> None:
    """E-17: where the service is made, with what and what to try."""
    with pytest.raises(SettingsError, match=words):
        TaskService(1, resources=resources)


def test_a_factory_that_cannot_travel_is_refused_at_once() -> None:
    """E-17 R26: with its name; workers in this process take it as it is."""
    lock = threading.Lock()
    with pytest.raises(PayloadError, match="factory of resource 'db'"):
        TaskService(1, resources={"db": lambda: lock})
    with TaskService(1, isolation="thread", resources={"db": lambda: lock}) as service:
        assert service.submit(takes_lock).result(WAIT) is lock
