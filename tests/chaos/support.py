"""What the chaos tests share: a witness of everything a service publishes, and waits that end at an event.

A test waits for what it is told, with a timeout that only a failure reaches; nothing here sleeps.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from rxtasks import LogEvent, OutputEvent, StatusEvent, TaskEvent, TaskService, WorkerEvent
from rxtasks.worker.children import descendants

T = TypeVar("T")

#: Seconds after which a test has failed; nothing takes that long, on a loaded machine either.
LONG = 30.0

ROOT = str(Path(__file__).resolve().parents[2])


class Witness:
    """Sees all events of a service and of its pool, and checks that they obey the rules."""

    def __init__(self, service: TaskService) -> None:
        self.service = service
        self.changed = threading.Condition()
        self.events: dict[str, list[TaskEvent]] = {}
        self.pool: list[WorkerEvent] = []
        self._subscriptions = [service.events.subscribe(self._take), service.pool.subscribe(self._take_pool)]

    def _take(self, event: TaskEvent) -> None:
        with self.changed:
            self.events.setdefault(event.task_id, []).append(event)
            self.changed.notify_all()

    def _take_pool(self, event: WorkerEvent) -> None:
        with self.changed:
            self.pool.append(event)
            self.changed.notify_all()

    def wait(self, found: Callable[[], T], what: str = "what was waited for", seconds: float = LONG) -> T:
        """Return the first true answer of `found`, asked again at every event."""
        with self.changed:
            answer = self.changed.wait_for(found, seconds)
        assert answer, f"{what} did not come within {seconds} s"
        return answer

    def close(self) -> None:
        """Look no more."""
        for subscription in self._subscriptions:
            subscription.dispose()

    # -- what was seen -------------------------------------------------------------------------------------------------

    def of(self, task_id: str) -> list[TaskEvent]:
        """Return the events of one task."""
        return list(self.events.get(task_id, ()))

    def statuses(self, task_id: str) -> list[str]:
        """Return the statuses of one task."""
        return [str(event.status) for event in self.of(task_id) if isinstance(event, StatusEvent)]

    def outputs(self, task_id: str) -> list[Any]:
        """Return the values that one task emitted."""
        return [event.value for event in self.of(task_id) if isinstance(event, OutputEvent)]

    def lines(self, task_id: str, *streams: str) -> list[str]:
        """Return the messages of one task's logs, of these streams or all."""
        return [e.message for e in self.of(task_id) if isinstance(e, LogEvent) and (not streams or e.stream in streams)]

    def failures(self) -> list[WorkerEvent]:
        """Return the pool's events of lost workers."""
        return [event for event in self.pool if event.kind == "failed"]

    def wait_output(self, task_id: str, value: Any) -> TaskEvent:
        """Wait until the task has emitted the value; return the event."""

        def found() -> TaskEvent | None:
            return next((e for e in self.of(task_id) if isinstance(e, OutputEvent) and e.value == value), None)

        event = self.wait(found, f"output {value!r}")
        assert event is not None
        return event

    def worker_of(self, task_id: str, attempt: int = 1) -> int:
        """Wait until the attempt runs; return the process id of its worker."""
        event = self.wait(
            lambda: next(
                (e for e in self.of(task_id) if isinstance(e, StatusEvent) and e.attempt == attempt and e.worker_id),
                None,
            ),
            f"attempt {attempt}",
        )
        assert event is not None
        return next(info.pid or 0 for info in self.service.workers() if info.worker_id == event.worker_id)

    def check(self) -> None:
        """Assert the rules that hold for every task whatever happens (E-03, E-04, R9)."""
        for task_id, events in self.events.items():
            assert [event.seq for event in events] == list(range(1, len(events) + 1)), f"seq of {task_id}"
            statuses = [event for event in events if isinstance(event, StatusEvent)]
            ends = [event for event in statuses if event.status.terminal]
            assert len(ends) <= 1, f"{task_id} ended {len(ends)} times"
            assert not ends or ends[0] is events[-1], f"{task_id} went on after its end"
            running = False
            for event in events:
                if isinstance(event, StatusEvent):
                    if event.status == "running":
                        assert not running, f"{task_id} ran twice at once"
                    running = event.status == "running"
                else:
                    assert running, f"{task_id}: {event.kind} outside of an attempt"


@contextlib.contextmanager
def service(workers: int = 2, **settings: Any) -> Iterator[tuple[TaskService, Witness]]:
    """A started service with a witness; every rule is checked at its end, and that it leaves nothing behind."""
    before = leftovers()
    made = TaskService(workers=workers, echo=None, **settings)
    witness = Witness(made)
    try:
        made.start()
        yield made, witness
    except BaseException:
        made.stop(force=True)
        raise
    report = made.stop(timeout=5)
    witness.check()
    witness.close()
    assert () == report.stuck
    assert made.ledger().exact
    left = leftovers()
    deadline = time.monotonic() + 5.0
    while left[0] > before[0] and time.monotonic() < deadline:
        left = leftovers()  # a timer of the last turn may hold one for a moment; each look collects garbage anew
    assert set(before[1]) >= set(left[1]), "processes left"
    assert before[0] >= left[0], f"descriptors left: {left[0] - before[0]}; open now: {open_files()}"


def open_files() -> list[str]:
    """Return what this process's descriptors lead to."""
    found: list[str] = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(f"{number}: {os.readlink(f'/proc/self/fd/{number}')}")
    return found


def leftovers() -> tuple[int, list[int], int]:
    """Return how many descriptors, which descendants and how many threads this process has."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), descendants(os.getpid()), threading.active_count()


def assert_nothing_left(before: tuple[int, list[int], int]) -> None:
    """Fail if there is more than `before` (of leftovers()), and five seconds later still.

    Fewer is no fault: what earlier tests had dropped may have been collected meanwhile.
    """
    end = time.monotonic() + 5
    while True:
        fds, children, threads = now = leftovers()
        if fds <= before[0] and set(children) <= set(before[1]) and threads <= before[2]:
            return
        assert time.monotonic() < end, (before, now)
        threading.Event().wait(0.02)


# -- other processes ---------------------------------------------------------------------------------------------------


class Watched:
    """Someone else's process, held by a pidfd: its number cannot come to mean another one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def gone(self, seconds: float) -> bool:
        """Wait for its end; False if it has not come in time."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        ended = bool(poll.poll(int(seconds * 1000)))
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self._fd)
        return ended


class Script:
    """A Python program of its own, told and heard by lines."""

    def __init__(self, text: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": ROOT},
        )
        self._read = b""

    def line(self) -> str:
        """Return its next line."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        while b"\n" not in self._read:
            ready, _, _ = select.select([fd], [], [], LONG)
            assert ready, "the script says nothing"
            chunk = os.read(fd, 65536)
            assert chunk, f"the script has ended after {self._read!r}"
            self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def tell(self, line: str) -> None:
        """Write a line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal a process; no error if it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
