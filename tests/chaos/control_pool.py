"""A pool with its control server, as a process: `python -m tests.chaos.control_pool DIRECTORY STORE [HEAD [STALL]]`.

Says "ready" and the path of its socket; ends with its standard input. HEAD and STALL: seconds for which the server bears a peer
that sends no whole request, and one that takes nothing.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from reactivex.subject import Subject

from rxtasks import TaskContext, TaskService, task
from rxtasks.control import protocol, reading
from rxtasks.control.place import Place
from rxtasks.control.server import ControlServer


@task("pool.add")
def add(a: int, b: int) -> int:
    return a + b


@task("pool.lines")
def lines(ctx: TaskContext, many: int, size: int) -> int:
    for number in range(many):
        ctx.log.info("{} {}", number, "x" * size)
    return many


@task("pool.spin")
def spin(ctx: TaskContext, seconds: float) -> int:
    import time

    until, turns = time.monotonic() + seconds, 0
    while time.monotonic() < until and not ctx.cancelled:
        turns += 1
    return turns


class Host:
    def __init__(self, service: TaskService, store: str) -> None:
        self.service, self.store, self.mode = service, store, "process"
        self.started_at = datetime.now(UTC)
        self.stopping = False

    def start_processing(self) -> None:
        self.service.start()

    def stop_processing(self, force: bool) -> None:
        self.service.stop(force=force)

    def shutdown(self, force: bool, timeout: float | None) -> None:
        self.stopping = True

    def query_logs(self, filter: Any) -> list[Any]:
        return []

    def follow_logs(self, filter: Any) -> Any:
        return Subject()

    def metrics_text(self) -> bytes | None:
        return None


def main(directory: str, store: str, head: str = "10", stall: str = "30") -> None:
    protocol._HEAD = reading._PATIENCE = float(head)  # type: ignore[misc]
    protocol._STALL = float(stall)  # type: ignore[misc]
    service = TaskService(2, store=store, modules=["tests.chaos.control_pool"], echo=None, on_exit="force")
    service.start()
    with Place.of(store, {"XDG_RUNTIME_DIR": directory}).hold(mode="process") as held:
        server = ControlServer(service, held, host=Host(service, store))
        server.start()
        print("ready", held.socket, flush=True)
        sys.stdin.read()
        server.stop()
        service.stop(force=True)
    print("ended", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
