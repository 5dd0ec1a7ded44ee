"""A worker process that cannot be had, and the copies of its descriptors in a forked child."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from rxtasks.config import make_settings
from rxtasks.isolation.base import Host, Reader, Setup
from rxtasks.isolation.guardian import Guardian
from rxtasks.isolation.process import ProcessWorker
from rxtasks.isolation.quickio import Receiver
from rxtasks.pool.info import WorkerSpec
from rxtasks.wire.message import Assignment
from rxtasks.wire.sealed import seal
from rxtasks.worker.children import descendants

ROOT = str(Path(__file__).resolve().parents[3])
#: Seconds after which a forked child is ended: the test has failed.
LONG = 30


class FakeHost(Host):
    """Watches descriptors; the call of watch() with the number `refuses` fails."""

    def __init__(self, refuses: int = 0) -> None:
        self.settings = make_settings({})
        self.setup = Setup()
        self.guardian = Guardian(wanted=False)
        self.readers: dict[int, Reader] = {}
        self.left = refuses

    def watch(self, fd: int, events: int, reader: Reader) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, "no more watches")
        self.readers[fd] = reader

    def unwatch(self, fd: int) -> None:
        self.readers.pop(fd, None)

    def later(self, seconds: float, call: Any) -> None:
        """Nothing comes later here."""


def worker_of(host: FakeHost) -> ProcessWorker:
    return ProcessWorker("w", WorkerSpec(1), host, Receiver(4096))


def open_fds() -> set[int]:
    """Return the open descriptors, without the one that looks."""
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


def state() -> tuple[set[int], list[int]]:
    return open_fds(), descendants(os.getpid())


@pytest.mark.parametrize("which", [1, 2, 3, 4])
def test_a_worker_that_cannot_be_watched_is_ended_and_closed(which: int) -> None:
    """W-10: whichever of its four descriptors the selector refuses: no process, descriptor or watch is left."""
    before = state()
    host = FakeHost(which)
    worker = worker_of(host)
    with pytest.raises(OSError, match="no more watches"):
        worker.spawn()
    assert (before, {}) == (state(), host.readers)
    worker.kill(True)
    worker.free()


def test_a_worker_without_a_pidfd_is_ended_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-10: the process is there already when its pidfd cannot be had."""

    def refuse(pid: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    before = state()
    host = FakeHost()
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="too many open files"):
        worker_of(host).spawn()
    assert (before, {}) == (state(), host.readers)


_FEW_DESCRIPTORS = """
import os, resource
from tests.unit.isolation.test_process import FakeHost, state, worker_of

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
before = state()
refused = 0
while True:
    host = FakeHost()
    worker = worker_of(host)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0]) + 1 + refused, hard))
    try:
        worker.spawn()
    except OSError:
        refused += 1
        assert {} == host.readers
    else:
        break
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert before == state(), f"left after {refused} free descriptors: {before} {state()}"
worker.free()
assert before == state()
print(refused)
"""


def test_a_worker_for_which_there_are_too_few_descriptors_leaves_nothing() -> None:
    """W-10: wherever on its way a spawn meets the limit, it raises, and everything is as before."""
    done = subprocess.run(
        [sys.executable, "-c", _FEW_DESCRIPTORS],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "" == done.stderr
    # Two sockets, three pipes, /dev/null, what the start of a process needs, and the pidfd.
    assert int(done.stdout) >= 10


def left_in_a_child(worker: ProcessWorker, closed: int, mine: set[int]) -> list[int]:
    """Fork; in the child close one descriptor, then the copies; return which of `mine` are open there."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(LONG)
        try:
            os.close(closed)
            worker.after_fork()
            os.write(write, json.dumps(sorted(open_fds() & mine)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        said = file.read()
    os.waitpid(child, 0)
    left: list[int] = json.loads(said)
    return left


def test_a_copy_that_cannot_be_closed_keeps_no_other_open() -> None:
    """W-07: whichever descriptor of a worker is gone in a forked child, all others are closed, stray pidfds too."""
    before = open_fds()
    worker = worker_of(FakeHost())
    worker.spawn()
    try:
        assert worker._handle is not None
        worker._handle._strays[0] = os.pidfd_open(os.getpid())
        mine = open_fds() - before
        assert 8 == len(mine)
        assert {fd: [] for fd in mine} == {fd: left_in_a_child(worker, fd, mine) for fd in mine}
    finally:
        # Not signalled: it stands for a stray of which only the pidfd matters here.
        assert worker._handle is not None
        os.close(worker._handle._strays.pop(0))
        worker.free()
    assert before == open_fds()


def test_a_worker_holds_no_arguments_that_it_has_sent() -> None:
    """E-20: those of its tasks, in memory files, go to the next worker or are closed; it may be referred to for longer."""
    before = open_fds()
    worker = worker_of(FakeHost())
    worker.spawn()
    try:
        made = seal((b"abc",), 3)
        assert made is not None
        worker.assign([], [Assignment(1, 1, "id", 1, 1, "f", 9, None, 0, "p", made)])
        held = weakref.ref(made)
        del made
        assert held() is None
    finally:
        worker.free()
    assert before == open_fds()
