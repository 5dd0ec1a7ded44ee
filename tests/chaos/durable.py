"""Handlers and services of the tests with several processes on one store.

A handler says what it does in a journal, a file to which every process appends whole lines: what really happened, whatever
became of those who did it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rxtasks import OutputEvent, TaskContext, TaskService, task
from rxtasks.clock import SystemClock
from rxtasks.stores.sqlite.connection import Database
from rxtasks.worker.children import descendants
from tests.chaos.support import LONG, Script

#: A service of its own process: says its pid when it runs, then what its pool tells of the store and how it stopped.
SERVICE = """
import json, os, sys, threading
from rxtasks import TaskService
service = TaskService(store=sys.argv[1], echo=None, modules=["tests.chaos.durable"], **json.loads(sys.argv[2]))
def tell(event):
    if event.kind in ("recovered", "warning"):
        print(event.kind, json.dumps(event.data), flush=True)
service.pool.subscribe(tell)
service.start()
print("up", os.getpid(), flush=True)
for line in sys.stdin:
    if line == "stop\\n":
        service.stop()
        print("stopped", flush=True)
    elif line == "start\\n":
        service.start()
        print("up", os.getpid(), flush=True)
"""


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'tasks.db'}"


class Other(Script):
    """A service in a process of its own; there when it runs."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        import json

        super().__init__(SERVICE, url(folder), json.dumps({"workers": 1, **settings}))
        assert self.wait_line("up") == f"up {self.process.pid}"

    def wait_line(self, word: str) -> str:
        """Return the next line that begins with this word."""
        while not (line := self.line()).startswith(word):
            pass
        return line


def here(folder: Path, workers: int = 1, **settings: Any) -> TaskService:
    """A service of this process on the same store."""
    return TaskService(workers, store=url(folder), echo=None, modules=["tests.chaos.durable"], **settings)


def look(folder: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    database = Database(str(folder / "tasks.db"), {"look": query}, wait=15.0)
    try:
        return database.rows("look", *values)
    finally:
        database.close()


def lock_files(folder: Path) -> list[Path]:
    return sorted((folder / "tasks.db-services").glob("*.lock"))


def wait_output(tracker: Any, kind: type = str) -> Any:
    """Wait until the task has emitted a value of this type; return it."""
    seen = threading.Event()
    found: list[Any] = []

    def take(event: OutputEvent) -> None:
        if isinstance(event.value, kind):
            found.append(event.value)
            seen.set()

    subscription = tracker.outputs.subscribe(take)
    assert seen.wait(LONG)
    subscription.dispose()
    return found[0]


def wait_until(found: Callable[[], Any]) -> None:
    """Look until it is so: for what nobody tells."""
    deadline = time.monotonic() + LONG
    while not found():
        assert time.monotonic() < deadline


def now_ns() -> int:
    return SystemClock().monotonic_ns()


def below(pid: int) -> list[int]:
    """Return everything that a process has started, the latest last."""
    return descendants(pid)


class Journal:
    """The lines that handlers wrote: (what, task id, attempt, pid)."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "journal")

    def lines(self) -> Iterator[tuple[str, str, int, int]]:
        if os.path.exists(self.path):
            for line in Path(self.path).read_text().rpartition("\n")[0].splitlines():
                what, task_id, attempt, pid = line.split()
                yield what, task_id, int(attempt), int(pid)


def _note(journal: str, what: str, ctx: TaskContext) -> None:
    fd = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, f"{what} {ctx.task_id} {ctx.attempt} {os.getpid()}\n".encode())
    finally:
        os.close(fd)


@task
def noted(journal: str, seconds: float, ctx: TaskContext) -> int:
    """Write down begin and end, with some events between; return the attempt."""
    _note(journal, "begin", ctx)
    ctx.log.info("begun")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ctx.progress(1, 2)
        time.sleep(0.001)
    _note(journal, "end", ctx)
    return ctx.attempt


@task
def add(a: int, b: int) -> int:
    return a + b


@task
def chat(count: int, ctx: TaskContext) -> int:
    """Log so many lines."""
    for number in range(count):
        ctx.log.info(f"line {number}")
    return count


@task
def stays(journal: str, ctx: TaskContext) -> None:
    """Say that it is here, then never return, and hear nothing."""
    _note(journal, "begin", ctx)
    ctx.emit("here")
    threading.Event().wait()


@task
def stays_once(journal: str, ctx: TaskContext) -> int:
    """Stay in the first attempt; return the attempt in a later one."""
    if ctx.attempt == 1:
        stays(journal, ctx)
    _note(journal, "again", ctx)
    return ctx.attempt


@task
def until(path: str, ctx: TaskContext) -> int:
    """Say that it is here, and go on with events until the file exists; return the attempt."""
    ctx.emit("here")
    while not os.path.exists(path):
        time.sleep(0.005)
    for number in range(10):
        ctx.log.info(f"line {number}")
    return ctx.attempt


@task
def obedient(ctx: TaskContext) -> None:
    """Run until asked to end."""
    ctx.emit("here")
    while True:
        ctx.raise_if_cancelled()
        time.sleep(0.005)


@task
def forks(ctx: TaskContext) -> None:
    """Have a forked child and a started one, tell their pids, and stay."""
    import subprocess
    import sys

    pid = os.fork()
    if pid == 0:
        time.sleep(3600)
        os._exit(0)
    ctx.emit([pid, subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid])
    threading.Event().wait()
