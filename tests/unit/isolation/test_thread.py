"""A thread worker on its way out, with a host that takes its time."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from rxtasks.config import Settings
from rxtasks.isolation.base import Host, Setup
from rxtasks.isolation.thread import ThreadWorker
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import Exited, Happened, Stimulus, ended_in
from rxtasks.wire.message import Assignment, Stop

WAIT = 30.0


class SlowHost(Host):
    """Keeps the calls until they are taken."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.setup = Setup()
        self.live = weakref.WeakValueDictionary()
        self.calls: list[Callable[[], list[Stimulus]]] = []

    def call(self, call: Callable[[], list[Stimulus]]) -> None:
        self.calls.append(call)

    def later(self, seconds: float, call: Callable[[], list[Stimulus]]) -> None:
        """There is no time here."""

    def log(self, worker_id: str, level: str, message: str, stream: str) -> None:
        raise AssertionError(message)


def test_its_end_comes_behind_all_that_its_tasks_have_said() -> None:
    """W-05 R20: no task is taken for lost with it, though more has been said than the engine has had room for."""
    host = SlowHost()
    ran: list[int] = []
    done = threading.Event()

    def handler(number: int) -> None:
        ran.append(number)
        if number == 300:
            done.set()

    host.live["o:1"] = handler
    worker = ThreadWorker("w", WorkerSpec(1, "thread"), host)
    worker.spawn()
    assignments: Any = [
        Assignment(n, n, f"t{n}", 1, 1, "o:1", 100, form="o", payload=((n,), {})) for n in range(1, 301)
    ]
    worker.assign([], assignments)
    assert done.wait(WAIT)
    worker.send(Stop(1))
    assert worker._thread is not None
    worker._thread.join(WAIT)
    stimuli: list[Stimulus] = []
    while host.calls:
        stimuli += host.calls.pop(0)()
    assert isinstance(stimuli[-1], Exited)
    happened = [occurrence for one in stimuli if isinstance(one, Happened) for occurrence in one.occurrences]
    assert list(range(1, 301)) == [token for occurrence in happened for token in ended_in(occurrence)]
