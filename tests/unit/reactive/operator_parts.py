"""What the tests of the operators share: a subscriber that records, one that can be held, events, a hand-driven post."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from reactivex import abc

from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus

#: Seconds after which a test that waits for something has failed.
LIMIT = 10.0

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Recorder(abc.ObserverBase[Any]):
    """A subscriber that keeps what it gets, sees calls that overlap, and can be held inside on_next."""

    def __init__(self, *, held: bool = False) -> None:
        self.values: list[Any] = []
        self.error: Exception | None = None
        self.completed = 0
        self.errors = 0
        self.overlaps = 0
        self.after_end = 0
        self.threads: set[int] = set()
        self._in_call = threading.Lock()
        self._changed = threading.Condition()
        self.ended = threading.Event()
        self.entered = threading.Event()
        self.go = threading.Event()
        if not held:
            self.go.set()

    def on_next(self, value: Any) -> None:
        if not self._in_call.acquire(blocking=False):
            self.overlaps += 1
            return
        try:
            self.entered.set()
            self.threads.add(threading.get_ident())
            assert self.go.wait(LIMIT), "never let go"
            with self._changed:
                self.after_end += self.ended.is_set()
                self.values.append(value)
                self._changed.notify_all()
        finally:
            self._in_call.release()

    def on_error(self, error: Exception) -> None:
        self.error = error
        self.errors += 1
        self.ended.set()
        with self._changed:
            self._changed.notify_all()

    def on_completed(self) -> None:
        self.completed += 1
        self.ended.set()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[Any]:
        """Return the values once there are `count`."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.values) >= count, LIMIT), f"{self.values} of {count}"
            return list(self.values)

    def wait(self) -> list[Any]:
        """Return the values once the stream has ended."""
        assert self.ended.wait(LIMIT), f"no end after {self.values[-3:]}"
        return list(self.values)


class Reports(logging.Handler):
    """What is reported while in `with`."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._some = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self._some.set()

    def wait(self) -> None:
        """Wait for the first report."""
        assert self._some.wait(LIMIT), "nothing was reported"

    def __enter__(self) -> Reports:
        logging.getLogger("rxtasks").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("rxtasks").removeHandler(self)


class Post:
    """A GUI's loop by hand: what was posted runs when `run` is called."""

    def __init__(self) -> None:
        self.posted: list[Callable[[], None]] = []

    def __call__(self, call: Callable[[], None]) -> None:
        self.posted.append(call)

    def run(self) -> int:
        """Run what was posted until nothing is; return how many calls that were."""
        count = 0
        while self.posted:
            self.posted.pop(0)()
            count += 1
        return count


def in_thread(run: Callable[[], Any], name: str = "test") -> threading.Thread:
    """Run `run` on a daemon thread."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def feeding(
    source: abc.ObserverBase[Any],
    values: Iterable[Any],
    *,
    complete: bool = False,
    through: threading.Event | None = None,
) -> threading.Thread:
    """Emit `values` on a thread of its own; then complete if asked, and set `through`."""

    def run() -> None:
        for value in values:
            source.on_next(value)
        if complete:
            source.on_completed()
        if through is not None:
            through.set()

    return in_thread(run)


def joined(threads: Iterable[threading.Thread]) -> None:
    """Wait for threads to end."""
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), thread


class NewThreads:
    """The threads that were started since it was made."""

    def __init__(self) -> None:
        self._before = set(threading.enumerate())

    def there(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in self._before]

    def join(self) -> None:
        """Wait until they have ended."""
        joined(self.there())


def log(seq: int = 1, level: str = "INFO", task: str = "t1") -> LogEvent:
    return LogEvent(task, seq, 1, "w1", NOW, level, f"line {seq}")


def status(word: TaskStatus = TaskStatus.RUNNING, seq: int = 1, task: str = "t1") -> StatusEvent:
    return StatusEvent(task, seq, 1, "w1", NOW, word)


def step(seq: int = 1, task: str = "t1", current: float = 1) -> ProgressEvent:
    return ProgressEvent(task, seq, 1, "w1", NOW, current)


def output(seq: int = 1, task: str = "t1") -> OutputEvent:
    return OutputEvent(task, seq, 1, "w1", NOW, seq)


def every_kind() -> list[TaskEvent]:
    return [
        status(TaskStatus.RUNNING, 1),
        log(2, "DEBUG"),
        log(3, "WARNING"),
        step(4),
        output(5),
        status(TaskStatus.RETRYING, 6),
        status(TaskStatus.RUNNING, 7),
        log(8, "ERROR"),
        status(TaskStatus.SUCCEEDED, 9),
    ]
