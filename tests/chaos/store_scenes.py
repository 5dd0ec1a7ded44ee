"""Scenes of a store in trouble, each played in a process of its own: `python -m tests.chaos.store_scenes NAME DIRECTORY`.

A scene prints what it saw as one JSON document.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rxtasks import TaskService, task
from rxtasks.errors import StoreError
from rxtasks.stores.sqlite import vacuuming

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


def vacuumed(directory: Path) -> dict[str, Any]:
    """A store of 60 MB of which a third was pruned is vacuumed without room: for the copy aside, on its own disk, and when that
    fills up in the middle of it. Nothing is lost, and with room it gets smaller.
    """
    saw: dict[str, Any] = {"refused": []}
    aside = Path(os.environ["TMPDIR"])
    with made(directory) as service:
        for tracker in [service.submit(size, "x" * 1_000_000) for _ in range(60)]:
            tracker.result(timeout=SOON)
        service.prune(0, limit=20)
        kept = sorted(record.task_id for record in service.list())

        def refuses() -> None:
            try:
                service.vacuum()
            except StoreError as error:
                saw["refused"].append(str(error))

        looks = vacuuming._check_room
        for look in (looks, lambda path, used: None):  # the second: as if the room had gone since it was looked at
            vacuuming._check_room = look
            for full in (aside, directory):
                filler = fill(full)
                refuses()
                filler.unlink()
        vacuuming._check_room = looks
        saw["sound"] = service.check()
        saw["kept"] = kept == sorted(record.task_id for record in service.list())
        saw["smaller"] = service.vacuum()
        saw["after"] = service.submit(double, 21).result(timeout=SOON), service.check()
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


#: Holds the write lock of a store for so many seconds, through nothing but SQLite, and says how long that was.
HOLDER = """
import apsw, sys, time
held = apsw.Connection(sys.argv[1])
held.execute("begin immediate")
began = time.monotonic()
print("held", flush=True)
time.sleep(float(sys.argv[2]))
print(time.monotonic() - began, flush=True)
held.execute("rollback")
"""


def foreign_lock(directory: Path, seconds: float = 15.0) -> dict[str, Any]:
    """Another process holds the write lock while tasks run, are pushed, cancelled and looked at; then all goes on."""
    saw: dict[str, Any] = {}
    with made(directory, lease=3.0, lease_renewal=0.5) as service, ThreadPoolExecutor(8) as callers:
        pool = Pool(service)
        running = service.submit(wait_for_gate)
        assert BEGUN.wait(SOON)
        before = [service.submit(double, number) for number in range(20)]
        unwanted = service.submit(double, 0)
        command = [sys.executable, "-c", HOLDER, str(directory / "tasks.db"), str(seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            began = time.monotonic()
            pushed = [callers.submit(service.submit, double, number) for number in range(20, 26)]
            cancelled = callers.submit(service.cancel, unwanted.task_id, "not wanted")
            saw["told"] = pool.said("has held the write lock")
            saw["holder"] = f"process {holder.pid} (python"
            GATE.set()  # the handler ends; its end has to wait
            deadline = began + SOON
            while not any("lease of this service has lapsed" in line for line in service.explain()):
                assert time.monotonic() < deadline
                threading.Event().wait(0.02)
            saw["seen_meanwhile"] = str(service.get(running.task_id).status), len(service.list(limit=100))
            saw["waited"] = not any(call.done() for call in (*pushed, cancelled)) and not running.done
            saw["alive"] = service.health()["core_alive"]
            saw["held"] = float(holder.stdout.readline())
        saw["cancelled"] = cancelled.result(SOON)
        trackers = [*before, *(call.result(SOON) for call in pushed)]
        saw["results"] = [tracker.result(SOON) for tracker in trackers] == [2 * number for number in range(26)]
        saw["running"] = running.result(SOON)
        saw["statuses"] = sorted({str(record.status) for record in service.list(limit=100)})
        saw["interruptions"] = sum(record.interruptions for record in service.list(limit=100))
        saw["after"] = service.submit(double, 21).result(SOON)
        saw["explained"] = [line for line in service.explain() if "lapsed" in line]
        saw["check"] = service.check()
    return saw


SCENES = {"full_disk": full_disk, "eio": eio, "foreign_lock": foreign_lock, "vacuumed": vacuumed}

if __name__ == "__main__":
    print(json.dumps(SCENES[sys.argv[1]](Path(sys.argv[2]))))
    sys.stdout.flush()
    os._exit(0)
