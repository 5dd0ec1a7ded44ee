"""Scenes of a store in trouble, each played in a process of its own: `python -m tests.chaos.store_scenes NAME DIRECTORY`.

A scene prints what it saw as one JSON document.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from rxtasks import TaskService, task
from rxtasks.errors import StoreError

SOON = 30.0
GATE = threading.Event()
BEGUN = threading.Event()


@task("scenes.double")
def double(number: int) -> int:
    return 2 * number


@task("scenes.size")
def size(text: str) -> int:
    return len(text)


@task("scenes.through")
def through(gate: str) -> str:
    """End when the gate, a FIFO, is opened."""
    open(gate, encoding="utf-8").close()
    return "through"


@task("scenes.wait_for_gate")
def wait_for_gate() -> str:
    BEGUN.set()
    assert GATE.wait(SOON)
    return "ended"


class Pool:
    """What the pool's stream says; `said` waits for a part of it."""

    def __init__(self, service: TaskService) -> None:
        self.messages: list[str] = []
        self._changed = threading.Condition()
        service.pool.subscribe(self._take)

    def _take(self, event: Any) -> None:
        with self._changed:
            self.messages.append(event.message or "")
            self._changed.notify_all()

    def said(self, part: str) -> str:
        with self._changed:
            assert self._changed.wait_for(lambda: any(part in text for text in self.messages), SOON), self.messages
            return next(text for text in self.messages if part in text)


def made(directory: Path, **more: Any) -> TaskService:
    settings = {"isolation": "thread", "echo": None, "on_exit": "drain", **more}
    return TaskService(more.pop("workers", 1), store=f"sqlite:///{directory / 'tasks.db'}", **settings)


def fill(directory: Path) -> Path:
    """Leave no room on the disk."""
    filler = directory / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return filler


def full_disk(directory: Path) -> dict[str, Any]:
    """The disk is filled while a task runs; then it ends, others are refused, and when there is room all goes on."""
    saw: dict[str, Any] = {}
    with made(directory) as service:
        pool = Pool(service)
        running = service.submit(wait_for_gate)
        assert BEGUN.wait(SOON)
        waiting = [service.submit(double, number) for number in range(20)]
        filler = fill(directory)
        accepted = []
        try:
            for _ in range(2000):
                accepted.append(service.submit(size, "x" * 100_000))
        except StoreError as error:
            saw["refused"] = str(error)
        pool.said("is full")
        saw["reserve_given_up"] = not (directory / "tasks.db-reserve").exists()
        GATE.set()
        saw["running"] = running.result(timeout=SOON)
        service.delete(running.task_id)
        saw["deleted"] = True
        filler.unlink()
        waiting += accepted
        saw["results"] = [tracker.result(timeout=SOON) for tracker in waiting] == [
            *[2 * number for number in range(20)],
            *[100_000] * len(accepted),
        ]
        saw["after"] = service.submit(double, 21).result(timeout=SOON)
        saw["reserve_back"] = (directory / "tasks.db-reserve").stat().st_size
        saw["again"] = pool.said("has room again")
    return saw


def eio(directory: Path) -> dict[str, Any]:
    """Fsyncs fail now and then (the caller injects that): what is acknowledged is there, and nothing is done twice."""
    acknowledged, refused, results = [], 0, 0
    with made(directory) as service:
        pool = Pool(service)
        for number in range(40):
            try:
                acknowledged.append(service.submit(double, number))
            except StoreError:
                refused += 1
        for tracker in acknowledged:
            tracker.result(timeout=SOON)
            results += 1
        alive = service.health()["core_alive"]
    return {
        "acknowledged": [tracker.task_id for tracker in acknowledged],
        "refused": refused,
        "results": results,
        "alive": alive,
        "messages": [text for text in pool.messages if "store" in text],
    }


if __name__ == "__main__":
    print(json.dumps({"full_disk": full_disk, "eio": eio}[sys.argv[1]](Path(sys.argv[2]))))
    sys.stdout.flush()
    os._exit(0)
