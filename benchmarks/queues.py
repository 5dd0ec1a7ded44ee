"""Durable queues that a user would pick instead: huey on SQLite and dramatiq on Redis, two worker processes each.

::

    with open_huey(folder, fsync=True) as queue:
        queue.push(number)               returns when the task is in the file
        queue.finished()                 results that have been stored

Each stores its results, as we do. Results are counted where they are stored, not fetched one by one, which would cost the
peer a query each. Its workers look for tasks often (huey's own default is every 0.1 s up to every 10 s). Sockets and files
are in the temporary directory, which the harness removes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from benchmarks.programs import find_program

__all__ = ["FEWER", "WORKERS", "Queue", "open_dramatiq", "open_huey"]

WORKERS = 2
#: They are measured with so many times fewer tasks than we are.
FEWER = 10

#: Where the modules that the workers import find their queue.
HUEY_FILE, HUEY_FSYNC = "RXTASKS_BENCHMARK_HUEY", "RXTASKS_BENCHMARK_HUEY_FSYNC"
REDIS_SOCKET = "RXTASKS_BENCHMARK_REDIS"

_WARM_UP = 20
_WITHIN = 120.0


@attrs.frozen(kw_only=True)
class Queue:
    """A queue whose workers run."""

    push: Callable[[int], None]
    #: How many results are stored.
    finished: Callable[[], int]

    def wait(self, count: int) -> None:
        """Wait until so many have finished.

        Raises:
            AssertionError: it takes longer than two minutes.
        """
        end = time.monotonic() + _WITHIN
        while (finished := self.finished()) < count:
            if time.monotonic() > end:
                raise AssertionError(f"{finished} of {count} tasks finished within {_WITHIN:g} s")
            time.sleep(0.005)


@contextmanager
def open_huey(fsync: bool | None) -> Iterator[Queue]:
    """Run huey's consumer with two process workers. fsync: its setting; None leaves it to SQLite, as huey does."""
    os.environ[HUEY_FILE] = os.path.join(tempfile.mkdtemp(), "huey.db")
    os.environ[HUEY_FSYNC] = {True: "1", False: "0", None: ""}[fsync]
    from benchmarks.huey_app import huey, noop_task

    command = ["huey.bin.huey_consumer", "benchmarks.huey_app.huey", "-w", str(WORKERS), "-k", "process", "-q"]
    command += ["-d", "0.001", "-m", "0.01", "-n"]
    with _worker(command):
        queue = Queue(push=noop_task, finished=huey.storage.result_store_size)
        for number in range(_WARM_UP):
            queue.push(number)
        queue.wait(_WARM_UP)
        huey.storage.flush_results()
        yield queue


@contextmanager
def open_dramatiq(durable: bool) -> Iterator[Queue]:
    """Run a Redis server and dramatiq with two worker processes of one thread. durable: appendfsync always."""
    folder = tempfile.mkdtemp()
    socket = os.path.join(folder, "redis.sock")
    os.environ[REDIS_SOCKET] = socket
    program = find_program("redis-server")
    assert program is not None
    redis = [program, "--port", "0", "--unixsocket", socket, "--dir", folder, "--save", "", "--daemonize", "no"]
    redis += ["--appendonly", "yes", "--appendfsync", "always" if durable else "everysec"]
    with _process(redis):
        _await(lambda: os.path.exists(socket))
        from benchmarks.dramatiq_app import finished, forget, noop_task

        command = ["dramatiq", "benchmarks.dramatiq_app", "--processes", str(WORKERS), "--threads", "1"]
        with _worker(command):
            queue = Queue(push=noop_task.send, finished=finished)
            for number in range(_WARM_UP):
                queue.push(number)
            queue.wait(_WARM_UP)
            forget()
            yield queue


@contextmanager
def _worker(command: list[str]) -> Iterator[None]:
    with _process([sys.executable, "-m", *command]):
        yield


@contextmanager
def _process(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _WITHIN
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
