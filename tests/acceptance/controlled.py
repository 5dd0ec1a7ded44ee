"""What the tests of the control API share: a pool with its server in this process, and raw clients."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reactivex import Observable
from reactivex.subject import Subject

from rxtasks import TaskContext, TaskService, task
from rxtasks.control.client import ControlClient
from rxtasks.control.place import Held, Place
from rxtasks.control.server import ControlServer

#: Seconds after which a test has failed.
LONG = 30.0


@task("control.add")
def add(a: Any, b: Any = 0) -> Any:
    return a + b


@task("control.echo")
def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


@task("control.is")
def is_number(number: Any, shown: str) -> bool:
    return repr(number) == shown


@task("control.count")
def count(ctx: TaskContext, many: int) -> int:
    for number in range(many):
        ctx.log.info("line {}", number)
        ctx.progress(number + 1, many)
    return many


@task("control.fail")
def fail(secret: str) -> None:
    raise ValueError("no")


@task("control.wait")
def wait(ctx: TaskContext, path: str) -> str:
    """Say that it runs, and wait until somebody opens the FIFO."""
    ctx.emit("waits")
    with open(path, encoding="utf-8") as gate:
        return gate.read()


class StubHost:
    """A process that runs a pool, as far as its server asks."""

    def __init__(self, service: TaskService, store: str, mode: str) -> None:
        self.service = service
        self.store = store
        self.mode = mode
        self.started_at = datetime.now(UTC)
        self.stopping = False
        self.asked: list[tuple[bool, float | None]] = []
        self.lines: Subject[Any] = Subject()
        self.kept: list[Any] = []
        self.metrics: bytes | None = None

    def start_processing(self) -> None:
        self.service.start()

    def stop_processing(self, force: bool) -> None:
        self.service.stop(force=force)

    def shutdown(self, force: bool, timeout: float | None) -> None:
        self.stopping = True
        self.asked.append((force, timeout))

    def query_logs(self, filter: Any) -> list[Any]:
        return self.kept

    def follow_logs(self, filter: Any) -> Observable[Any]:
        return self.lines

    def metrics_text(self) -> bytes | None:
        return self.metrics


class Pool:
    """A service, its place and its server."""

    def __init__(
        self, directory: Path, *, listen: str | None = None, token: str | None = None, **settings: Any
    ) -> None:
        store = settings.setdefault("store", "memory")
        self.service = TaskService(
            **{"workers": 2, "isolation": "thread", "echo": None, "on_exit": "force", **settings}
        )
        self.service.start()
        self.host = StubHost(self.service, store, "thread")
        self.held: Held = Place.of(store, {"XDG_RUNTIME_DIR": str(directory)}).hold()
        self.server = ControlServer(self.service, self.held, host=self.host, listen=listen, token=token)
        self.server.start()
        self.client = ControlClient(self.held.socket, timeout=LONG)

    def close(self) -> None:
        self.server.stop()
        self.service.stop(force=True)
        self.held.release()

    def wait_for(self, task_id: str) -> dict[str, Any]:
        """Wait for the end of a task, and return its record."""
        for event in self.client.stream(f"/v1/tasks/{task_id}/events"):
            assert event.event != "closed", event
        shown: dict[str, Any] = self.client.get(f"/v1/tasks/{task_id}")
        return shown

    def connect(self) -> socket.socket:
        """Return a raw connection."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(LONG)
        sock.connect(self.held.socket)
        return sock


@contextlib.contextmanager
def pool(directory: Path, **settings: Any) -> Iterator[Pool]:
    """A pool that runs, and ends with the block."""
    made = Pool(directory, **settings)
    try:
        yield made
    finally:
        made.close()


def ask(sock: socket.socket, data: bytes) -> bytes:
    """Send bytes, and return all that comes until the other end closes."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(data)
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            found += part
    return found


def threads_of_control() -> list[str]:
    """Return the names of the server's threads."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rxtasks-control")]
